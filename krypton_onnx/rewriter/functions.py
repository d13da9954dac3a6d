"""Model-local functions: the ONNX text of an ai.krypton operator is its definition.

Every operator family keeps its texts beside its rewriting rule (operators/*.py); here they are parsed for one opset
and collected with the functions that they call.

What a body does is told by its name alone (IncrementalConvAddRelu), not by an overload of one name: ONNX Runtime before
1.27 ignores overloads and silently runs the first body it finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import parser

DOMAIN = "ai.krypton"
VERSION = 1


@dataclass(frozen=True)
class FunctionText:
    """An operator: its name and its body as ONNX text."""

    op_type: str
    text: str

    def parse(self, opset: int) -> onnx.FunctionProto:
        header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}, "{DOMAIN}" : {VERSION}]>\n'
        return parser.parse_function(header + self.text)


def functions_for(
    nodes: Iterable[onnx.NodeProto], texts: Iterable[FunctionText], opset: int
) -> list[onnx.FunctionProto]:
    """The functions that `nodes` need, nested ones included, for a model of this opset."""
    known = {text.op_type: text for text in texts}
    parsed: dict[str, onnx.FunctionProto] = {}
    wanted = [node.op_type for node in nodes if node.domain == DOMAIN]
    while wanted:
        name = wanted.pop()
        if name not in parsed:
            parsed[name] = known[name].parse(opset)
            wanted += [node.op_type for node in parsed[name].node if node.domain == DOMAIN]
    return [parsed[name] for name in sorted(parsed)]
