"""What ONNX Runtime itself says of a graph: its BASIC optimization and its shapes. No inference is run.

Frame sizes come from here, not from onnx.shape_inference: the two differ (ceil_mode of pools, run-time pads).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

import onnx

from krypton_onnx.rewriter import weights
from krypton_onnx.rewriter.ort_sessions import open_for_types, open_session, quiet_options
from krypton_onnx.rewriter.soundness import check_sizes

MAX_IR_VERSION = 13  # the newest that ONNX Runtime 1.31 loads
MAX_OPSET = 26

# It makes Reshape and Gemm of a MatMul of more than two axes, which hides both its channels and its batch.
_LEFT_OUT = ("MatMulAddFusion",)

TensorType = tuple[str, tuple[int | str | None, ...]]  # ("tensor(float)", shape; an unknown dimension is str or None)


def known_dims(shape: tuple[int | str | None, ...]) -> tuple[int, ...] | None:
    """The shape where every dimension is known, else None."""
    dims = tuple(dim for dim in shape if isinstance(dim, int) and dim >= 0)
    return dims if len(dims) == len(shape) else None


def basic_optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model after ONNX Runtime's BASIC optimization: constants folded, batch norm fused, still standard ONNX.

    Written to the temporary folder and read again; raises ModelError where it does not fit there.
    """
    options = quiet_options("ORT_ENABLE_BASIC")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = path = os.path.join(folder, "basic.onnx")
        if weights.is_large(model):
            entry = "session.optimized_model_external_initializers_"
            options.add_session_config_entry(f"{entry}file_name", "basic.weights")
            options.add_session_config_entry(f"{entry}min_size_in_bytes", str(weights.WEIGHT_BYTES))
        open_session(model, options, without=_LEFT_OUT)
        optimized = onnx.load(path)
    used = {node.domain for node in optimized.graph.node} | {""}
    kept = [opset for opset in optimized.opset_import if opset.domain in used]
    del optimized.opset_import[:]
    optimized.opset_import.extend(kept)
    return optimized


def tensor_types(model: onnx.ModelProto) -> Mapping[str, TensorType]:
    """Element type and shape of every tensor, as ONNX Runtime infers them when it loads the graph.

    Raises ModelError where one is larger than the memory of this machine.
    """
    probe, apart = weights.without_weights(model)
    # What the model says of its own outputs may be wrong, and was inferred before normalization changed it.
    results = [value.name for value in probe.graph.output]
    del probe.graph.output[:], probe.graph.value_info[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
    known = {*results, *(value.name for value in probe.graph.input)}
    for node in probe.graph.node:
        for name in node.output:
            if name and name not in known:
                probe.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
    session = open_for_types(probe, apart)
    types = {arg.name: (arg.type, tuple(arg.shape)) for arg in session.get_inputs() + session.get_outputs()}
    check_sizes(types)
    return types


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default ONNX domain that the model imports."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 1)

