"""Write shapes that are put together at run time as constants, where only the batch is not known.

Cases, for a tensor of rank 4 whose channels, height and width are known:
1. Resize by sizes of which all but the batch are known, to the batch and channels of its input -> the same with axes
   naming the two axes of space and constant sizes for them (ONNX operator Resize, attribute axes: opset 18). A batch of
   1 that is written into the sizes is thereby no longer there.
2. Reshape to (batch, known sizes) where the batch is read from the tensor itself, or from one of the same batch ->
   shape (0, known sizes), which copies it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims
from krypton_onnx.rewriter.partial_shapes import Entries, entries_of


def write_known_shapes(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed: shapes behind it may then be known that were not."""
    changed = False
    for node in graph.nodes:
        before = tuple(types.get(node.inputs[0].name, ("", ()))[1]) if node.inputs else ()
        if node.op == "Resize" and len(node.inputs) > 3 and not node.inputs[3].is_empty() and len(before) == 4:
            changed |= _resize(node, before, entries_of(node.inputs[3], types))
        elif node.op == "Reshape" and isinstance(node.inputs[1], gs.Variable) and before:
            changed |= _reshape(node, before, entries_of(node.inputs[1], types))
    if changed:
        graph.cleanup()
    return changed


def _resize(node: gs.Node, before: tuple, sizes: Entries | None) -> bool:
    plain = node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    if sizes is None or len(sizes) != 4 or "axes" in node.attrs or not plain:
        return False
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize" or sizes[0] != before[0]:
        return False
    for space, channel in (((2, 3), 1), ((1, 2), 3)):  # NCHW where both fit
        wanted = known_dims(tuple(sizes[axis] for axis in space))
        if sizes[channel] == before[channel] and wanted is not None:
            node.attrs["axes"] = list(space)
            constant = gs.Constant(f"{node.name or node.outputs[0].name}/sizes", np.array(wanted, np.int64))
            node.inputs = [node.inputs[0], gs.Variable.empty(), gs.Variable.empty(), constant]
            return True
    return False


def _reshape(node: gs.Node, before: tuple, shape: Entries | None) -> bool:
    if not shape or not isinstance(shape[0], str) or shape[0] != before[0]:
        return False
    rest = tuple(entry for entry in shape[1:] if isinstance(entry, int))
    if len(rest) != len(shape) - 1 or 0 in rest:
        return False
    node.attrs.pop("allowzero", None)
    node.inputs[1] = gs.Constant(f"{node.name or node.outputs[0].name}/shape", np.array([0, *rest], np.int64))
    return True
