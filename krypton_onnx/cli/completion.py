"""What the shell is offered for values that are words: classes, execution providers.

Never raises and never prints: whatever is wrong will be told when the command runs.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import typer

MOST = 50  # of the names of classes
LARGEST_MODEL = 256 << 20  # bytes; reading more would keep the shell waiting


def class_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of classes: of --labels, else of those stored in the model, as far as they are typed before.

    The first of several names, with _ for a space, which `find_class` understands: no shell needs quotes around that.
    """
    with suppress(Exception):
        labels = context.params.get("labels")
        names = _from_file(labels) if labels is not None else _from_model(_model(context))
        words = dict.fromkeys("_".join(name.split(",")[0].split()) for name in names)
        return [word for word in words if word.startswith(incomplete) and re.fullmatch(r"[\w.-]+", word)][:MOST]
    return []


def provider_names(incomplete: str) -> list[str]:
    """The execution providers of this ONNX Runtime, after a comma too."""
    with suppress(Exception):
        import onnxruntime

        before, comma, _ = incomplete.rpartition(",")
        names = (name.removesuffix("ExecutionProvider").lower() for name in onnxruntime.get_available_providers())
        return [f"{before}{comma}{name}" for name in (*names, *(() if comma else ("auto",)))]
    return []


def _model(context: typer.Context) -> object:
    """The argument MODEL. While the value of an option is typed, arguments are not assigned yet."""
    return context.params.get("model") or next((word for word in context.args if word.endswith(".onnx")), None)


def _from_file(path: object) -> tuple[str, ...]:
    from krypton_onnx.labels import read_labels

    return read_labels(str(path))


def _from_model(path: object) -> tuple[str, ...]:
    if path is None or Path(str(path)).stat().st_size > LARGEST_MODEL:
        return ()
    import onnx

    from krypton_onnx.runtime.preparing import stored_labels

    return stored_labels(onnx.load(str(path), load_external_data=False)) or ()
