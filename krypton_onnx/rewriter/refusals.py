"""What no rewritten model can hold: the names that the rewriter gives itself, and control flow on the image."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from krypton_onnx.errors import NotRewritable
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD


def refuse_reserved_names(graph: gs.Graph, unoccluded: str) -> None:
    """Raises NotRewritable where a tensor has a name that the rewriter gives."""
    reserved = {ORIGIN, PATCH, THRESHOLD}
    taken = sorted(
        name for name in graph.tensors() if name in reserved or name.startswith((unoccluded, "krypton/", "view/"))
    )
    if taken:
        raise NotRewritable(f"the model names a tensor '{taken[0]}', a name of the rewritten model: rename it")


def refuse_control_flow(node: gs.Node, changed: Mapping | set) -> None:
    """Raises NotRewritable where a subgraph of the node, or what selects it, reads what an occlusion changes."""
    for attribute in node.attrs.values():
        if not isinstance(attribute, gs.Graph):
            continue
        if (_names_read(attribute) | {tensor.name for tensor in node.inputs}) & set(changed):
            raise NotRewritable(
                f"{node.op} node '{node.name}' depends on the image: control flow is not supported in this version"
            )


def _names_read(graph: gs.Graph) -> set[str]:
    """Names of all that a subgraph reads, however deep: its own tensors, and those around it."""
    names = {tensor.name for tensor in graph.outputs}
    for node in graph.nodes:
        names.update(tensor.name for tensor in node.inputs)
        for attribute in node.attrs.values():
            if isinstance(attribute, gs.Graph):
                names |= _names_read(attribute)
    return names
