"""The frozen twin: where a global operator meets a patch activation, what it changes outside the region is left out.

Squeeze-excite ends the incremental part: its gate changes a little everywhere. Frozen, the gate of the occluded image
is applied inside the region, and outside the view stands, which has the gate of the unoccluded image. The result is a
patch activation again, and an approximation from there on. Three ways lead back:

- a join of patch activations with results (tensors that have one full value a position): those of one value a channel
  are broadcast, those of a whole frame are cut to the region;
- a normalization by statistics of the whole frame: these are the occluded image's (running sums), used in the region;
- a convolution that reads a result of the same frame as the patch activations that it came from: it is cut to their
  region.

The region is the batch's: cells that it has beyond a position's own are exact anywhere else, and here they have that
position's gate. So far frozen scores depend on which positions share a batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.rewriter.operators.elementwise import NARY, meet, union_of

FLOAT = "tensor(float)"
Results = Mapping[str, gs.Variable]
REDUCTIONS = ("ReduceL2", "ReduceSumSquare")


def applies(node: gs.Node, operands: list, results: Results, emitter: Emitter) -> bool:
    """True where `rewrite` knows the node. operands : Patches and, in the model's own graph, the others' tensors."""
    try:
        _check(node, operands, results, emitter)
    except NotIncremental:
        return False
    return True


def continues(node: gs.Node, operands: list, results: Results, emitter: Emitter) -> bool:
    """True where what `rewrite` makes of the node is a patch activation again."""
    return node.op not in REDUCTIONS and applies(node, operands, results, emitter)


def rewrite(node: gs.Node, operands: list, results: Results, emitter: Emitter) -> Patch | gs.Variable:
    """The node, frozen: a Patch, or a result for a reduction. Raises NotIncremental where it does not apply."""
    _check(node, operands, results, emitter)
    if node.op in REDUCTIONS:
        return _rewrite_norm_of_frame(node, operands[0], emitter)
    if node.op == "InstanceNormalization":
        return _rewrite_normalization(node, operands[0], emitter)
    return _rewrite_join(node, operands, results, emitter)


def _check(node: gs.Node, operands: list, results: Results, emitter: Emitter) -> None:
    if (node.domain or "") not in ("", "ai.onnx") or emitter.types.get(node.outputs[0].name, ("",))[0] != FLOAT:
        raise NotIncremental("it is no operator of float32")
    if node.op in REDUCTIONS:
        _check_norm_of_frame(node, operands)
    elif node.op == "InstanceNormalization":
        _check_normalization(node, operands)
    else:
        _check_join(node, operands, results, emitter)


# -- joins -----------------------------------------------------------------------------------------------------------


def _check_join(node: gs.Node, operands: list, results: Results, emitter: Emitter) -> None:
    patches = [operand for operand in operands if isinstance(operand, Patch)]
    if len({patch.layout for patch in patches}) > 1:
        raise NotIncremental("its inputs have different layouts")
    layout = patches[0].layout
    channels = 1 if layout == "NCHW" else 3
    if node.op not in NARY and not (node.op == "Concat" and node.attrs["axis"] % 4 == channels):
        raise NotIncremental("it is neither element-wise nor does it join channels")
    frame = emitter.frame(node.outputs[0], layout)
    if any(emitter.frame(patch.base, layout) != frame for patch in patches):
        raise NotIncremental("one input is broadcast over height and width")
    allowed = (frame,) if node.op == "Concat" else (frame, (1, 1))
    for operand in operands:
        if isinstance(operand, Patch) or (operand.name in results and _extent(operand, layout, emitter) in allowed):
            continue
        if node.op == "Concat" or not (isinstance(operand, gs.Constant) and np.size(operand.values) == 1):
            raise NotIncremental("it joins a tensor of another frame")
    union_of(patches)


def _rewrite_join(node: gs.Node, operands: list, results: Results, emitter: Emitter) -> Patch:
    """The join inside the region of its patch activations."""
    patches = [operand for operand in operands if isinstance(operand, Patch)]
    layout = patches[0].layout
    frame = emitter.frame(node.outputs[0], layout)
    tensors, region = meet(node, patches, emitter)
    inputs: list[gs.Tensor] = []
    for number, operand in enumerate(operands):
        name = f"{node.name}/result_{number}"
        if isinstance(operand, Patch):
            inputs.append(tensors.pop(0))
        elif operand.name not in results:
            inputs.append(emitter.constant(name, np.asarray(operand.values).reshape(())))
        elif frame != (1, 1) and _extent(operand, layout, emitter) == frame:
            inputs.append(_cut(operand, results[operand.name], region, layout, name, emitter))
        else:
            inputs.append(_channels_last(results[operand.name], layout, name, emitter))
    attributes = {"axis": 3} if node.op == "Concat" else node.attrs
    tensor = emitter.emit(node.op, node.name, inputs, attributes, domain=None)
    return Patch(tensor, region.geometry, node.outputs[0], layout, region.origin)


def reenter(tensor: gs.Variable, result: gs.Variable, geometry: Geometry, emitter: Emitter) -> Patch:
    """A result of a whole frame, channels first, as a patch activation of this region."""
    region = Patch(result, geometry, tensor, "NCHW")
    return Patch(_cut(tensor, result, region, "NCHW", f"{tensor.name}/frozen", emitter), geometry, tensor, "NCHW")


def reenters(node: gs.Node, sources: Mapping[str, Geometry], emitter: Emitter) -> bool:
    """True where the node is a convolution of a result that has the frame of what it came from."""
    if node.op != "Conv" or node.inputs[0].name not in sources:
        return False
    tensor = node.inputs[0]
    return (
        all(isinstance(weights, gs.Constant) for weights in node.inputs[1:])
        and _extent(tensor, "NCHW", emitter) == sources[tensor.name].frame != (1, 1)
    )


def _extent(tensor: gs.Tensor, layout: str, emitter: Emitter) -> tuple:
    """Height and width of a tensor of floats and rank 4 with the positions first; () for others."""
    shape = emitter.shape(tensor)
    if len(shape) != 4 or isinstance(shape[0], int) or emitter.types[tensor.name][0] != FLOAT:
        return ()
    return tuple(shape[2:] if layout == "NCHW" else shape[1:3])


def _channels_last(tensor: gs.Variable, layout: str, name: str, emitter: Emitter) -> gs.Variable:
    if layout == "NHWC":
        return tensor
    return emitter.emit("Transpose", f"{name}/nhwc", [tensor], {"perm": [0, 2, 3, 1]}, domain=None)


def _cut(
    tensor: gs.Variable, result: gs.Variable, region: Patch, layout: str, name: str, emitter: Emitter
) -> gs.Variable:
    """A result of the whole frame cut to a region: a window of a patch activation that begins at (0, 0)."""
    whole = _channels_last(result, layout, name, emitter)
    corner = emitter.emit(
        "Sub", f"{name}/corner", [emitter.occlusion_origin, emitter.occlusion_origin], {}, domain=None
    )
    view = emitter.view(tensor, layout)
    inputs = [whole, corner, view, emitter.origin_of(region), emitter.extent(region.geometry)]
    return emitter.emit("Window", f"{name}/cut", inputs, {"pad_value": 0.0})


# -- statistics of the whole frame -----------------------------------------------------------------------------------


def _check_norm_of_frame(node: gs.Node, operands: list) -> None:
    patch = operands[0]
    spatial = (2, 3) if isinstance(patch, Patch) and patch.layout == "NCHW" else (1, 2)
    if not isinstance(patch, Patch) or sorted(axis % 4 for axis in _axes(node)) != list(spatial):
        raise NotIncremental("it reduces other axes than height and width")
    if not node.attrs.get("keepdims", 1):
        raise NotIncremental("it drops the reduced axes")


def _rewrite_norm_of_frame(node: gs.Node, patch: Patch, emitter: Emitter) -> gs.Variable:
    """ReduceL2 and ReduceSumSquare over height and width: a running sum of squares."""
    height, width = emitter.frame(patch.base, patch.layout)
    view = emitter.view(patch.base, patch.layout)
    squares = _base("Mul", f"{node.name}/view_squares", [view, view], patch, emitter)
    squared = emitter.emit("Mul", f"{node.name}/squares", [patch.tensor, patch.tensor], {}, domain=None)
    mean = _mean(f"{node.name}/mean_square", squared, patch, squares, emitter)
    cells = emitter.constant(f"{node.name}/cells", np.array(height * width, np.float32))
    total = emitter.emit("Mul", f"{node.name}/sum_square", [mean, cells], {}, domain=None)
    if node.op == "ReduceL2":
        # Rounding may leave less than nothing where the region was all there was.
        none = emitter.constant(f"{node.name}/none", np.array(0, np.float32))
        total = emitter.emit("Max", f"{node.name}/at_least_none", [total, none], {}, domain=None)
        total = emitter.emit("Sqrt", f"{node.name}/norm", [total], {}, domain=None)
    if patch.layout == "NHWC":
        return total
    return emitter.emit("Transpose", f"{node.name}/nchw", [total], {"perm": [0, 3, 1, 2]}, domain=None)


def _check_normalization(node: gs.Node, operands: list) -> None:
    patch = operands[0]
    if not isinstance(patch, Patch) or patch.layout != "NCHW":
        raise NotIncremental("it reads channels as an axis of space")
    if not all(isinstance(operand, gs.Constant) for operand in node.inputs[1:3]):
        raise NotIncremental("its scale and bias are computed at run time")


def _rewrite_normalization(node: gs.Node, patch: Patch, emitter: Emitter) -> Patch:
    """InstanceNormalization: the occluded image's mean and variance, in the region.

    The variance is that of the distance to the unoccluded image's mean, so that nothing large cancels.
    """
    channels = int(emitter.shape(patch.base)[1])
    scale, bias = (
        emitter.constant(f"{node.name}/{name}", np.asarray(operand.values).reshape(1, 1, 1, channels))
        for name, operand in zip(("scale", "bias"), node.inputs[1:3], strict=True)
    )
    name = node.name
    epsilon = emitter.constant(f"{name}/epsilon", np.array(node.attrs.get("epsilon", 1e-5), np.float32))
    none = emitter.constant(f"{name}/none", np.array(0, np.float32))

    def emit(op: str, what: str, *inputs: gs.Tensor) -> gs.Variable:
        return emitter.emit(op, f"{name}/{what}", inputs, {}, domain=None)

    view = emitter.view(patch.base, patch.layout)
    before = emitter.emit(
        "ReduceMean", f"{name}/view_mean",
        [view, emitter.constant(f"{name}/space", np.array([1, 2], np.int64))], {"keepdims": 1}, domain=None,
    )  # fmt: skip
    before.dtype, before.shape = np.float32, [1, 1, 1, channels]
    distant = _base("Sub", f"{name}/view_distance", [view, before], patch, emitter)
    squares = _base("Mul", f"{name}/view_squares", [distant, distant], patch, emitter)
    distance = emit("Sub", "distance", patch.tensor, before)
    mean = emit("Sub", "moved", _mean(f"{name}/mean", patch.tensor, patch, view, emitter), before)
    square = _mean(f"{name}/mean_square", emit("Mul", "squares", distance, distance), patch, squares, emitter)
    variance = emit("Max", "variance", emit("Sub", "spread", square, emit("Mul", "moved_square", mean, mean)), none)
    deviation = emit("Sqrt", "deviation", emit("Add", "variance_epsilon", variance, epsilon))
    factor = emit("Div", "factor", scale, deviation)
    scaled = emit("Mul", "scaled", emit("Sub", "centred", distance, mean), factor)
    return Patch(emit("Add", "normalized", scaled, bias), patch.geometry, node.outputs[0], "NCHW", patch.origin)


def _mean(name: str, tensor: gs.Variable, patch: Patch, view: gs.Variable, emitter: Emitter) -> gs.Variable:
    """(N, 1, 1, C): mean over the frame of a tensor in `patch`'s region, laid over a channels-last view."""
    inputs = [tensor, emitter.origin_of(patch), view]
    mean = emitter.emit("IncrementalGlobalAveragePool", name, inputs, {})
    return emitter.emit("Transpose", f"{name}/nhwc", [mean], {"perm": [0, 2, 3, 1]}, domain=None)


def _base(op: str, name: str, inputs: list[gs.Variable], patch: Patch, emitter: Emitter) -> gs.Variable:
    """A tensor of the base pass of the shape of `patch`'s view."""
    height, width = emitter.frame(patch.base, patch.layout)
    channels = emitter.shape(patch.base)[1 if patch.layout == "NCHW" else 3]
    tensor = emitter.emit(op, name, inputs, {}, domain=None)
    tensor.dtype, tensor.shape = np.float32, [1, height, width, channels]
    return tensor


def _axes(node: gs.Node) -> list[int]:
    if len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        return [int(axis) for axis in np.asarray(node.inputs[1].values).ravel()]
    return [int(axis) for axis in node.attrs.get("axes", [])]
