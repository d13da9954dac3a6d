"""Operators that move values: Concat of channels, Gather and Slice, Transpose between NCHW and NHWC, Pad in space."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.rewriter.operators.channels import channel_axis
from krypton_onnx.rewriter.operators.elementwise import beside_patches, meet, union_of
from krypton_onnx.rewriter.operators.resampling import copying, resampled, rewrite_border_pad

MOST_BRANCHES = 8  # of one IncrementalConcat: an ONNX function has a fixed number of inputs


def rewrite_concat(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Of channels: branches, constants and other inputs, on the union of their regions."""
    patches = [operand for operand in operands if isinstance(operand, Patch)]
    layout = patches[0].layout
    if any(patch.layout != layout for patch in patches) or node.attrs["axis"] % 4 != channel_axis(patches[0]):
        raise NotIncremental("it does not join channels")
    if len(patches) < len(operands):
        meeting, result = meet(node, patches, emitter)
        tensors = [
            meeting.pop(0)
            if isinstance(operand, Patch)
            else beside_patches(operand, index, node, result, emitter, whole=True)
            for index, operand in enumerate(operands)
        ]
        tensor = emitter.emit("Concat", node.name, tensors, {"axis": 3}, domain=None)
        return Patch(tensor, result.geometry, node.outputs[0], layout, result.origin)
    if len(operands) > MOST_BRANCHES or all(operand.same_region(operands[0]) for operand in operands):
        tensors, result = meet(node, operands, emitter)
        tensor = emitter.emit("Concat", node.name, tensors, {"axis": 3}, domain=None)
        return Patch(tensor, result.geometry, node.outputs[0], layout, result.origin)
    union = union_of(operands)
    inputs = [tensor for operand in operands for tensor in emitter.read(operand)]
    inputs += [emitter.origin(union), emitter.extent(union)]
    tensor = emitter.emit(f"IncrementalConcat{len(operands)}", node.name, inputs, {})
    return Patch(tensor, union, node.outputs[0], layout)


def _concat_text(branches: int) -> FunctionText:
    names = [f"patch_{i}, patch_origin_{i}, view_{i}" for i in range(branches)]
    windows = "".join(
        f"""
  window_{i} = ai.krypton.Window <pad_value = 0.0> ({names[i]}, origin, extent)"""
        for i in range(branches)
    )
    text = f"""
IncrementalConcat{branches} ({", ".join(names)}, origin, extent) => (out) {{{windows}
  out = Concat <axis = 3> ({", ".join(f"window_{i}" for i in range(branches))})
}}"""
    return FunctionText(f"IncrementalConcat{branches}", text)


def rewrite_gather(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Of channels, rows or columns, with constant indices (channel shuffle; passes write Reshapes so)."""
    patch = operands[0]
    if not isinstance(node.inputs[1], gs.Constant):
        raise NotIncremental("its indices are computed at run time")
    indices, axis = np.asarray(node.inputs[1].values), int(node.attrs.get("axis", 0)) % 4
    if indices.ndim != 1 or axis == 0:
        raise NotIncremental("it drops or adds an axis" if axis else "it picks images of a batch")
    if axis == channel_axis(patch):
        tensor = emitter.emit("Gather", node.name, [patch.tensor, node.inputs[1]], {"axis": 3}, domain=None)
        return Patch(tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)
    tables = [copying(np.arange(size)) for size in patch.geometry.frame]
    along = axis - (2 if patch.layout == "NCHW" else 1)
    tables[along] = copying(np.arange(patch.geometry.frame[along])[indices])
    return resampled(node, patch, (tables[0], tables[1]), emitter)


def rewrite_slice(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Constant bounds and steps: of channels, rows and columns."""
    patch = operands[0]
    if not isinstance(patch, Patch) or not all(
        isinstance(operand, gs.Constant) or operand.is_empty() for operand in node.inputs[1:]
    ):
        raise NotIncremental("its bounds are computed at run time")
    values = [[] if operand.is_empty() else np.asarray(operand.values).ravel().tolist() for operand in node.inputs[1:]]
    starts, stops, axes, steps = [*values, [], []][:4]
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    shape, picked = emitter.shape(node.inputs[0]), {}
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        size = shape[axis % 4]
        if axis % 4 == 0 or not isinstance(size, int):
            raise NotIncremental("it slices the batch")
        picked[axis % 4] = np.arange(size)[_bounds(start, stop, step, size)]
    channels = picked.pop(channel_axis(patch), None)
    if picked:
        space = (2, 3) if patch.layout == "NCHW" else (1, 2)
        tables = [
            copying(picked.get(axis, np.arange(size)), _step(picked.get(axis)))
            for axis, size in zip(space, patch.geometry.frame, strict=True)
        ]
        patch = resampled(node, patch, (tables[0], tables[1]), emitter)
    if channels is None:
        return patch
    index = emitter.constant(f"{node.name}/channels", channels)
    tensor = emitter.emit("Gather", f"{node.name}/of_channels", [patch.tensor, index], {"axis": 3}, domain=None)
    return Patch(tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)


def _bounds(start: int, stop: int, step: int, size: int) -> slice:
    """ONNX's bounds as Python's: going backwards, a stop before the first cell is none."""
    if step < 0 and stop < -size:
        return slice(start, None, step)
    return slice(start, stop, step)


def _step(cells: np.ndarray | None) -> int:
    return 1 if cells is None or len(cells) < 2 else max(1, int(cells[1] - cells[0]))


def rewrite_transpose(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Between NCHW and NHWC, where nothing is computed: patch activations are channels last either way."""
    patch = operands[0]
    target = {("NCHW", (0, 2, 3, 1)): "NHWC", ("NHWC", (0, 3, 1, 2)): "NCHW"}.get(
        (patch.layout, tuple(node.attrs.get("perm", ())))
    )
    if target is None:
        raise NotIncremental("it does not go between NCHW and NHWC")
    return Patch(_alias(node, patch, emitter), patch.geometry, node.outputs[0], target, patch.origin)


def _alias(node: gs.Node, patch: Patch, emitter: Emitter) -> gs.Variable:
    """The same patch activation for another tensor; under a name of its own where others read the first one too.

    Otherwise what reads the new tensor alone would be fused into the operator that they all read.
    """
    if emitter.read_once(patch):
        return patch.tensor
    return emitter.emit("Identity", node.name, [patch.tensor], {}, domain=None)


def rewrite_pad(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """In space, with constant pads, negative ones too: with a constant value, or by reflect, edge or wrap."""
    patch = operands[0]
    if not isinstance(patch, Patch) or not all(
        isinstance(operand, gs.Constant) or operand.is_empty() for operand in node.inputs[1:]
    ):
        raise NotIncremental("its pads are computed at run time")
    begin, end = _amounts(node)
    space = (2, 3) if patch.layout == "NCHW" else (1, 2)
    if any(begin[axis] or end[axis] for axis in range(4) if axis not in space):
        raise NotIncremental("it pads other axes than height and width")
    value = 0.0
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        value = float(np.asarray(node.inputs[2].values).ravel()[0])
    mode = node.attrs.get("mode", "constant")
    if mode != "constant" or min(begin.min(), end.min()) < 0:
        around = [int(begin[axis]) for axis in space], [int(end[axis]) for axis in space]
        return rewrite_border_pad(node, patch, *around, mode, value, emitter)
    pads = [int(begin[axis]) for axis in space]
    geometry = patch.geometry.through([1, 1], [1, 1], pads, [1, 1], emitter.frame(node.outputs[0], patch.layout))
    shift = emitter.constant(f"{node.name}/begin", np.array(pads, np.int64))
    if patch.geometry.never_clipped() and patch.origin is not None:
        # Straight on the image the occlusion never reaches the padding: the same values at a shifted origin.
        origin = emitter.emit("Add", f"{node.name}/origin", [patch.origin, shift], {}, domain=None)
        return Patch(_alias(node, patch, emitter), geometry, node.outputs[0], patch.layout, origin)
    return _padded_window(node, patch, geometry, shift, value, emitter)


def _amounts(node: gs.Node) -> tuple[np.ndarray, np.ndarray]:
    """int64 (4,) begin and end pads (ONNX operator Pad, whose fourth input may name axes)."""
    given = np.asarray(node.inputs[1].values).astype(np.int64)
    if len(node.inputs) < 4 or node.inputs[3].is_empty():
        begin, end = np.split(given, 2)
        return begin, end
    begin, end = np.zeros((2, 4), np.int64)
    axes = np.asarray(node.inputs[3].values).ravel() % 4
    begin[axes], end[axes] = np.split(given, 2)
    return begin, end


def _padded_window(
    node: gs.Node, patch: Patch, geometry: Geometry, shift: gs.Constant, value: float, emitter: Emitter
) -> Patch:
    origin = emitter.emit("Sub", f"{node.name}/origin", [emitter.origin(geometry), shift], {}, domain=None)
    inputs = [*emitter.read(patch), origin, emitter.extent(geometry)]
    tensor = emitter.emit("Window", node.name, inputs, {"pad_value": value})
    return Patch(tensor, geometry, node.outputs[0], patch.layout)


FUNCTIONS = tuple(_concat_text(branches) for branches in range(2, MOST_BRANCHES + 1))
HANDLERS = {
    "Concat": rewrite_concat,
    "Gather": rewrite_gather,
    "Pad": rewrite_pad,
    "Slice": rewrite_slice,
    "Transpose": rewrite_transpose,
}
