"""What tells one model file from another: the SHA-256 of all its bytes, weights that lie beside it included."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from krypton_onnx.errors import ModelError


def model_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 as hexadecimal digits: of the file, as `sha256sum` prints it, where all weights are inside; else of the
    file followed by those that hold the others, by name.

    Raises ModelError where the file cannot be read or is not an ONNX model. A file of weights that is missing, or
    lies outside the model's folder, does not count: loading the model refuses it.
    """
    path = Path(path)
    digest = hashlib.sha256()
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise ModelError(f"{path}: is not a regular file; give the path of an ONNX model")
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
        for part in (path, *_beside(path.parent, model)):
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; give the path of an ONNX model") from None
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX model (it does not parse as one)") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def _beside(folder: Path, model: onnx.ModelProto) -> list[Path]:
    """The files of weights beside a model, in the order of their names."""
    names = {ExternalDataInfo(tensor).location for tensor in _tensors(model.graph) if uses_external_data(tensor)}
    root = folder.resolve()
    files = [(root / name).resolve() for name in sorted(names)]
    return [file for file in files if file.is_relative_to(root) and file.is_file()]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)
