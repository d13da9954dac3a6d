"""What every command shares: errors in one line, progress on standard error."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

from krypton_onnx.errors import KryptonError, one_line

if TYPE_CHECKING:
    from krypton_onnx.images.preparation import Preparation

UNEXPECTED = "an error of krypton-onnx itself"
INTERRUPTED = 130  # the exit code of what Ctrl-C ended, by convention
TRACEBACK = "KRYPTON_ONNX_TRACEBACK"  # set in the environment, an unexpected error shows where it came from


class OneLineErrors(TyperGroup):
    """The group of commands; what is the user's to mend becomes one line on stderr and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            # Outside a progress bar a warning is a line too, without the line of source that Python adds.
            warnings.showwarning = lambda message, *_, **__: show_warning(message)
            try:
                result = super().invoke(ctx)
                sys.stdout.flush()  # a full disk shows now, while it can be told
                return result
            except Exception as error:
                # Typer's own ways to end have an exit code; on a broken pipe, where who reads has enough, it is quiet.
                if hasattr(error, "exit_code") or isinstance(error, (typer.Abort, BrokenPipeError)):
                    _suggest(error)
                    raise
                if _is_interrupted(error):
                    raise KeyboardInterrupt from error
                message = in_one_line(error)
                if message is None:
                    raise
        show_error(message)
        raise typer.Exit(1)


def _suggest(error: Any) -> None:
    """Say what may have been meant by a word that is none of an option's."""
    choice = re.search(r"'([^']*)' is not one of ('[^']*'(?:, '[^']*')*)\.?$", str(getattr(error, "message", "")))
    if choice is not None:
        from krypton_onnx.values import meant

        word, words = choice[1], re.findall("'([^']*)'", choice[2])
        error.message = f"{word!r} is not one of {', '.join(words)}{meant(word.lower(), words)}"


def _is_interrupted(error: BaseException | None) -> bool:
    """True where Ctrl-C is behind it: a native module whose import it stops says that its initialization failed."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def in_one_line(error: Exception) -> str | None:
    """What to tell of an error; None where a traceback was asked for.

    A package of an extra may not be installed; all else that is not raised on purpose is a mistake of ours.
    """
    if isinstance(error, KryptonError):
        return one_line(error)
    ours = isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("krypton_onnx")
    if isinstance(error, ImportError) and not ours:
        return one_line(error)
    if isinstance(error, MemoryError):
        return f"there is not enough memory {f'({one_line(error)})' if str(error) else ''}".rstrip()
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror)
    if os.environ.get(TRACEBACK):
        return None
    return f"{UNEXPECTED} ({type(error).__name__}: {one_line(error)[:300]}); please report it, with {TRACEBACK}=1 set"


def error_line(message: str) -> str:
    """As it is told."""
    return f"krypton-onnx: error: {one_line(message)}"


def warning_line(message: Warning | str) -> str:
    """As it is told."""
    return f"krypton-onnx: warning: {one_line(str(message))}"


def show_error(message: str) -> None:
    """One line on stderr."""
    # Not through Rich, which would wrap the line and colour parts of it.
    typer.echo(error_line(message), err=True)


def show_warning(message: Warning | str) -> None:
    """One line on stderr."""
    typer.echo(warning_line(message), err=True)  # not through Rich, as errors


def misuse(option: str, message: str) -> NoReturn:
    """Exit with code 2: `option` was given a value that no model and no image could make right."""
    raise typer.BadParameter(message, param_hint=option)


def sizes(values: Sequence[int] | None) -> str:
    """(1, 3, 227, 227) as "1 x 3 x 227 x 227"; nothing for None."""
    return "" if values is None else " x ".join(map(str, values))


def ends(reasons: Sequence[str]) -> list[str]:
    """Lines that say where and why the incremental part of a model ends."""
    return ["the incremental part ends at", *(f"  {reason}" for reason in reasons)] if reasons else []


def stored(preparation: Preparation | None, labels: Sequence[str] | None) -> list[str]:
    """Lines that say what of pictures and classes is stored in a model."""
    lines = [] if preparation is None else [f"stored, how the model wants its image: {preparation.describe()}"]
    if labels:
        lines.append(f"stored, the names of {len(labels)} classes, {labels[0]!r} to {labels[-1]!r}")
    return lines
