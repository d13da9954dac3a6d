"""MaxPool and AveragePool: local. GlobalAveragePool and ReduceMean over the frame: a running sum, exact."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.rewriter.operators.window import READ_ROWS

_MAX_POOL = (
    """
IncrementalMaxPool <kernel_shape, strides, pads, dilations> (patch, patch_origin, view, origin, extent) => (out) {"""
    + READ_ROWS
    + """
  window = ai.krypton.Window <pad_value = -3.4028234663852886e38>
      (patch, patch_origin, view, read_origin, read_extent)
  x = Transpose <perm = [0, 3, 1, 2]> (window)
  y = MaxPool <kernel_shape : ints = @kernel_shape, strides : ints = @strides, dilations : ints = @dilations> (x)
  out = Transpose <perm = [0, 2, 3, 1]> (y)
}"""
)

# The sum of a window is its mean times its cells; what it is divided by is a count per output cell of the frame.
# (AveragePool has dilations as of opset 19 only, so the rule refuses them.)
_AVERAGE_POOL = (
    """
IncrementalAveragePool <kernel_shape, strides, pads, dilations>
    (patch, patch_origin, view, counts_y, counts_x, origin, extent) => (out) {"""
    + READ_ROWS
    + """
  window = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, read_origin, read_extent)
  x = Transpose <perm = [0, 3, 1, 2]> (window)
  mean = AveragePool <kernel_shape : ints = @kernel_shape, strides : ints = @strides> (x)
  mean_last = Transpose <perm = [0, 2, 3, 1]> (mean)
  cells = ReduceProd <keepdims = 0> (kernel)
  cells_float = Cast <to = 1> (cells)
  sum = Mul (mean_last, cells_float)
  zero = Constant <value_int = 0> ()
  row_axes = Constant <value_ints = [2, 3]> ()
  column_axes = Constant <value_ints = [1, 3]> ()
  extent_y, extent_x = Split <axis = 0, num_outputs = 2> (extent)
  origin_y, origin_x = Split <axis = 1, num_outputs = 2> (origin)
  rows_y = Squeeze (extent_y)
  columns_x = Squeeze (extent_x)
  range_y = Range (zero, rows_y, read_one)
  range_x = Range (zero, columns_x, read_one)
  cell_y = Add (origin_y, range_y)
  cell_x = Add (origin_x, range_x)
  count_y = Gather <axis = 0> (counts_y, cell_y)
  count_x = Gather <axis = 0> (counts_x, cell_x)
  rows = Unsqueeze (count_y, row_axes)
  columns = Unsqueeze (count_x, column_axes)
  count = Mul (rows, columns)
  out = Div (sum, count)
}"""
)

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

FUNCTIONS = (
    FunctionText("IncrementalMaxPool", _MAX_POOL),
    FunctionText("IncrementalAveragePool", _AVERAGE_POOL),
    FunctionText("IncrementalGlobalAveragePool", _GLOBAL_AVERAGE_POOL),
)


def _attributes(node: gs.Node) -> dict:
    kernel = list(node.attrs["kernel_shape"])
    attributes = {
        "kernel_shape": kernel,
        "strides": list(node.attrs.get("strides", [1] * len(kernel))),
        "pads": list(node.attrs.get("pads", [0] * 2 * len(kernel))),
        "dilations": list(node.attrs.get("dilations", [1] * len(kernel))),
    }
    if min(attributes["pads"]) < 0:
        raise NotIncremental("it has negative pads")
    return attributes


def _require_nchw(patch: Patch) -> None:
    if patch.layout != "NCHW":
        raise NotIncremental("it reads channels as an axis of space")


def rewrite_max_pool(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """MaxPool; ceil_mode only shapes the frame. Raises NotIncremental where its indices are used."""
    patch = operands[0]
    _require_nchw(patch)
    if len(node.outputs) > 1 and node.outputs[1].outputs:
        raise NotIncremental("its indices are used")
    attributes = _attributes(node)
    geometry = _through(patch, attributes, node, emitter)
    inputs = [*emitter.read(patch), emitter.origin(geometry), emitter.extent(geometry)]
    return Patch(emitter.emit("IncrementalMaxPool", node.name, inputs, attributes), geometry, node.outputs[0], "NCHW")


def rewrite_average_pool(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """AveragePool with any pads, ceil_mode and count_include_pad."""
    patch = operands[0]
    _require_nchw(patch)
    attributes = _attributes(node)
    if attributes["dilations"] != [1, 1]:
        raise NotIncremental("dilated average pooling has no incremental form in this version")
    geometry = _through(patch, attributes, node, emitter)
    include = bool(node.attrs.get("count_include_pad", 0))
    counts = []
    for axis, name in enumerate("yx"):
        values = window_counts(
            patch.geometry.frame[axis], geometry.frame[axis], attributes["kernel_shape"][axis],
            attributes["strides"][axis], attributes["pads"][axis], attributes["pads"][axis + 2], include,
        )  # fmt: skip
        counts.append(emitter.constant(f"{node.name}/counts_{name}", values))
    inputs = [*emitter.read(patch), *counts, emitter.origin(geometry), emitter.extent(geometry)]
    tensor = emitter.emit("IncrementalAveragePool", node.name, inputs, attributes)
    return Patch(tensor, geometry, node.outputs[0], "NCHW")


def window_counts(size: int, outputs: int, kernel: int, stride: int, begin: int, end: int, include: bool) -> np.ndarray:
    """float32 (outputs,): cells of each window that count along one axis (pads count where `include`)."""
    starts = np.arange(outputs) * stride - begin
    low, high = (-begin, size + end) if include else (0, size)
    counts = np.minimum(starts + kernel, high) - np.maximum(starts, low)
    return np.maximum(counts, 1).astype(np.float32)


def rewrite_global_average_pool(node: gs.Node, operands: list, emitter: Emitter) -> gs.Variable:
    """GlobalAveragePool, or ReduceMean over both axes of space: view sum + patch sum - old region's sum."""
    patch = operands[0]
    if not isinstance(patch, Patch):
        raise NotIncremental("its axes depend on the image")
    keepdims = True
    if node.op == "ReduceMean":
        spatial = (2, 3) if patch.layout == "NCHW" else (1, 2)
        if sorted(axis % 4 for axis in _reduce_axes(node)) != list(spatial):
            raise NotIncremental("it averages over other axes than height and width")
        keepdims = bool(node.attrs.get("keepdims", 1))
    else:
        _require_nchw(patch)
    mean = emitter.emit("IncrementalGlobalAveragePool", node.name, emitter.read(patch), {})
    if not keepdims:
        return emitter.emit("Flatten", f"{node.name}/flat", [mean], {"axis": 1}, domain=None)
    if patch.layout == "NHWC":
        return emitter.emit("Transpose", f"{node.name}/nhwc", [mean], {"perm": [0, 2, 3, 1]}, domain=None)
    return mean


def _reduce_axes(node: gs.Node) -> list[int]:
    if "axes" in node.attrs:
        return [int(axis) for axis in node.attrs["axes"]]
    if len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        return [int(axis) for axis in np.asarray(node.inputs[1].values).ravel()]
    return []


def _through(patch: Patch, attributes: dict, node: gs.Node, emitter: Emitter) -> Geometry:
    frame = emitter.frame(node.outputs[0], "NCHW")
    return patch.geometry.through(
        attributes["kernel_shape"], attributes["strides"], attributes["pads"], attributes["dilations"], frame
    )


HANDLERS = {
    "MaxPool": rewrite_max_pool,
    "AveragePool": rewrite_average_pool,
    "GlobalAveragePool": rewrite_global_average_pool,
    "ReduceMean": rewrite_global_average_pool,
}
