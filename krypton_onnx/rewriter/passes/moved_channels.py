"""Name what a Reshape, a Transpose and another Reshape do to channels and blocks of cells.

Case: Reshape of a picture (batch, C, H, W) with known sizes to more axes, Transpose, Reshape to a picture again, each
read by the next alone. Such a chain moves values; following the index of every value tells where they go:
1. every cell keeps its place, and channels are permuted (channel shuffle): Gather of channels.
2. blocks of cells become channels, or channels blocks of cells (pixel shuffle written out): SpaceToDepth or
   DepthToSpace, with a Gather of channels where they are ordered otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.ort_graph import TensorType, known_dims
from krypton_onnx.rewriter.readers import only_reader


def name_moved_channels(graph: gs.Graph, types: Mapping[str, TensorType]) -> bool:
    """True when the graph changed."""
    changed = False
    for node in list(graph.nodes):
        chain = _chain(graph, node)
        if chain is None:
            continue
        shape = types.get(node.inputs[0].name, ("", ()))[1]
        result = types.get(chain[2].outputs[0].name, ("", ()))[1]
        before, after = known_dims(shape[1:]), known_dims(result[1:])
        if before is None or after is None or len(before) != 3 or len(after) != 3:
            continue
        if np.prod(before) != np.prod(after):
            continue  # it mixes images
        inner = known_dims(types.get(chain[0].outputs[0].name, ("", ()))[1][1:])
        perm = chain[1].attrs.get("perm")
        if inner is None or perm is None or perm[0] != 0 or np.prod(inner) != np.prod(before):
            continue
        moved = np.arange(int(np.prod(before))).reshape((1, *inner)).transpose(perm).reshape(after)
        changed |= _replace(graph, chain, moved, before, after)
    if changed:
        graph.cleanup().toposort()
    return changed


def _chain(graph: gs.Graph, node: gs.Node) -> tuple[gs.Node, gs.Node, gs.Node] | None:
    if node.op != "Reshape" or not node.outputs:
        return None
    chain = [node]
    for op in ("Transpose", "Reshape"):
        reader = only_reader(graph, chain[-1].outputs[0])
        if reader is None or reader.op != op:
            return None
        chain.append(reader)
    return chain[0], chain[1], chain[2]


def _replace(
    graph: gs.Graph, chain: tuple[gs.Node, gs.Node, gs.Node], moved: np.ndarray, before: tuple, after: tuple
) -> bool:
    """moved: int64 (C', H', W'), the flat index in (C, H, W) of every value of the result."""
    name = chain[0].name or chain[0].outputs[0].name
    source, result = chain[0].inputs[0], chain[2].outputs[0]
    cells = np.arange(int(np.prod(before))).reshape(before)
    if before == after:
        order = moved[:, 0, 0] // (before[1] * before[2])
        if not np.array_equal(moved, cells[order]):
            return False
        _unlink(chain)
        nodes = [_gather(f"{name}/channels", source, order, result)]
    elif before[1] % after[1] == 0 and before[1] // after[1] == before[2] // after[2] > 1:
        block = before[1] // after[1]
        each = cells.reshape(before[0], after[1], block, after[2], block).transpose(2, 4, 0, 1, 3).reshape(after)
        order = _order(each[:, 0, 0], moved[:, 0, 0])
        if order is None or not np.array_equal(each[order], moved):
            return False
        _unlink(chain)
        deep = gs.Variable(f"{name}/depth", dtype=np.float32)
        nodes = [
            gs.Node("SpaceToDepth", deep.name, {"blocksize": block}, [source], [deep]),
            _gather(f"{name}/channels", deep, order, result),
        ]
    elif after[1] % before[1] == 0 and after[1] // before[1] == after[2] // before[2] > 1:
        block = after[1] // before[1]
        # DepthToSpace (CRD) of channels in the order that makes it right.
        wanted = moved[:, :block, :block].reshape(-1) // (before[1] * before[2])
        ordered = cells[wanted].reshape(after[0], block, block, before[1], before[2])
        if sorted(wanted) != list(range(before[0])) or not np.array_equal(
            ordered.transpose(0, 3, 1, 4, 2).reshape(after), moved
        ):
            return False
        _unlink(chain)
        ready = gs.Variable(f"{name}/ordered", dtype=np.float32)
        nodes = [
            _gather(f"{name}/channels", source, wanted, ready),
            gs.Node("DepthToSpace", f"{name}/space", {"blocksize": block, "mode": "CRD"}, [ready], [result]),
        ]
    else:
        return False
    graph.nodes.extend(nodes)
    return True


def _unlink(chain: tuple[gs.Node, gs.Node, gs.Node]) -> None:
    for node in chain:
        node.inputs.clear()
        node.outputs.clear()


def _order(have: np.ndarray, want: np.ndarray) -> np.ndarray | None:
    """Indices with have[indices] == want."""
    place = {int(value): index for index, value in enumerate(have)}
    if not all(int(value) in place for value in want):
        return None
    return np.array([place[int(value)] for value in want])


def _gather(name: str, source: gs.Variable, order: np.ndarray, result: gs.Variable) -> gs.Node:
    index = gs.Constant(f"{name}/index", np.asarray(order, np.int64))
    return gs.Node("Gather", name, {"axis": 1}, [source, index], [result])
