"""The operators that stay incremental: the Markdown table of docs/operators.md, from the rewriting rules themselves.

    python benchmarks/operator_table.py [--check FILE]

--check: exit code 1 where FILE does not hold this table.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path

from report import table

from krypton_onnx.rewriter.operators import HANDLERS


def operator_table() -> str:
    """A row a rule: the ONNX operators it takes, and what the rule says of them."""
    rules: dict = {}
    for op, rule in HANDLERS.items():
        rules.setdefault(rule, []).append(op)
    rows = [[", ".join(sorted(operators)), _meaning(rule)] for rule, operators in rules.items()]
    lines = table(["operators", "what is incremental"], sorted(rows, key=lambda row: row[0]))
    return "\n".join([lines[0], "| --- | --- |", *lines[2:]])


def _meaning(rule: object) -> str:
    text = " ".join((inspect.getdoc(rule) or "").split())
    return text.split(" Raises NotIncremental")[0].rstrip(".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    made = operator_table()
    if arguments.check is None:
        print(made)
    elif made not in arguments.check.read_text(encoding="utf-8"):
        sys.exit(f"{arguments.check} does not hold the table of the rules: run this without --check and put it there")


if __name__ == "__main__":
    main()
