"""Model-local functions: the ONNX text of an ai.krypton operator is its definition.

Every operator family keeps its texts beside its rewriting rule (operators/*.py); here they are parsed for one opset
and collected with the functions that they call.
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
    """One body of an operator: its name, its overload ("" for the plain one) and its ONNX text."""

    op_type: str
    overload: str
    text: str

    def parse(self, opset: int) -> onnx.FunctionProto:
        header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}, "{DOMAIN}" : {VERSION}]>\n'
        function = parser.parse_function(header + self.text)
        function.overload = self.overload
        return function


def functions_for(
    nodes: Iterable[onnx.NodeProto], texts: Iterable[FunctionText], opset: int
) -> list[onnx.FunctionProto]:
    """The functions that `nodes` need, nested ones included, for a model of this opset."""
    known = {(text.op_type, text.overload): text for text in texts}
    parsed: dict[tuple[str, str], onnx.FunctionProto] = {}
    wanted = [(node.op_type, node.overload) for node in nodes if node.domain == DOMAIN]
    while wanted:
        key = wanted.pop()
        if key not in parsed:
            parsed[key] = known[key].parse(opset)
            wanted += [(node.op_type, node.overload) for node in parsed[key].node if node.domain == DOMAIN]
    return [parsed[key] for key in sorted(parsed)]
