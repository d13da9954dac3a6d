"""What every command shares: errors in one line, progress on standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from krypton_onnx.errors import KryptonError, one_line

UNEXPECTED = "an error of krypton-onnx itself"
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
                    raise
                if _is_interrupted(error):
                    raise KeyboardInterrupt from error
                message = _in_one_line(error)
                if message is None:
                    raise
        # Not through Rich, which would wrap the line and colour parts of it.
        typer.echo(f"krypton-onnx: error: {message}", err=True)
        raise typer.Exit(1)


def _is_interrupted(error: BaseException | None) -> bool:
    """True where Ctrl-C is behind it: a native module whose import it stops says that its initialization failed."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _in_one_line(error: Exception) -> str | None:
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


def show_warning(message: Warning | str) -> None:
    """One line on stderr."""
    # Not through Rich, as errors.
    typer.echo(f"krypton-onnx: warning: {one_line(str(message))}", err=True)


def misuse(option: str, message: str) -> NoReturn:
    """Exit with code 2: `option` was given a value that no model and no image could make right."""
    raise typer.BadParameter(message, param_hint=option)


def sizes(values: Sequence[int] | None) -> str:
    """(1, 3, 227, 227) as "1 x 3 x 227 x 227"; nothing for None."""
    return "" if values is None else " x ".join(map(str, values))


def ends(reasons: Sequence[str]) -> list[str]:
    """Lines that say where and why the incremental part of a model ends."""
    return ["the incremental part ends at", *(f"  {reason}" for reason in reasons)] if reasons else []


@contextmanager
def progress_bar(label: str, quiet: bool = False, unit: str = "positions") -> Iterator[Callable[[int, int], None]]:
    """A callable(done, total) that draws a bar with what is done per second and the time left, while the block
    runs. Nothing is drawn when `quiet`, nor into a file or a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f} {unit}/s")

    columns = (
        label,
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    hidden = quiet or not sys.stderr.isatty()
    with warnings.catch_warnings(record=True) as caught:  # they would break the bar: they are shown after it
        warnings.simplefilter("always", UserWarning)
        try:
            with Progress(*columns, console=Console(stderr=True), disable=hidden) as progress:
                task = progress.add_task(label, total=None)
                yield lambda done, total: progress.update(task, completed=done, total=total)
        finally:
            for warning in [] if quiet else caught:
                show_warning(warning.message)
