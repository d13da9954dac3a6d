"""What ONNX Runtime itself says of a graph: its BASIC optimization and its shapes. No inference is run.

Frame sizes come from here, not from onnx.shape_inference: the two differ (ceil_mode of pools, run-time pads).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

import onnx
import onnxruntime as ort

from krypton_onnx.errors import ModelError, one_line

MAX_IR_VERSION = 13  # the newest that ONNX Runtime 1.31 loads
MAX_OPSET = 26

TensorType = tuple[str, tuple[int | str | None, ...]]  # ("tensor(float)", shape; an unknown dimension is str or None)


def known_dims(shape: tuple[int | str | None, ...]) -> tuple[int, ...] | None:
    """The shape where every dimension is known, else None."""
    dims = tuple(dim for dim in shape if isinstance(dim, int) and dim >= 0)
    return dims if len(dims) == len(shape) else None


def _session(model: onnx.ModelProto, level: str, optimized: str | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # no pool for a session that never runs
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    if optimized is not None:
        options.optimized_model_filepath = optimized
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"ONNX Runtime cannot load the model: {one_line(error)}") from None


def basic_optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after ONNX Runtime's BASIC optimization: constants folded, batch norm fused, still standard ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "basic.onnx")
        _session(model, "ORT_ENABLE_BASIC", path)
        optimized = onnx.load(path)
    used = {node.domain for node in optimized.graph.node} | {""}
    kept = [opset for opset in optimized.opset_import if opset.domain in used]
    del optimized.opset_import[:]
    optimized.opset_import.extend(kept)
    return optimized


def tensor_types(model: onnx.ModelProto) -> Mapping[str, TensorType]:
    """Element type and shape of every tensor, as ONNX Runtime infers them when it loads the graph."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {value.name for value in list(probe.graph.output) + list(probe.graph.input)}
    del probe.graph.value_info[:]
    for node in probe.graph.node:
        for name in node.output:
            if name and name not in known:
                probe.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
    session = _session(probe, "ORT_DISABLE_ALL")
    return {arg.name: (arg.type, tuple(arg.shape)) for arg in session.get_inputs() + session.get_outputs()}


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default ONNX domain that the model imports."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 1)

