"""Do the images of a batch influence each other? Then several may not be inferred at once.

The axis that holds the batch is followed from the image input through the graph. Where an operator works along it, or
gives what belongs to no single image, there is a reason. Where the axis cannot be followed (it was merged with another,
as windows or heads of an attention are, or a Reshape is computed at run time), nothing is claimed from there on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims
from krypton_onnx.rewriter.passes.dynamic_batch import worked_axes

# What they give has an element for whatever they find, in all images together.
_FINDING = {"NonMaxSuppression", "NonZero", "Unique", "Compress", "RoiAlign", "MaxRoiPool"}
_ELSEWHERE = {"Shape", "Size"}  # read no values
_JOINING = {"Add", "Concat", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum", "Where"}
_SEQUENCES = {"GRU", "LSTM", "RNN"}
_UNKNOWN = {"Einsum", "Expand", "ScatterND"}  # what they do to their axes, their inputs say at run time
_TO_THE_END = {"LayerNormalization", "RMSNormalization"}  # work along their axis and all behind it
_LARGE = 2**31 - 1  # as the end of a Slice: all there is

Types = Mapping[str, TensorType]


def mixed_images(graph: gs.Graph, image: gs.Variable, types: Types) -> str | None:
    """Why images of a batch cannot be inferred together, or None. `graph` must be in topological order."""
    axes: dict[str, int | None] = {image.name: 0}  # of tensors that hold the batch; None: somewhere
    for node in graph.nodes:
        holding = [(index, axes[tensor.name]) for index, tensor in enumerate(node.inputs) if tensor.name in axes]
        if not holding or node.op in _ELSEWHERE:
            continue
        if node.op in _FINDING:
            return f"{node.op} node '{node.name}' gives what it finds in all images together"
        if node.op == "BatchNormalization" and node.attrs.get("training_mode", 0):
            return f"BatchNormalization node '{node.name}' is in training mode: it takes statistics of the whole batch"
        index, axis = next((pair for pair in holding if pair[1] is not None), holding[0])
        after: int | None = None
        if axis is not None:
            if node.op in _JOINING and len(_aligned(node, holding, types)) > 1:
                return f"{node.op} node '{node.name}' joins images of the batch with each other"
            reason, after = _step(node, index, axis, types)
            if reason is not None:
                return f"{node.op} node '{node.name}' {reason}"
        axes.update((tensor.name, after) for tensor in node.outputs if tensor.name)
    for tensor in graph.outputs:
        if axes.get(tensor.name):
            return f"the output '{tensor.name}' holds the batch on axis {axes[tensor.name]}"
        if axes.get(tensor.name, 0) is None and _rank(tensor, types) == 1:
            return f"the output '{tensor.name}' holds all images in one row"
    return None


def _step(node: gs.Node, index: int, axis: int, types: Types) -> tuple[str | None, int | None]:
    """(reason, None), or (None, the axis of the outputs that holds the batch; None where that is not known).

    index, axis : of an input that holds the batch.
    """
    rank = _rank(node.inputs[index], types)
    if rank is None or node.op in _UNKNOWN or any(isinstance(value, gs.Graph) for value in node.attrs.values()):
        return None, None
    if node.op == "Transpose":
        perm = [int(one) for one in node.attrs.get("perm", range(rank)[::-1])]
        return None, perm.index(axis)
    if node.op == "Reshape":
        return _reshaped(node, axis, types)
    if node.op == "Flatten":
        until = node.attrs.get("axis", 1) % (rank + 1)
        if until == 0:
            return "puts all images into one row", None
        return None, 0 if (axis, until) == (0, 1) else None
    if node.op in ("Conv", "ConvTranspose", "Gather", "Gemm") and index > 0:
        return None, None
    if node.op in _SEQUENCES:
        return ("takes the batch for a sequence", None) if axis == node.attrs.get("layout", 0) else (None, None)
    if node.op == "GatherND" and axis >= node.attrs.get("batch_dims", 0):
        return "works along the batch", None
    if node.op == "Tile" and isinstance(node.inputs[1], gs.Constant) and node.inputs[1].values[axis] != 1:
        return "works along the batch", None
    if axis in _worked(node, rank):
        return (None, axis) if _takes_all(node) else ("works along the batch", None)
    gone = _rank(node.outputs[0], types)
    if gone is None or (node.op == "MatMul" and axis >= rank - 2 and axis + index > 0):
        return None, None
    if node.op == "Gemm":
        return None, None if node.attrs.get("transA", 0) else axis
    if node.op in ("Unsqueeze", "Squeeze") or node.op.startswith(("Reduce", "Arg")):
        changed = _worked(node, rank)
        if node.op == "Unsqueeze":
            return None, [one for one in range(gone) if one not in changed][axis]
        return None, axis - sum(one < axis for one in changed) if gone < rank else axis
    if node.op == "Gather" and gone != rank and node.attrs.get("axis", 0) % rank < axis:
        return None, axis + gone - rank
    if node.op == "Gather":
        return None, axis
    if gone < rank:
        return None, None
    return None, axis + gone - rank  # a tensor of more axes it is broadcast to has them in front


def _aligned(node: gs.Node, holding: Sequence[tuple[int, int | None]], types: Types) -> set[int]:
    """On which axes the operands of an element-wise operator hold the batch, counted from the last."""
    known = [(_rank(node.inputs[index], types), axis) for index, axis in holding]
    return {axis - rank for rank, axis in known if rank is not None and axis is not None}


def _worked(node: gs.Node, rank: int) -> set[int]:
    """The axes along which the node works, from 0 on; of an Unsqueeze: those that it makes."""
    if node.op == "Pad" and len(node.inputs) < 4:
        pads = node.inputs[1] if len(node.inputs) > 1 else None
        widths = np.asarray(pads.values).reshape(2, -1) if isinstance(pads, gs.Constant) else np.zeros((2, rank))
        return set(np.flatnonzero(widths.any(axis=0)).tolist())
    named = [axis + rank if axis < 0 else axis for axis in worked_axes(node, rank)]
    if node.op in _TO_THE_END and named:
        return set(range(named[0], rank))
    return set(named)


def _takes_all(node: gs.Node) -> bool:
    """True for a Slice of everything."""
    if node.op != "Slice" or not all(isinstance(bound, gs.Constant) for bound in node.inputs[1:]):
        return False
    starts, ends = (np.asarray(bound.values) for bound in node.inputs[1:3])
    steps = np.asarray(node.inputs[4].values) if len(node.inputs) > 4 else np.ones(1)
    return bool((starts == 0).all() and (ends >= _LARGE).all() and (steps == 1).all())


def _reshaped(node: gs.Node, axis: int, types: Types) -> tuple[str | None, int | None]:
    target = node.inputs[1]
    if not isinstance(target, gs.Constant) or axis != 0:
        return None, None
    shape = np.asarray(target.values).ravel()
    if not len(shape) or shape[0] > 0:
        return "has a shape that holds a fixed batch", None
    if len(shape) == 1:
        return None, 0 if _rank(node.inputs[0], types) == 1 else None
    if shape[0] == 0:
        return None, 0
    before = known_dims(types[node.inputs[0].name][1][1:])
    keeps = before is not None and (shape[1:] > 0).all() and np.prod(before) == np.prod(shape[1:])
    return None, 0 if keeps else None


def _rank(tensor: gs.Tensor, types: Types) -> int | None:
    if isinstance(tensor, gs.Constant):
        return len(tensor.shape)
    return len(types[tensor.name][1]) if tensor.name in types else None
