"""Resize, and what Pad, Slice and Gather do in space: every output cell is a weighted sum of a few input cells.

All of them are separable, so a table an axis describes them: the input rows of every output row, with weights. ONNX
Runtime itself tells what a Resize does (its coordinate transformations and their rounding), by resizing the identity.
Where every output cell copies one input cell, or a constant, the operator is a Remap; else an IncrementalResample.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.evaluate import EvaluationError, evaluated
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.geometry import AxisReads

_IDENTITY_LIMIT = 4096  # cells along one axis of a Resize's input: its identity has the square of that

# rows and columns list, for every output cell, its taps one after another.
_RESAMPLE = """
IncrementalResample (patch, patch_origin, view, rows, columns, row_weights, column_weights, origin, extent) => (out) {
  zero = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  same = Constant <value_ints = [0]> ()
  rest = Constant <value_ints = [-1]> ()
  taps_y = Shape <start = 1, end = 2> (row_weights)
  taps_x = Shape <start = 1, end = 2> (column_weights)
  taps = Concat <axis = 0> (taps_y, taps_x)
  read_origin = Mul (origin, taps)
  read_extent = Mul (extent, taps)
  cells = ai.krypton.Remap <pad_value = 0.0> (patch, patch_origin, view, rows, columns, read_origin, read_extent)
  extent_y, extent_x = Split <axis = 0, num_outputs = 2> (extent)
  origin_y, origin_x = Split <axis = 1, num_outputs = 2> (origin)
  read_y, read_x = Split <axis = 0, num_outputs = 2> (read_extent)
  count_y = Squeeze (extent_y)
  count_x = Squeeze (extent_x)
  range_y = Range (zero, count_y, one)
  range_x = Range (zero, count_x, one)
  own_y = Add (origin_y, range_y)
  own_x = Add (origin_x, range_x)
  weights_y = Gather <axis = 0> (row_weights, own_y)
  weights_x = Gather <axis = 0> (column_weights, own_x)
  axes_y = Constant <value_ints = [3, 4]> ()
  axes_x = Constant <value_ints = [1, 4]> ()
  each_y = Unsqueeze (weights_y, axes_y)
  each_x = Unsqueeze (weights_x, axes_x)
  by_column = Concat <axis = 0> (same, read_y, extent_x, taps_x, rest)
  cells_x = Reshape (cells, by_column)
  weighted_x = Mul (cells_x, each_x)
  tap_axis_x = Constant <value_ints = [3]> ()
  columns_done = ReduceSum <keepdims = 0> (weighted_x, tap_axis_x)
  by_row = Concat <axis = 0> (same, extent_y, taps_y, extent_x, rest)
  cells_y = Reshape (columns_done, by_row)
  weighted_y = Mul (cells_y, each_y)
  tap_axis_y = Constant <value_ints = [2]> ()
  out = ReduceSum <keepdims = 0> (weighted_y, tap_axis_y)
}"""


@dataclass(frozen=True)
class AxisTable:
    """One axis of a resampling operator. cells, weights: (outputs, taps); a cell of -1 holds the padding value."""

    cells: np.ndarray
    weights: np.ndarray
    step: Fraction

    @property
    def copies(self) -> bool:
        """True where every output cell holds exactly one input cell, or padding."""
        return self.cells.shape[1] == 1 and bool((self.weights == 1).all())

    def reads(self) -> AxisReads:
        """Which input cells an output cell reads."""
        read = (self.cells >= 0) & (self.weights != 0)
        first = np.where(read, self.cells, np.iinfo(np.int64).max >> 16).min(axis=1)
        last = np.where(read, self.cells, -1).max(axis=1)
        return AxisReads(first, last, (self.step.numerator, self.step.denominator))


def copying(cells: np.ndarray, step: int | Fraction = 1) -> AxisTable:
    """Output cell j holds input cell cells[j]; -1 is padding."""
    table = np.asarray(cells, np.int64).reshape(-1, 1)
    return AxisTable(table, np.ones(table.shape, np.float32), Fraction(step))


def from_matrix(matrix: np.ndarray) -> AxisTable:
    """Of weights (outputs, inputs)."""
    outputs, inputs = matrix.shape
    taps = max(1, int((matrix != 0).sum(axis=1).max(initial=1)))
    # The cells of nonzero weight first, in their order; what is left over has weight zero.
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]
    return AxisTable(order.astype(np.int64), np.take_along_axis(matrix, order, 1), _step(inputs, outputs))


def _step(inputs: int, outputs: int) -> Fraction:
    """Input cells per output cell: a whole ratio where rounding of sizes explains the difference.

    Any step is right; but branches can only meet where they come by the same one.
    """
    if outputs >= inputs:
        ratio = round(outputs / inputs)
        return Fraction(1, ratio) if abs(outputs - ratio * inputs) <= ratio else Fraction(inputs, outputs)
    ratio = round(inputs / outputs)
    return Fraction(ratio) if abs(inputs - ratio * outputs) <= ratio else Fraction(inputs, outputs)


def resampled(
    node: gs.Node, patch: Patch, tables: tuple[AxisTable, AxisTable], emitter: Emitter, pad_value: float = 0.0
) -> Patch:
    """The patch activation after a resampling operator described by its tables (rows, columns)."""
    if tuple(len(table.cells) for table in tables) != emitter.frame(node.outputs[0], patch.layout):
        raise NotIncremental("its output has another size than its tables say")  # never seen
    try:
        geometry = patch.geometry.resampled(tables[0].reads(), tables[1].reads())
    except ValueError as error:
        raise NotIncremental(f"it leads to {error}") from None
    inputs = emitter.read(patch)
    for name, table in zip(("rows", "columns"), tables, strict=True):
        inputs.append(emitter.constant(f"{node.name}/{name}", table.cells.ravel()))
    place = [emitter.origin(geometry), emitter.extent(geometry)]
    if all(table.copies for table in tables):
        tensor = emitter.emit("Remap", node.name, [*inputs, *place], {"pad_value": pad_value})
    else:
        weights = [
            emitter.constant(f"{node.name}/{name}", table.weights)
            for name, table in zip(("row_weights", "column_weights"), tables, strict=True)
        ]
        tensor = emitter.emit("IncrementalResample", node.name, [*inputs, *weights, *place], {})
    return Patch(tensor, geometry, node.outputs[0], patch.layout)


def rewrite_resize(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """In space, by scales or sizes, in every mode but tf_crop_and_resize. Raises NotIncremental for others."""
    patch = operands[0]
    if not isinstance(patch, Patch) or not all(
        isinstance(operand, gs.Constant) or operand.is_empty() for operand in node.inputs[1:]
    ):
        raise NotIncremental("its sizes are computed at run time")
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise NotIncremental("it crops a region of interest")
    frames = patch.geometry.frame, emitter.frame(node.outputs[0], patch.layout)
    channel = 1 if patch.layout == "NCHW" else 3
    if emitter.shape(node.inputs[0])[channel] != emitter.shape(node.outputs[0])[channel]:
        raise NotIncremental("it resizes channels")
    if max(frames[0]) > _IDENTITY_LIMIT:
        raise NotIncremental(f"its frame has more than {_IDENTITY_LIMIT} cells along an axis")
    if frames[0] == frames[1]:  # copied, whatever the scales
        return resampled(node, patch, (copying(np.arange(frames[0][0])), copying(np.arange(frames[0][1]))), emitter)
    tables = tuple(
        from_matrix(_resizing_matrix(node, patch.layout, axis, frames[0][axis], frames[1][axis])) for axis in (0, 1)
    )
    return resampled(node, patch, (tables[0], tables[1]), emitter)


def _resizing_matrix(node: gs.Node, layout: str, axis: int, size: int, result: int) -> np.ndarray:
    """float32 (result, size): what the node does along one axis, asked of ONNX Runtime."""
    own = 2 + axis if layout == "NCHW" else 1 + axis  # the node's axis
    attributes = {name: value for name, value in node.attrs.items() if name not in ("axes", "keep_aspect_ratio_policy")}
    axes = [int(each) % 4 for each in node.attrs.get("axes", range(4))]
    scales = _vector(node, 1 if node.op == "Upsample" else 2)
    # A channel a cell of the input, which is 1 there: (size, size, 1) -> (size, result, 1). ONNX Runtime copies what
    # keeps its shape, whatever the scale: the last axis, along which nothing varies, is then made to grow.
    scale = 1.0 if scales is None or own not in axes else float(scales[axes.index(own)])
    grown = 2 if size == result and scale != 1 else 1
    inputs = ["identity", "", "", ""]
    cells = np.repeat(np.eye(size, dtype=np.float32)[None, :, :, None], grown, axis=3)
    initializers = [onnx.numpy_helper.from_array(cells, "identity")]
    if scales is not None:
        initializers.append(onnx.numpy_helper.from_array(np.array([1, 1, scale, grown], np.float32), "scales"))
        inputs[2] = "scales"
    else:
        initializers.append(onnx.numpy_helper.from_array(np.array([1, size, result, 1], np.int64), "sizes"))
        inputs[3] = "sizes"
    probe = helper.make_node("Resize", inputs, ["weights"], **attributes)
    try:
        return evaluated([probe], initializers, "weights")[0, :, :, 0].T
    except EvaluationError as error:
        raise NotIncremental(f"its weights along an axis are not known: {error}") from None


def _vector(node: gs.Node, index: int) -> np.ndarray | None:
    if len(node.inputs) <= index or node.inputs[index].is_empty():
        return None
    values = np.asarray(node.inputs[index].values).ravel()
    return values if len(values) else None


def rewrite_border_pad(
    node: gs.Node, patch: Patch, begin: list[int], end: list[int], mode: str, value: float, emitter: Emitter
) -> Patch:
    """Pad in space by what the frame itself holds (reflect, edge, wrap), or with negative pads, which crop."""
    tables = []
    for axis in (0, 1):
        cells = np.arange(patch.geometry.frame[axis])
        kept = cells[max(0, -begin[axis]) : len(cells) - max(0, -end[axis])]
        widths = (max(0, begin[axis]), max(0, end[axis]))
        if mode == "constant":
            tables.append(copying(np.pad(kept, widths, constant_values=-1)))
        else:
            tables.append(copying(np.pad(kept, widths, mode=mode)))  # type: ignore[call-overload]
    return resampled(node, patch, (tables[0], tables[1]), emitter, value)


FUNCTIONS = (FunctionText("IncrementalResample", _RESAMPLE),)
HANDLERS = {"Resize": rewrite_resize, "Upsample": rewrite_resize}
