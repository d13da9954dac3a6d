"""Operators that move or join channels: Concat on channels, Transpose between NCHW and NHWC, Pad in space."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.rewriter.operators.elementwise import meet


def rewrite_concat(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Concat of branches on their channels, on the union of their regions."""
    if not all(isinstance(operand, Patch) for operand in operands):
        raise NotIncremental("it joins tensors that the occlusion does and does not change")
    layouts = {operand.layout for operand in operands}
    if len(layouts) > 1 or node.attrs["axis"] % 4 != (1 if operands[0].layout == "NCHW" else 3):
        raise NotIncremental("it does not join channels")
    tensors, result = meet(node, operands, emitter)
    tensor = emitter.emit("Concat", node.name, tensors, {"axis": 3}, domain=None)
    return Patch(tensor, result.geometry, node.outputs[0], operands[0].layout, result.origin)


def rewrite_transpose(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Between NCHW and NHWC: a patch activation is channels-last either way, so nothing is computed."""
    patch = operands[0]
    target = {("NCHW", (0, 2, 3, 1)): "NHWC", ("NHWC", (0, 3, 1, 2)): "NCHW"}.get(
        (patch.layout, tuple(node.attrs.get("perm", ())))
    )
    if target is None:
        raise NotIncremental("it does not go between NCHW and NHWC")
    return Patch(patch.tensor, patch.geometry, node.outputs[0], target, patch.origin)


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
        return Patch(patch.tensor, geometry, node.outputs[0], patch.layout, origin)
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


FUNCTIONS = ()
HANDLERS = {"Concat": rewrite_concat, "Transpose": rewrite_transpose, "Pad": rewrite_pad}
