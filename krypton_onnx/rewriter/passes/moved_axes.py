"""Name what a chain of Reshape, Transpose, Unsqueeze, Squeeze and Tile does to the axes of a picture.

Case: from a float32 tensor (batch, three known sizes) to another of that form, every tensor between read by the next
alone, the batch always in front. Where each source axis, by itself, becomes one axis of the result, the chain is a
Transpose between NCHW and NHWC and a Gather (or a Resize that repeats) an axis. They are left out where they change
nothing, so that a Reshape to the shape that a tensor has already is an Identity. (Keras: channel shuffle of channels
last; UpSampling2D by repetition.)
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims
from krypton_onnx.rewriter.partial_shapes import entries_of
from krypton_onnx.rewriter.readers import only_reader

_LAYOUTS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))  # as it is, NCHW to NHWC, NHWC to NCHW; without the batch
_LARGEST = 1 << 24  # values of one image, whose indices are followed


def name_moved_axes(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed."""
    changed = False
    for node in list(graph.nodes):
        if node.op not in ("Reshape", "Unsqueeze") or not node.outputs:
            continue
        element, shape = types.get(node.inputs[0].name, ("", ()))
        before = known_dims(tuple(shape[1:]))
        if element != "tensor(float)" or len(shape) != 4 or before is None or not 0 < np.prod(before) <= _LARGEST:
            continue
        end, moved = _follow(graph, node, np.arange(int(np.prod(before))).reshape(1, *before), types)
        if end is None or moved is None:
            continue
        found = _separated(moved[0], before)
        if found is not None:
            _replace(graph, node, end, before, *found)
            changed = True
    if changed:
        graph.cleanup().toposort()
    return changed


def _follow(
    graph: gs.Graph, node: gs.Node, indices: np.ndarray, types: Mapping[str, TensorType]
) -> tuple[gs.Node | None, np.ndarray | None]:
    """The node where the chain gives a tensor of rank 4 again, and the indices there; (None, None) if it does not."""
    while True:
        moved = _move(node, indices, types)
        if moved is None or moved.size > _LARGEST:
            return None, None
        if moved.ndim == 4:
            return node, moved
        reader = only_reader(graph, node.outputs[0])
        if reader is None:
            return None, None
        node, indices = reader, moved


def _move(node: gs.Node, indices: np.ndarray, types: Mapping[str, TensorType]) -> np.ndarray | None:
    """Where one image's values go, (1, ...); None where the node does more than move them, or mixes images."""
    if node.op == "Transpose":
        perm = node.attrs.get("perm")
        return None if perm is None or perm[0] != 0 else indices.transpose(perm)
    if node.op not in ("Reshape", "Tile", "Unsqueeze", "Squeeze") or len(node.inputs) != 2:
        return None
    entries = entries_of(node.inputs[1], types)
    if not entries:
        return None
    rest = [entry for entry in entries[1:] if isinstance(entry, int)]
    if node.op == "Reshape":
        # Whatever its first entry says: where the others hold one image, it is the batch.
        if len(rest) != len(entries) - 1 or min(rest, default=0) < 1 or np.prod(rest) != indices.size:
            return None
        return indices.reshape(1, *rest)
    if len(rest) != len(entries) - 1 or not isinstance(entries[0], int):
        return None
    values = [entries[0], *rest]
    if node.op == "Tile":
        return None if values[0] != 1 or len(values) != indices.ndim else np.tile(indices, values)
    rank = indices.ndim + (len(values) if node.op == "Unsqueeze" else 0)
    axes = tuple(value % rank for value in values)
    if 0 in axes or (node.op == "Squeeze" and any(indices.shape[axis] != 1 for axis in axes)):
        return None
    return np.expand_dims(indices, axes) if node.op == "Unsqueeze" else indices.squeeze(axes)


def _separated(moved: np.ndarray, before: tuple[int, ...]) -> tuple[tuple[int, ...], list[np.ndarray]] | None:
    """(source axis of every axis of the result, indices along each), or None where axes are mixed."""
    coordinates = np.unravel_index(moved, before)
    comes_from: dict[int, int] = {}
    for source, coordinate in enumerate(coordinates):
        varies = [axis for axis in range(3) if np.any(np.diff(coordinate, axis=axis))]
        if len(varies) > 1 or any(axis in comes_from for axis in varies):
            return None
        comes_from.update((axis, source) for axis in varies)
    for layout in _LAYOUTS:
        if all(layout[axis] == source for axis, source in comes_from.items()):
            lines = [np.moveaxis(coordinates[layout[axis]], axis, 0)[:, 0, 0] for axis in range(3)]
            return layout, lines
    return None


def _replace(
    graph: gs.Graph, start: gs.Node, end: gs.Node, before: tuple[int, ...], layout: tuple[int, ...],
    lines: list[np.ndarray],
) -> None:  # fmt: skip
    name, source, result = start.name or start.outputs[0].name, start.inputs[0], end.outputs[0]
    nodes: list[gs.Node] = []
    if layout != _LAYOUTS[0]:
        perm = [0, *(axis + 1 for axis in layout)]
        nodes.append(gs.Node("Transpose", f"{name}/transposed", {"perm": perm}, [source], []))
    for axis, line in enumerate(lines):
        size = before[layout[axis]]
        if not np.array_equal(line, np.arange(size)):
            nodes.append(_along(f"{name}/{axis}", source, axis + 1, line, size))
    if not nodes:
        nodes.append(gs.Node("Identity", f"{name}/as_it_is", {}, [source], []))
    end.outputs.clear()
    for first, second in pairwise(nodes):
        between = gs.Variable(f"{second.name}/from", dtype=source.dtype)
        first.outputs = [between]
        second.inputs[0] = between
    nodes[-1].outputs = [result]
    graph.nodes.extend(nodes)


def _along(name: str, source: gs.Tensor, axis: int, line: np.ndarray, size: int) -> gs.Node:
    """Gather along one axis; a Resize where every index is repeated as often, so that it is known to enlarge."""
    times = len(line) // size
    if times > 1 and np.array_equal(line, np.repeat(np.arange(size), times)):
        attributes = {
            "axes": [axis], "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"
        }  # fmt: skip
        scale = gs.Constant(f"{name}/scale", np.array([times], np.float32))
        return gs.Node("Resize", f"{name}/repeated", attributes, [source, gs.Variable.empty(), scale], [])
    index = gs.Constant(f"{name}/index", line.astype(np.int64))
    return gs.Node("Gather", f"{name}/moved", {"axis": axis}, [source, index], [])
