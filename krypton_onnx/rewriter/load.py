"""Import an ONNX model from a path, bytes or a ModelProto, with one clear error line for what is not one."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from krypton_onnx.errors import ModelError, one_line

Source = str | os.PathLike[str] | bytes | onnx.ModelProto


def load_model(source: Source) -> onnx.ModelProto:
    """The model as a ModelProto of its own (external data of a path is read too).

    Raises ModelError where there is no such file, or it is not an ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return _checked(copy, "the ModelProto")
    if isinstance(source, (bytes, bytearray)):
        try:
            return _checked(onnx.load_model_from_string(bytes(source)), "the bytes")
        except DecodeError:
            raise ModelError("the bytes given are not an ONNX model: pass the content of a .onnx file") from None
    path = Path(source)
    if not path.exists():
        raise ModelError(f"{path}: no such file; give the path of an ONNX model")
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; give the path of an ONNX model")
    try:
        model = onnx.load(str(path))
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX model (it does not parse as one)") from None
    except (OSError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{path}: cannot be read: {one_line(error)}") from None
    return _checked(model, str(path))


def _checked(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    # Any short file parses as some protobuf message, so an empty graph is what a wrong file looks like.
    if not model.graph.node or not model.graph.output or model.ir_version == 0:
        raise ModelError(f"{where}: not an ONNX model (its graph has no nodes or no outputs)")
    return model
