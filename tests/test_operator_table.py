"""docs/operators.md lists the operators as the rules have them."""

import sys
from pathlib import Path

from krypton_onnx.rewriter.operators import HANDLERS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from operator_table import operator_table  # noqa: E402

DOCUMENT = ROOT / "docs" / "operators.md"


def test_the_document_holds_the_table_of_the_rules() -> None:
    assert operator_table() in DOCUMENT.read_text(encoding="utf-8")


def test_every_operator_has_a_rule_that_says_what_it_means() -> None:
    table = operator_table()
    assert all(f" {op}" in table for op in HANDLERS)
    assert all(len(row.split("|")[2].strip()) > 8 for row in table.splitlines()[2:])
