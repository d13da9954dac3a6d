"""What stays incremental of each exporter's test networks: the Markdown tables of docs/operators.md.

    python benchmarks/coverage_tables.py [--check FILE]

Reads tests/exported/*.onnx (tests/exporters says where they come from) and the old graphs that ship in the onnx
package, and runs nothing. --check: exit code 1 where FILE does not hold these tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx.backend.test
from report import table

import krypton_onnx as kx

EXPORTED = Path(__file__).parents[1] / "tests" / "exported"
OLD_GRAPHS = Path(onnx.backend.test.__file__).parent / "data" / "light"
EXPORTERS = {
    "torch_*": "PyTorch, TorchScript",
    "torch_*_fixed": "TorchScript, batch 1",
    "torch_*_dynamo": "PyTorch, dynamo",
    "torch_*_dynamo_fixed": "dynamo, batch 1",
    "keras_*": "Keras",
    "tf2onnx_*_fixed": "tf2onnx, batch 1",
}
SMALL, PHOTO = ((8, 4), (16, 16))  # patch and stride; shares do not depend on them


@dataclass(frozen=True)
class Coverage:
    """One file. share: of the convolution multiply-adds, 0 to 1; None where the model is refused. ends: operator and
    reason, each once."""

    share: float | None
    ends: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Rounded down, so that 100 % means all."""
        return "refused" if self.share is None else f"{int(1000 * self.share) / 10:.1f} %"


def coverage(path: Path, patch: int, stride: int) -> Coverage:
    """Of one model."""
    try:
        inspection = kx.inspect(path, patch, stride)
    except kx.KryptonError as error:
        return Coverage(None, (f"refused: {error}",))
    return Coverage(inspection.incremental_share, ends(inspection))


def ends(inspection: kx.Inspection) -> tuple[str, ...]:
    """Where and why the incremental part ends, each operator and reason once: names of nodes say little in a table."""
    found = [f"{row.split(' ', 1)[0]}: {row.split(': ', 1)[1]}" for row in inspection.end_reasons]
    return tuple(dict.fromkeys(found))


def network_of(stem: str) -> str:
    """'mobile' of 'torch_mobile_dynamo'."""
    return stem.split("_")[1]


def reasons(covered: Iterable[tuple[str, Coverage]]) -> list[str]:
    """A list: each end, and the models that have it."""
    where: dict[str, list[str]] = {}
    for name, found in covered:
        for end in found.ends:
            names = where.setdefault(end, [])
            if name not in names:
                names.append(name)
    return [f"- {end} ({', '.join(names)})" for end, names in sorted(where.items())]


def of_exporters(folder: Path = EXPORTED) -> list[str]:
    """Lines: a row a network, a column an exporter, then where and why they end."""
    found = {path.stem: coverage(path, *SMALL) for path in sorted(folder.glob("*.onnx"))}
    networks = sorted({network_of(stem) for stem in found})
    rows = [
        [network, *(found[stem].shown if (stem := key.replace("*", network)) in found else "" for key in EXPORTERS)]
        for network in networks
    ]
    lines = table(("network", *EXPORTERS.values()), rows)
    return [*lines, "", "Where the incremental part ends, and why:", "",
            *reasons((network_of(stem), one) for stem, one in found.items())]  # fmt: skip


def of_old_graphs(folder: Path = OLD_GRAPHS) -> list[str]:
    """Lines: a row a graph."""
    found = {path.stem: coverage(path, *PHOTO) for path in sorted(folder.glob("*.onnx"))}
    return table(
        ("graph", "incremental", "ends at"), [[name, one.shown, "; ".join(one.ends)] for name, one in found.items()]
    )


def document() -> str:
    """Both tables."""
    return "\n".join([*of_exporters(), "", *of_old_graphs()]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", type=Path, metavar="FILE", help="a document that should hold these tables")
    chosen = parser.parse_args(arguments)
    text = document()
    if chosen.check is None:
        print(text, end="")
        return 0
    if text not in chosen.check.read_text():
        print(
            f"{chosen.check}: its tables are not those of benchmarks/coverage_tables.py: run it again", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
