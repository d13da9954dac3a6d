"""Import an ONNX model from a path, bytes or a ModelProto, with one clear error line for what is not one."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from krypton_onnx.errors import ModelError, one_line
from krypton_onnx.rewriter.soundness import check_sound
from krypton_onnx.rewriter.weights import copy_of

Source = str | os.PathLike[str] | bytes | onnx.ModelProto


def load_model(source: Source) -> onnx.ModelProto:
    """The model as a ModelProto of its own (external data of a path is read too).

    Raises ModelError where there is no such file, it is not an ONNX model, or reading it would be unsafe.
    """
    if isinstance(source, onnx.ModelProto):
        return _checked(copy_of(source), "the ModelProto")
    if isinstance(source, (bytes, bytearray)):
        try:
            return _checked(onnx.load_model_from_string(bytes(source)), "the bytes")
        except DecodeError:
            raise ModelError("the bytes given are not an ONNX model: pass the content of a .onnx file") from None
    path = _regular_file(source)
    try:
        # Protobuf whatever the suffix: onnx chooses other parsers by it, and no other program does.
        model = onnx.load(str(path), format="protobuf")
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX model (it does not parse as one)") from None
    except (OSError, ValueError, OverflowError, MemoryError, onnx.checker.ValidationError) as error:
        # ValueError is what onnx says of external data of impossible place or length.
        reason = one_line(error) or "it does not fit into memory"
        raise ModelError(f"{path}: cannot be read: {reason}") from None
    return _checked(model, str(path))


def _regular_file(source: object) -> Path:
    """Raises ModelError where it is none: to open a pipe would wait for ever, and a device may have no end."""
    try:
        path = Path(source)  # type: ignore[arg-type]
    except TypeError:
        kind = type(source).__name__
        raise ModelError(f"a model is a path, bytes or an onnx.ModelProto, not {kind}") from None
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise ModelError(f"{path}: is a folder; give the path of an ONNX model")
        if path.exists():
            raise ModelError(f"{path}: is not a regular file; give the path of an ONNX model")
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{str(path)[:200]}: cannot be read: {one_line(error)[:200]}") from None
    raise ModelError(f"{path}: no such file; give the path of an ONNX model")


def _checked(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    # Any short file parses as some protobuf message, so an empty graph is what a wrong file looks like.
    if not model.graph.node or not model.graph.output or model.ir_version == 0:
        raise ModelError(f"{where}: not an ONNX model (its graph has no nodes or no outputs)")
    check_sound(model, where)
    return model
