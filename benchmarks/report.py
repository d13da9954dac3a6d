"""What was measured, and how it is shown: Markdown for people, JSON for later comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

FORMAT = 2
QUIET = 0.05  # other work below this share does not matter


@dataclass(frozen=True)
class Environment:
    """Where it was measured. kernels: False where there was no C compiler, and all runs on the function bodies."""

    onnxruntime: str
    cores: int
    cpu: str
    kernels: bool
    date: str
    gemm_peak: float = 0.0  # billions of multiply-adds a second, float32, all cores, by BLAS
    amx: bool = False  # whether our products use Intel AMX


@dataclass(frozen=True)
class Difference:
    """The largest difference from full inference at so many positions, and what the contract allows."""

    largest: float
    allowed: float
    positions: int

    @property
    def within(self) -> bool:
        return self.largest <= self.allowed


@dataclass(frozen=True)
class Measurement:
    """One model. Times are milliseconds a position, one a round; ratios are of the medians.

    sides: (height, width) of the image. naive_probe: milliseconds by batch size, in the search for the best.
    naive_positions, bodies_share: how much was measured of what is scaled to the whole grid.
    other_work: share of the machine's time that other processes had meanwhile; None where it is not known.
    differences: by the scores compared. peak_mb: by mode. first_progress_s: of exact mode in a fresh process.
    bodies_load_s: to rewrite the model and make its sessions in stock ONNX Runtime.
    cold_start_s: as first_progress_s, with no kernel compiled yet; None where it was not measured.
    multiply_adds: of a position, as the batches compute it, convolutions only. stages: part of exact mode -> share of
    the workers' time.
    """

    model: str
    file: str
    sides: tuple[int, int]
    patch: tuple[int, int]
    stride: tuple[int, int]
    positions: int
    batches: int
    true_r: float
    achieved_r: float
    incremental_share: float
    naive_batch: int
    naive_probe: dict[int, float]
    naive: tuple[float, ...]
    exact: tuple[float, ...]
    bodies: tuple[float, ...]
    other_work: float | None
    naive_positions: int
    bodies_share: float
    differences: dict[str, Difference]
    peak_mb: dict[str, float]
    imports_mb: float
    first_progress_s: float
    bodies_load_s: float
    seconds: float
    cold_start_s: float | None = None
    multiply_adds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def naive_ms(self) -> float:
        return median(self.naive)

    @property
    def exact_ms(self) -> float:
        return median(self.exact)

    @property
    def bodies_ms(self) -> float:
        return median(self.bodies)

    @property
    def rate(self) -> float:
        """Billions of multiply-adds a second, as plain convolutions of the regions would need them."""
        return self.multiply_adds / self.exact_ms / 1e6

    @property
    def speedup(self) -> float:
        return self.naive_ms / self.exact_ms

    @property
    def bodies_speedup(self) -> float:
        return self.naive_ms / self.bodies_ms

    @property
    def speedup_range(self) -> tuple[float, float]:
        """The lowest and the highest ratio within one round: how much the machine's noise could matter."""
        ratios = [naive / exact for naive, exact in zip(self.naive, self.exact, strict=True)]
        return min(ratios), max(ratios)

    @property
    def exact_is_exact(self) -> bool:
        return all(difference.within for difference in self.differences.values())

    def to_dict(self) -> dict[str, Any]:
        derived = (
            "rate", "naive_ms", "exact_ms", "bodies_ms", "speedup", "speedup_range", "bodies_speedup", "exact_is_exact",
        )  # fmt: skip
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


@dataclass(frozen=True)
class Report:
    """Everything: skipped and failed are (model, reason)."""

    environment: Environment
    measurements: Sequence[Measurement]
    skipped: Sequence[tuple[str, str]] = ()
    failed: Sequence[tuple[str, str]] = ()

    @property
    def good(self) -> bool:
        """Nothing failed, and every model is exact."""
        return not self.failed and all(measurement.exact_is_exact for measurement in self.measurements)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "environment": asdict(self.environment),
            "models": [measurement.to_dict() for measurement in self.measurements],
            "skipped": [{"model": name, "how": how} for name, how in self.skipped],
            "failed": [{"model": name, "reason": reason} for name, reason in self.failed],
        }

    def to_markdown(self) -> str:
        """Two tables, speed and checks; then what is not in them, and why."""
        place = self.environment
        lines = [
            f"ONNX Runtime {place.onnxruntime}, {place.cores} cores, {place.cpu}; {place.date}."
            + ("" if place.kernels else " **Without our kernels: no C compiler when it was built.**")
        ]
        if self.measurements:
            lines += ["", *table(SPEED, [speed_row(row) for row in self.measurements])]
            lines += ["", *table(CHECKS, [checks_row(row) for row in self.measurements])]
            timed = [row for row in self.measurements if row.stages]
            if timed:
                header = ("model", "multiply-adds a position", "a second", "share of GEMM peak", *timed[0].stages)
                lines += ["", f"GEMM peak: {place.gemm_peak:.0f} billion multiply-adds a second (float32, BLAS, all "
                          f"cores); our products {'use' if place.amx else 'do not use'} Intel AMX."]  # fmt: skip
                lines += ["", *table(header, [stages_row(row, place.gemm_peak) for row in timed])]
        disturbed = [row.model for row in self.measurements if (row.other_work or 0) > QUIET]
        if disturbed or self.skipped or self.failed:
            lines.append("")
        if disturbed:
            lines.append(f"- other processes were working: measure again, alone: {', '.join(disturbed)}")
        lines += [f"- {name}: skipped. To get it: {how}" for name, how in self.skipped]
        lines += [f"- {name}: **failed**: {reason}" for name, reason in self.failed]
        return "\n".join(lines) + "\n"


SPEED = (
    "model", "input px", "positions", "true R", "achieved R", "naive ms/position (batch)", "exact ms/position",
    "speedup", "range", "bodies ms/position", "bodies speedup", "rounds", "other work",
)  # fmt: skip
CHECKS = (
    "model", "largest difference", "allowed", "logits differ", "allowed", "exact", "incremental share",
    "peak MB exact", "peak MB naive, batch 16", "ratio", "first progress s", "cold start s", "bodies load s",
)  # fmt: skip


def speed_row(row: Measurement) -> list[str]:
    low, high = row.speedup_range
    return [
        row.model, "{} x {}".format(*row.sides), str(row.positions), f"{row.true_r:.2f}", f"{row.achieved_r:.2f}",
        f"{row.naive_ms:.2f} ({row.naive_batch})", f"{row.exact_ms:.2f}", f"**{row.speedup:.2f}**",
        f"{low:.2f} - {high:.2f}", f"{row.bodies_ms:.2f}", f"{row.bodies_speedup:.2f}", str(len(row.exact)),
        "?" if row.other_work is None else f"{100 * row.other_work:.0f} %",
    ]  # fmt: skip


def checks_row(row: Measurement) -> list[str]:
    def shown(name: str) -> list[str]:
        difference = row.differences.get(name)
        return ["", ""] if difference is None else [f"{difference.largest:.1e}", f"{difference.allowed:.1e}"]

    exact, naive = row.peak_mb["exact"], row.peak_mb["naive"]
    return [
        row.model, *shown("output"), *shown("logit"), "yes" if row.exact_is_exact else "**NO**",
        f"{100 * row.incremental_share:.1f} %", f"{exact:.0f}", f"{naive:.0f}", f"{exact / naive:.2f}",
        f"{row.first_progress_s:.1f}", "" if row.cold_start_s is None else f"{row.cold_start_s:.1f}",
        f"{row.bodies_load_s:.1f}",
    ]  # fmt: skip


def stages_row(row: Measurement, gemm_peak: float) -> list[str]:
    shares = [f"{100 * share:.1f} %" for share in row.stages.values()]
    peak = f"{100 * row.rate / gemm_peak:.0f} %" if gemm_peak else "?"
    return [row.model, f"{row.multiply_adds / 1e6:.0f} M", f"{row.rate:.0f} G", peak, *shares]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table: names to the left, numbers to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]
