"""Operators that move values: Concat, Gather and Slice of channels, Transpose between NCHW and NHWC, Pad in space."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.rewriter.operators.elementwise import meet, union_of

MOST_BRANCHES = 8  # of one IncrementalConcat: an ONNX function has a fixed number of inputs


def rewrite_concat(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Concat of branches on their channels, on the union of their regions."""
    if not all(isinstance(operand, Patch) for operand in operands):
        raise NotIncremental("it joins tensors that the occlusion does and does not change")
    layouts = {operand.layout for operand in operands}
    if len(layouts) > 1 or node.attrs["axis"] % 4 != (1 if operands[0].layout == "NCHW" else 3):
        raise NotIncremental("it does not join channels")
    layout = operands[0].layout
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


def rewrite_channel_pick(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Gather or Slice of channels with constant indices."""
    patch = operands[0]
    channel = 1 if patch.layout == "NCHW" else 3
    if not all(isinstance(operand, gs.Constant) or operand.is_empty() for operand in node.inputs[1:]):
        raise NotIncremental("its indices are computed at run time")
    values = [np.asarray(operand.values) if isinstance(operand, gs.Constant) else None for operand in node.inputs[1:]]
    if node.op == "Gather":
        if node.attrs.get("axis", 0) % 4 != channel or values[0] is None or values[0].ndim != 1:
            raise NotIncremental("it does not pick channels")
        inputs, attributes = [patch.tensor, node.inputs[1]], {"axis": 3}
    else:
        axes = values[2] if len(values) > 2 else None
        if axes is None or [axis % 4 for axis in axes.ravel()] != [channel]:
            raise NotIncremental("it does not pick channels")
        last = emitter.constant(f"{node.name}/axes", np.array([3], np.int64))
        inputs, attributes = [patch.tensor, node.inputs[1], node.inputs[2], last, *node.inputs[4:]], {}
    tensor = emitter.emit(node.op, node.name, inputs, attributes, domain=None)
    return Patch(tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)


def rewrite_transpose(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Between NCHW and NHWC: a patch activation is channels-last either way, so nothing is computed."""
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
    """Pad with a constant in space only: the region moves by the begin pad, and may reach into the padding."""
    patch = operands[0]
    if node.attrs.get("mode", "constant") != "constant":
        raise NotIncremental(f"padding of mode {node.attrs['mode']} has no incremental form in this version")
    if not isinstance(patch, Patch) or not all(
        isinstance(operand, gs.Constant) or operand.is_empty() for operand in node.inputs[1:]
    ):
        raise NotIncremental("its pads are computed at run time")
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        raise NotIncremental("it names axes")
    begin, end = np.split(np.asarray(node.inputs[1].values).astype(int), 2)
    space = (2, 3) if patch.layout == "NCHW" else (1, 2)
    if any(begin[axis] or end[axis] for axis in range(4) if axis not in space):
        raise NotIncremental("it pads other axes than height and width")
    if min(begin.min(), end.min()) < 0:
        raise NotIncremental("it has negative pads")
    pads = [int(begin[axis]) for axis in space]
    geometry = patch.geometry.through([1, 1], [1, 1], pads, [1, 1], emitter.frame(node.outputs[0], patch.layout))
    shift = emitter.constant(f"{node.name}/begin", np.array(pads, np.int64))
    if patch.geometry.never_clipped() and patch.origin is not None:
        # Straight on the image the occlusion never reaches the padding: the same values at a shifted origin.
        origin = emitter.emit("Add", f"{node.name}/origin", [patch.origin, shift], {}, domain=None)
        return Patch(_alias(node, patch, emitter), geometry, node.outputs[0], patch.layout, origin)
    value = 0.0
    if len(node.inputs) > 2 and not node.inputs[2].is_empty():
        value = float(np.asarray(node.inputs[2].values).ravel()[0])
    return _padded_window(node, patch, geometry, shift, value, emitter)


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
    "Gather": rewrite_channel_pick,
    "Pad": rewrite_pad,
    "Slice": rewrite_channel_pick,
    "Transpose": rewrite_transpose,
}
