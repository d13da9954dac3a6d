"""Writing a model: one file, or two where it is too large for one, and never half of it."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.rewriter import weights


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write a model to `path`, and the weights of a large one to a second file beside it, of a name never used before.

    The second file is written first, and nobody reads it until `path` is replaced, which names it: at any moment there
    is the old model or the new one, whole. The weights of the old one go last. Raises KryptonError where a file cannot
    be written; then both are as they were.
    """
    target = require_writable(path)
    before = _weights_of(target)
    name = f"{target.name}.{secrets.token_hex(6)}.weights"
    beside = target.with_name(name)
    try:
        with atomic_write(target) as temporary:
            weights.save(model, temporary, name)
    except BaseException:
        if beside.exists() and beside not in _weights_of(target):  # Ctrl-C may come when all is done
            beside.unlink()
        raise
    for old in before:
        with suppress(OSError):
            old.unlink()


def _weights_of(target: Path) -> set[Path]:
    """The files beside it that `write_model` wrote for it and that it names."""
    ours = re.compile(re.escape(target.name) + r"\.[0-9a-f]{12}\.weights")
    found = {path for path in target.parent.iterdir() if ours.fullmatch(path.name)}
    if not found or not target.is_file():
        return set()
    try:
        model = onnx.load(str(target), format="protobuf", load_external_data=False)
    except (DecodeError, OSError):
        return set()
    named = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    return {path for path in found if path.name in named}
