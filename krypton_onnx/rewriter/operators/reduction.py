"""Reductions: over the whole frame by a running sum, exact (GlobalAveragePool, ReduceMean, ReduceSum); over channels as
they are, cell by cell."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.functions import FunctionText

_GLOBAL_AVERAGE_POOL = """
IncrementalGlobalAveragePool (patch, patch_origin, view) => (out) {
  zero = Constant <value_int = 0> ()
  spatial = Constant <value_ints = [1, 2]> ()
  frame = Shape <start = 1, end = 3> (view)
  extent = Shape <start = 1, end = 3> (patch)
  empty_size = Constant <value_ints = [1, 0, 0]> ()
  channels = Shape <start = 3, end = 4> (view)
  none_shape = Concat <axis = 0> (empty_size, channels)
  float_zero = Constant <value_float = 0.0> ()
  none = Expand (float_zero, none_shape)
  old = ai.krypton.Window <pad_value = 0.0> (none, patch_origin, view, patch_origin, extent)
  change = Sub (patch, old)
  change_sum = ReduceSum <keepdims = 1> (change, spatial)
  view_sum = ReduceSum <keepdims = 1> (view, spatial)
  sum = Add (view_sum, change_sum)
  cells = ReduceProd <keepdims = 0> (frame)
  cells_float = Cast <to = 1> (cells)
  mean = Div (sum, cells_float)
  out = Transpose <perm = [0, 3, 1, 2]> (mean)
}"""

CHANNEL_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


def rewrite_global_average_pool(node: gs.Node, operands: list, emitter: Emitter) -> gs.Variable:
    """A running sum, exact: the view's sum, less its sum in the region, plus the patch's."""
    patch = operands[0]
    if patch.layout != "NCHW":
        raise NotIncremental("it reads channels as an axis of space")
    return emitter.emit("IncrementalGlobalAveragePool", node.name, emitter.read(patch), {})


def rewrite_reduction(node: gs.Node, operands: list, emitter: Emitter) -> Patch | gs.Variable:
    """Over channels, keeping their axis (as layer norms are written out); ReduceMean and ReduceSum also over height and
    width, by a running sum."""
    patch = operands[0]
    if not isinstance(patch, Patch):
        raise NotIncremental("its axes depend on the image")
    channel, space = (1, [2, 3]) if patch.layout == "NCHW" else (3, [1, 2])
    axes = _axes(node)
    if axes == [channel]:
        return _over_channels(node, patch, emitter)
    if axes != space or node.op not in ("ReduceMean", "ReduceSum"):
        raise NotIncremental("it reduces other axes than height and width, or mixes all cells of the frame")
    mean = emitter.emit("IncrementalGlobalAveragePool", f"{node.name}/mean", emitter.read(patch), {})
    if node.op == "ReduceSum":
        cells = emitter.constant(f"{node.name}/cells", np.array(np.prod(patch.geometry.frame), np.float32))
        mean = emitter.emit("Mul", node.name, [mean, cells], {}, domain=None)
    if not node.attrs.get("keepdims", 1):
        return emitter.emit("Flatten", f"{node.name}/flat", [mean], {"axis": 1}, domain=None)
    if patch.layout == "NHWC":
        return emitter.emit("Transpose", f"{node.name}/nhwc", [mean], {"perm": [0, 2, 3, 1]}, domain=None)
    return mean


def _over_channels(node: gs.Node, patch: Patch, emitter: Emitter) -> Patch:
    if not node.attrs.get("keepdims", 1):
        raise NotIncremental("it drops the axis of the channels")
    emitter.frame(node.outputs[0], patch.layout)
    inputs: list[gs.Tensor] = [patch.tensor]
    attributes: dict[str, object] = {"keepdims": 1}
    if "axes" in node.attrs:  # before opset 18 an attribute, ReduceSum's before 13
        attributes["axes"] = [3]
    else:
        inputs.append(emitter.constant(f"{node.name}/axes", np.array([3], np.int64)))
    tensor = emitter.emit(node.op, node.name, inputs, attributes, domain=None)
    return Patch(tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)


def _axes(node: gs.Node) -> list[int]:
    """Axes that a reduction of a tensor of rank 4 names, in order; [] where it names none that are constant."""
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        axes = np.asarray(node.inputs[1].values).ravel()
    return sorted(int(axis) % 4 for axis in axes) if axes is not None else []


FUNCTIONS = (FunctionText("IncrementalGlobalAveragePool", _GLOBAL_AVERAGE_POOL),)
HANDLERS = {"GlobalAveragePool": rewrite_global_average_pool, **dict.fromkeys(CHANNEL_REDUCTIONS, rewrite_reduction)}
