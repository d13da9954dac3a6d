"""MaxPool, AveragePool and LpPool: local."""

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

_LP_POOL = (
    """
IncrementalLpPool <kernel_shape, strides, pads, dilations, p>
    (patch, patch_origin, view, origin, extent) => (out) {"""
    + READ_ROWS
    + """
  window = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, read_origin, read_extent)
  x = Transpose <perm = [0, 3, 1, 2]> (window)
  y = LpPool <kernel_shape : ints = @kernel_shape, strides : ints = @strides, dilations : ints = @dilations,
              p : int = @p> (x)
  out = Transpose <perm = [0, 2, 3, 1]> (y)
}"""
)

FUNCTIONS = (
    FunctionText("IncrementalMaxPool", _MAX_POOL),
    FunctionText("IncrementalAveragePool", _AVERAGE_POOL),
    FunctionText("IncrementalLpPool", _LP_POOL),
)


def _attributes(node: gs.Node) -> dict:
    if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        raise NotIncremental("its auto_pad skips cells instead of padding")
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
    """Any kernel, strides, pads, dilations and ceil_mode. Raises NotIncremental where its indices are used."""
    patch = operands[0]
    _require_nchw(patch)
    if len(node.outputs) > 1 and emitter.is_read(node.outputs[1]):
        raise NotIncremental("its indices are used")
    attributes = _attributes(node)
    geometry = _through(patch, attributes, node, emitter)
    inputs = [*emitter.read(patch), emitter.origin(geometry), emitter.extent(geometry)]
    return Patch(emitter.emit("IncrementalMaxPool", node.name, inputs, attributes), geometry, node.outputs[0], "NCHW")


def rewrite_average_pool(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Any kernel, strides, pads, ceil_mode and count_include_pad; dilated ones as a convolution (passes)."""
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


def rewrite_lp_pool(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Any p, kernel, strides, pads, dilations and ceil_mode."""
    patch = operands[0]
    _require_nchw(patch)
    attributes = _attributes(node)
    geometry = _through(patch, attributes, node, emitter)
    inputs = [*emitter.read(patch), emitter.origin(geometry), emitter.extent(geometry)]
    attributes["p"] = int(node.attrs.get("p", 2))
    return Patch(emitter.emit("IncrementalLpPool", node.name, inputs, attributes), geometry, node.outputs[0], "NCHW")


def _through(patch: Patch, attributes: dict, node: gs.Node, emitter: Emitter) -> Geometry:
    frame = emitter.frame(node.outputs[0], "NCHW")
    return patch.geometry.through(
        attributes["kernel_shape"], attributes["strides"], attributes["pads"], attributes["dilations"], frame
    )


HANDLERS = {
    "LpPool": rewrite_lp_pool,
    "MaxPool": rewrite_max_pool,
    "AveragePool": rewrite_average_pool,
}
