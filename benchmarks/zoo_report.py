"""What was measured of common classifiers, as one table (zoo.py)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from report import QUIET, Difference, Environment, table

FORMAT = 1
ALL = 0.99  # an incremental share from here on needs no explanation
NO_SLOWER = 0.95  # least speedup that counts as not slower than full inference


@dataclass(frozen=True)
class ZooRow:
    """One model. Times are milliseconds a position, one a round.

    origin: library, model and exporter. sides: (height, width) of the image. multiply_adds: of one full inference,
    convolutions only. ends: where and why the incremental part ends. note: what the map says of how it was made.
    """

    model: str
    origin: str
    sides: tuple[int, int]
    patch: int
    stride: int
    positions: int
    multiply_adds: int
    true_r: float
    achieved_r: float
    incremental_share: float
    ends: tuple[str, ...]
    naive_batch: int
    naive: tuple[float, ...]
    exact: tuple[float, ...]
    difference: Difference
    note: str = ""
    other_work: float | None = None
    seconds: float = 0.0

    @property
    def ratios(self) -> tuple[float, ...]:
        """Full inference over exact maps, paired: one a round."""
        return tuple(naive / exact for naive, exact in zip(self.naive, self.exact, strict=True))

    @property
    def speedup(self) -> float:
        """The median of the paired ratios."""
        return median(self.ratios)

    @property
    def cells(self) -> list[str]:
        """Of the table, as HEADER."""
        share = int(1000 * self.incremental_share) / 10  # down: 100 % means all
        ratios = self.ratios
        return [
            self.model, "{} x {}".format(*self.sides), f"{self.multiply_adds / 1e6:.0f} M", f"{self.true_r:.2f}",
            f"{self.achieved_r:.2f}", f"{share:.1f} %", f"{median(self.naive):.2f} ({self.naive_batch})",
            f"{median(self.exact):.2f}", f"**{self.speedup:.2f}**", f"{min(ratios):.2f} - {max(ratios):.2f}",
            f"{self.positions} ({self.stride})", "yes" if self.difference.within else "**NO**",
        ]  # fmt: skip


HEADER = (
    "model", "input px", "multiply-adds", "true R", "achieved R", "incremental", "naive ms/position (batch)",
    "exact ms/position", "speedup", "range", "positions (stride)", "exact",
)  # fmt: skip


@dataclass(frozen=True)
class ZooReport:
    """Everything. failed: reason by model."""

    environment: Environment
    rows: tuple[ZooRow, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def with_row(self, row: ZooRow) -> ZooReport:
        return replace(self, rows=(*self.rows, row))

    def with_failure(self, model: str, reason: str) -> ZooReport:
        return replace(self, failed={**self.failed, model: reason})

    @property
    def names(self) -> set[str]:
        """Models that were measured; those that failed are worth another try."""
        return {row.model for row in self.rows}

    @property
    def slower(self) -> list[ZooRow]:
        return [row for row in self.rows if row.speedup < NO_SLOWER]

    @property
    def good(self) -> bool:
        """Nothing failed, every model is exact, none is slower than full inference."""
        return not (self.failed or self.slower or any(not row.difference.within for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        rows = [{**asdict(row), "ratios": row.ratios, "speedup": row.speedup} for row in self.rows]
        return {"format": FORMAT, "environment": asdict(self.environment), "models": rows, "failed": self.failed}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ZooReport:
        """What to_dict gave, read from JSON; failures are left out. Raises ValueError for another format."""
        if values.get("format") != FORMAT:
            raise ValueError(f"the report has format {values.get('format')}, not {FORMAT}: measure anew")
        rows = []
        for entry in values["models"]:
            known = {key: value for key, value in entry.items() if key not in ("ratios", "speedup")}
            lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
            rows.append(ZooRow(**{**known, **lists, "difference": Difference(**known["difference"])}))
        return cls(Environment(**values["environment"]), tuple(rows))

    def to_markdown(self) -> str:
        """A line of the place, the table from the fastest to the slowest, and what needs words."""
        place = self.environment
        rows = sorted(self.rows, key=lambda row: -row.speedup)
        lines = [f"ONNX Runtime {place.onnxruntime}, {place.cores} cores, {place.cpu}; {place.date}."]
        if not place.kernels:
            lines[0] += " **Without our kernels: no C compiler when it was built.**"
        if rows:
            whole = sum(row.incremental_share >= ALL for row in rows)
            lines += ["", *table(HEADER, [row.cells for row in rows]), "",
                      f"{len(rows)} models; at least {100 * ALL:.0f} % incremental: {whole}; "
                      f"median speedup {median(row.speedup for row in rows):.2f}."]  # fmt: skip
        partial = [row for row in rows if row.incremental_share < ALL]
        if partial:
            lines += ["", f"Less than {100 * ALL:.0f} % incremental, and where it ends:", ""]
            lines += [f"- {row.model}, {row.cells[5]}: {'; '.join(row.ends)}" for row in partial]
        notes = [f"- {row.model}: {row.note}" for row in rows if row.note]
        notes += [f"- {row.model}: **slower than full inference** ({row.speedup:.2f})" for row in self.slower]
        notes += [f"- {row.model}: other processes were working: measure again, alone"
                  for row in rows if (row.other_work or 0) > QUIET]  # fmt: skip
        notes += [f"- {name}: **failed**: {reason}" for name, reason in self.failed.items()]
        return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"
