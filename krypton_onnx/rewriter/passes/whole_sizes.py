"""Resize by constant sizes or scales of some axes (attribute axes) -> by those of all, its input's where not given.

ONNX Runtime 1.31 moves a Transpose before such a Resize behind it, and drops the sizes on the way: "Number of elements
of input 'sizes' (0) does not match the number of axes". Views are transposed, so a rewritten model may have the pair
where the original has not. Case: rank 4, mode of coordinates without a region of interest, sizes stretched.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


def size_all_axes(graph: gs.Graph) -> bool:
    """True when the graph changed. To be run last: rules read the axes."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "Resize" or "axes" not in node.attrs:
            continue
        if len(node.inputs) == 3 and isinstance(node.inputs[2], gs.Constant):
            scales = np.ones(4, np.float32)
            scales[[int(axis) % 4 for axis in node.attrs.pop("axes")]] = np.asarray(node.inputs[2].values)
            node.inputs[2] = gs.Constant(f"{node.name or node.outputs[0].name}/scales", scales)
            changed = True
        if len(node.inputs) < 4:
            continue
        sizes = node.inputs[3]
        plain = node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        cropped = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        if not isinstance(sizes, gs.Constant) or not plain or cropped:
            continue
        given = {int(axis) % 4: int(size) for axis, size in zip(node.attrs["axes"], sizes.values, strict=True)}
        name = node.name or node.outputs[0].name
        shape, parts = gs.Variable(f"{name}/shape", dtype=np.int64), []
        graph.nodes.append(gs.Node("Shape", shape.name, {}, [node.inputs[0]], [shape]))
        for axis in range(4):
            if axis in given:
                parts.append(gs.Constant(f"{name}/size_{axis}", np.array([given[axis]], np.int64)))
                continue
            kept = gs.Variable(f"{name}/kept_{axis}", dtype=np.int64)
            index = gs.Constant(f"{kept.name}/index", np.array([axis], np.int64))
            graph.nodes.append(gs.Node("Gather", kept.name, {"axis": 0}, [shape, index], [kept]))
            parts.append(kept)
        whole = gs.Variable(f"{name}/sizes", dtype=np.int64)
        graph.nodes.append(gs.Node("Concat", whole.name, {"axis": 0}, parts, [whole]))
        del node.attrs["axes"]
        node.inputs[3] = whole
        changed = True
    return changed
