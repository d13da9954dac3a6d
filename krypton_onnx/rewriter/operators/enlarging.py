"""ConvTranspose and DepthToSpace: local operators that enlarge the frame; SpaceToDepth, which shrinks it.

Where the region of an enlarging operator starts between two multiples of its stride, the rows that it needs start
before it. So the operator runs, as it is, on a window of whole input cells, and the region is cut out of the result.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.geometry import AxisReads, Geometry
from krypton_onnx.rewriter.operators.convolution import require_weights
from krypton_onnx.rewriter.operators.window import READ_ROWS

# Output cell j reads the input cells from ceil((j + pad - reach) / stride) on, reach = D(K - 1). Integer Div truncates
# toward zero, so a multiple of the stride is added before and taken off after.
_CONV_TRANSPOSE = """
IncrementalConvTranspose <kernel_shape, strides, pads, dilations, group>
    (patch, patch_origin, view, W, B, result_view, origin, extent) => (out) {
  kernel = Constant <value_ints : ints = @kernel_shape> ()
  stride = Constant <value_ints : ints = @strides> ()
  dilation = Constant <value_ints : ints = @dilations> ()
  all_pads = Constant <value_ints : ints = @pads> ()
  one = Constant <value_int = 1> ()
  two = Constant <value_int = 2> ()
  pads_from = Constant <value_ints = [0]> ()
  pads_until = Constant <value_ints = [2]> ()
  pad = Slice (all_pads, pads_from, pads_until)
  kernel_less = Sub (kernel, one)
  reach = Mul (kernel_less, dilation)
  reach_strides = Div (reach, stride)
  shift = Add (reach_strides, one)
  shift_cells = Mul (shift, stride)
  padded = Add (origin, pad)
  from_cell = Sub (padded, reach)
  shifted = Add (from_cell, shift_cells)
  first_shifted = Div (shifted, stride)
  read_origin = Sub (first_shifted, shift)
  extent_less = Sub (extent, one)
  span = Add (extent_less, reach)
  span_strides = Div (span, stride)
  read_extent = Add (span_strides, two)
  window = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, read_origin, read_extent)
  x = Transpose <perm = [0, 3, 1, 2]> (window)
  y = ConvTranspose <kernel_shape : ints = @kernel_shape, strides : ints = @strides, dilations : ints = @dilations,
                     group : int = @group> (x, W, B)
  whole = Transpose <perm = [0, 2, 3, 1]> (y)
  whole_start = Mul (read_origin, stride)
  whole_origin = Sub (whole_start, pad)
  out = ai.krypton.Window <pad_value = 0.0> (whole, whole_origin, result_view, origin, extent)
}"""

_DEPTH_TO_SPACE = """
IncrementalDepthToSpace <blocksize, mode, kernel_shape>
    (patch, patch_origin, view, result_view, origin, extent) => (out) {
  block = Constant <value_ints : ints = @kernel_shape> ()
  one = Constant <value_int = 1> ()
  two = Constant <value_int = 2> ()
  read_origin = Div (origin, block)
  extent_less = Sub (extent, one)
  blocks = Div (extent_less, block)
  read_extent = Add (blocks, two)
  window = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, read_origin, read_extent)
  x = Transpose <perm = [0, 3, 1, 2]> (window)
  y = DepthToSpace <blocksize : int = @blocksize, mode : string = @mode> (x)
  whole = Transpose <perm = [0, 2, 3, 1]> (y)
  whole_origin = Mul (read_origin, block)
  out = ai.krypton.Window <pad_value = 0.0> (whole, whole_origin, result_view, origin, extent)
}"""

_SPACE_TO_DEPTH = (
    """
IncrementalSpaceToDepth <blocksize, kernel_shape, strides, pads, dilations>
    (patch, patch_origin, view, origin, extent) => (out) {"""
    + READ_ROWS
    + """
  window = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, read_origin, read_extent)
  x = Transpose <perm = [0, 3, 1, 2]> (window)
  y = SpaceToDepth <blocksize : int = @blocksize> (x)
  out = Transpose <perm = [0, 2, 3, 1]> (y)
}"""
)


def rewrite_conv_transpose(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Constant weights, any kernel, strides, pads (auto_pad, output_shape), dilations, groups and output padding."""
    patch = require_weights(node, operands)
    weights = np.asarray(node.inputs[1].values)
    kernel, group = list(weights.shape[2:]), int(node.attrs.get("group", 1))
    strides, dilations = (list(node.attrs.get(name, [1, 1])) for name in ("strides", "dilations"))
    frame = emitter.frame(node.outputs[0], "NCHW")
    pads = list(node.attrs.get("pads", [0] * 4))[:2]
    if min(pads) < 0 or node.attrs.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attrs:
        raise NotIncremental("its pads are negative, or follow from the size of its output")
    reads = []
    for axis in (0, 1):
        cells = np.arange(frame[axis]) + pads[axis]
        first = -((dilations[axis] * (kernel[axis] - 1) - cells) // strides[axis])
        last = cells // strides[axis]
        limit = patch.geometry.frame[axis] - 1
        reads.append(AxisReads(np.maximum(first, 0), np.minimum(last, limit), (1, strides[axis])))
    geometry = _enlarged(patch, reads)
    bias = node.inputs[2] if len(node.inputs) > 2 else emitter.constant(
        f"{node.name}/zero_bias", np.zeros(weights.shape[1] * group, np.float32)
    )
    attributes = {
        "kernel_shape": kernel, "strides": strides, "pads": [*pads, 0, 0], "dilations": dilations, "group": group,
    }  # fmt: skip
    inputs = [
        *emitter.read(patch), node.inputs[1], bias, emitter.view(node.outputs[0], "NCHW"),
        emitter.origin(geometry), emitter.extent(geometry),
    ]  # fmt: skip
    tensor = emitter.emit("IncrementalConvTranspose", node.name, inputs, attributes)
    return Patch(tensor, geometry, node.outputs[0], "NCHW")


def _enlarged(patch: Patch, reads: list[AxisReads]) -> Geometry:
    try:
        return patch.geometry.resampled(reads[0], reads[1])
    except ValueError as error:
        raise NotIncremental(f"it leads to {error}") from None


def rewrite_depth_to_space(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Modes DCR and CRD."""
    patch = operands[0]
    if patch.layout != "NCHW":
        raise NotIncremental("it reads channels as an axis of space")
    block = int(node.attrs["blocksize"])
    frame = emitter.frame(node.outputs[0], "NCHW")
    cells = [np.arange(size) // block for size in frame]
    geometry = _enlarged(patch, [AxisReads(each, each, (1, block)) for each in cells])
    attributes = {"blocksize": block, "mode": node.attrs.get("mode", "DCR"), "kernel_shape": [block, block]}
    inputs = [
        *emitter.read(patch), emitter.view(node.outputs[0], "NCHW"), emitter.origin(geometry), emitter.extent(geometry),
    ]  # fmt: skip
    tensor = emitter.emit("IncrementalDepthToSpace", node.name, inputs, attributes)
    return Patch(tensor, geometry, node.outputs[0], "NCHW")


def rewrite_space_to_depth(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Any block size."""
    patch = operands[0]
    if patch.layout != "NCHW":
        raise NotIncremental("it reads channels as an axis of space")
    block = int(node.attrs["blocksize"])
    both = [block, block]
    geometry = patch.geometry.through(both, both, [0, 0], [1, 1], emitter.frame(node.outputs[0], "NCHW"))
    attributes = {"blocksize": block, "kernel_shape": both, "strides": both, "pads": [0] * 4, "dilations": [1, 1]}
    inputs = [*emitter.read(patch), emitter.origin(geometry), emitter.extent(geometry)]
    tensor = emitter.emit("IncrementalSpaceToDepth", node.name, inputs, attributes)
    return Patch(tensor, geometry, node.outputs[0], "NCHW")


FUNCTIONS = (
    FunctionText("IncrementalConvTranspose", _CONV_TRANSPOSE),
    FunctionText("IncrementalDepthToSpace", _DEPTH_TO_SPACE),
    FunctionText("IncrementalSpaceToDepth", _SPACE_TO_DEPTH),
)
HANDLERS = {
    "ConvTranspose": rewrite_conv_transpose,
    "DepthToSpace": rewrite_depth_to_space,
    "SpaceToDepth": rewrite_space_to_depth,
}
