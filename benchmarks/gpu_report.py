"""What was measured on a GPU: JSON for later, Markdown for people, and whether the aims of the project hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from gpu_kernel_report import kernel_sections
from gpu_place import GpuPlace
from report import table
from zoo_report import NO_SLOWER

FORMAT = 1
CHOSEN = "auto"
WAYS = {"window": "window", "fused": "fused", CHOSEN: "chosen"}
AIM = {"vgg16": 4.0}  # least speedup, of models whose name begins so
MEGABYTE = 1e6

SPEED = (
    "model", "input px", "positions", "true R", "naive ms/position (batch)", "window", "fused", "chosen", "speedup",
    "range", "device ms", "forms chosen", "first map s", "difference", "allowed",
)  # fmt: skip
COSTS = (
    "model", "MB naive", "MB chosen", "ratio", "MB fused", "runs a map", "our launches", "all launches",
    "their host ms", "GPU busy", "kB sent", "kB fetched", "where the time goes",
)  # fmt: skip
APPROXIMATE = ("model", "ms/position", "speedup", "SSIM", "computed", "tuning s")
AIMS = ("model", "exact", "speedup", "not slower", "memory under naive's")


@dataclass(frozen=True)
class ModelResult:
    """One model, as merged from its jobs' results (gpu_models.job, gpu_memory.job)."""

    values: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.values["model"])

    def way(self, way: str) -> dict[str, Any]:
        """What was found of this way; {"failed": ...} where it was not timed."""
        return dict(self.values.get("ways", {}).get(way, {"failed": "not reached"}))

    def wall(self, way: str, clock: str = "wall") -> list[float]:
        """Milliseconds a position, one a round; empty where not timed."""
        return list(self.values.get("times", {}).get(way, {}).get(clock, []))

    def ratios(self, way: str) -> list[float]:
        """Full inference over this way, paired: one a round."""
        return [naive / ours for naive, ours in zip(self.wall("naive"), self.wall(way), strict=False)]

    def speedup(self, way: str = CHOSEN) -> float | None:
        """The median of the paired ratios; None where not timed."""
        ratios = self.ratios(way)
        return median(ratios) if ratios else None

    @property
    def memory_ratio(self) -> float | None:
        """Ours over full inference's; None where not measured."""
        memory = self.values.get("memory", {})
        ours, naive = (memory.get(way, {}).get("peak_bytes") for way in (CHOSEN, "naive"))
        return ours / naive if ours and naive else None

    @property
    def aims(self) -> dict[str, bool | None]:
        """Whether each aim holds; None: not measured, or no aim of this model's."""
        ways = [self.way(way) for way in WAYS]
        exact = None if any(way.get("failed") == "not reached" for way in ways) else not any(
            way.get("failed") for way in ways
        )  # fmt: skip
        speedup, ratio = self.speedup(), self.memory_ratio
        least = next((least for name, least in AIM.items() if self.name.startswith(name)), None)
        return {
            "exact": exact,
            "speedup": None if least is None or speedup is None else speedup >= least,
            "not slower": None if speedup is None else speedup >= NO_SLOWER,
            "memory": None if ratio is None else ratio < 1,
        }

    @property
    def problems(self) -> list[str]:
        """What broke, in words."""
        found = [f"{WAYS[way]}: {self.way(way)['failed']}" for way in WAYS if self.way(way).get("failed")]
        found += [f"memory of {way}: {entry['failed']}" for way, entry in self.values.get("memory", {}).items()
                  if "failed" in entry]  # fmt: skip
        found += [f"not traced: {entry['untraced']}" for entry in self.values.get("overhead", {}).values()
                  if "untraced" in entry][:1]  # fmt: skip
        if "failed" in self.values.get("approximate", {}):
            found.append(f"approximate: {self.values['approximate']['failed']}")
        return found + [self.values[key] for key in ("failed",) if key in self.values]


@dataclass
class GpuReport:
    """Everything, filled as it comes. failed: reason by what failed. skipped: models that are not here, and how to get
    them. facts: what the kernels' jobs found beside kernels."""

    place: GpuPlace
    launch: dict[str, Any] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    kernels: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    simulated: bool = False

    @property
    def results(self) -> list[ModelResult]:
        return [ModelResult(values) for values in self.models]

    @property
    def good(self) -> bool:
        """Nothing failed, every kernel is right, every aim that was measured holds."""
        aims = all(holds is not False for result in self.results for holds in result.aims.values())
        kernels = all("failed" not in row and row["difference"] <= row["allowed"] for row in self.kernels)
        return aims and kernels and not self.failed and not any(result.problems for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "place": self.place.to_dict(), "simulated": self.simulated, "launch": self.launch,
            "models": [{**values, "aims": ModelResult(values).aims} for values in self.models],
            "kernels": self.kernels, "facts": self.facts, "failed": self.failed, "skipped": self.skipped,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GpuReport:
        """What to_dict gave, read from JSON. Raises ValueError for another format."""
        if values.get("format") != FORMAT:
            raise ValueError(f"the report has format {values.get('format')}, not {FORMAT}: measure anew")
        rest = {key: value for key, value in values.items() if key not in ("format", "place")}
        rest["models"] = [{k: v for k, v in model.items() if k != "aims"} for model in rest["models"]]
        return cls(GpuPlace.from_dict(values["place"]), **rest)

    def to_markdown(self) -> str:
        """Where, then a table for each question, then what failed."""
        place = self.place
        gpu = f"{place.gpu or 'a GPU of unknown name'}, driver {place.driver}, {place.memory_gb:.0f} GiB"
        lines = [f"{'Numba simulator, nothing is timed' if self.simulated else gpu}; {place.cores} cores, {place.cpu}; "
                 f"{place.date}.", "", ", ".join(f"{name} {version}" for name, version in place.versions.items()) + ".",
                 "", f"{place.tf32}."]  # fmt: skip
        lines += [f"- {name} cannot be used here: {why}" for name, why in place.missing.items()]
        lines += self._model_sections() + kernel_sections(self.kernels, self.facts, self.simulated)
        if self.launch:
            rows = [[key, f"{value:.2f}"] for key, value in self.launch.items()]
            lines += ["", "## Queueing from Python, microseconds", "", *table(("what", "us"), rows)]
        notes = [f"- {result.name}: {problem}" for result in self.results for problem in result.problems]
        notes += [f"- {result.name}: {result.way(CHOSEN)['note']}" for result in self.results
                  if result.way(CHOSEN).get("note")]  # fmt: skip
        notes += [f"- {name}: **failed**: {reason}" for name, reason in self.failed.items()]
        notes += [f"- {name}: not here: {how}" for name, how in self.skipped.items()]
        return "\n".join([*lines, *(["", "## Notes", ""] if notes else []), *notes]) + "\n"

    def _model_sections(self) -> list[str]:
        if not self.models:
            return []
        results = self.results
        lines = ["", "## Exact maps against full inference, by the clock", "",
                 *table(SPEED, [speed_row(result) for result in results]),
                 "", "## Memory, launches and copies of one map", "",
                 *table(COSTS, [cost_row(result) for result in results])]  # fmt: skip
        approximate = [result for result in results if "wall" in result.values.get("approximate", {})]
        if approximate:
            lines += ["", "## Approximate maps", "", *table(APPROXIMATE, [approximate_row(r) for r in approximate])]
        rows = [[result.name, *(_answer(holds) for holds in result.aims.values())] for result in results]
        return [*lines, "", "## Aims", "", *table(AIMS, rows)]


def _answer(holds: bool | None) -> str:
    return "" if holds is None else "yes" if holds else "**NO**"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def speed_row(result: ModelResult) -> list[str]:
    """As SPEED."""
    values, chosen = result.values, result.way(CHOSEN)
    naive, ratios = result.wall("naive"), result.ratios(CHOSEN)

    def cell(way: str) -> str:
        times = result.wall(way)
        return f"{median(times):.3f}" if times else "failed"

    return [
        result.name, "x".join(map(str, values.get("sides", []))), str(values.get("positions", "")),
        _number(chosen.get("true_r"), ".2f"),
        f"{median(naive):.3f} ({values['naive_batch']})" if naive else "", *(cell(way) for way in WAYS),
        f"**{median(ratios):.2f}**" if ratios else "", f"{min(ratios):.2f} - {max(ratios):.2f}" if ratios else "",
        _number(median(result.wall(CHOSEN, "device")) if ratios else None, ".3f"),
        ", ".join(f"{number} {form}" for form, number in sorted(chosen.get("forms", {}).items())),
        _number(chosen.get("first_map_s"), ".1f"), _number(chosen.get("difference"), ".1e"),
        _number(chosen.get("allowed"), ".1e"),
    ]  # fmt: skip


def cost_row(result: ModelResult) -> list[str]:
    """As COSTS."""
    memory = result.values.get("memory", {})
    naive, ours, fused = (memory.get(way, {}).get("peak_bytes") for way in ("naive", CHOSEN, "fused"))
    costs = result.values.get("overhead", {}).get(CHOSEN, {})
    trace = costs.get("trace", {})
    whole = sum(trace.get("device_us", {}).values())
    shares = [f"{name} {100 * us / whole:.0f} %" for name, us in trace.get("device_us", {}).items()] if whole else []
    launches = costs.get("our_launches")
    return [
        result.name, _number(naive and naive / MEGABYTE, ".0f"), _number(ours and ours / MEGABYTE, ".0f"),
        _number(result.memory_ratio, ".2f"), _number(fused and fused / MEGABYTE, ".0f"),
        _number(costs.get("runs"), "d"),
        "" if launches is None else str(sum(launches.values())), _number(trace.get("launches"), "d"),
        _number(costs.get("our_host_ms"), ".1f"),
        f"{100 * trace['busy_us'] / trace['span_us']:.0f} %" if trace.get("span_us") else "",
        _number(costs["sent_bytes"] / 1e3 if "sent_bytes" in costs else None, ".0f"),
        _number(costs["fetched_bytes"] / 1e3 if "fetched_bytes" in costs else None, ".0f"), ", ".join(shares),
    ]  # fmt: skip


def approximate_row(result: ModelResult) -> list[str]:
    """As APPROXIMATE."""
    found, naive = result.values["approximate"], result.wall("naive")
    wall = median(found["wall"])
    return [
        result.name, f"{wall:.3f}", f"**{median(naive) / wall:.1f}**" if naive else "", f"{found['ssim']:.3f}",
        f"{100 * found['computed']:.1f} %", f"{found['tuning_s']:.1f}",
    ]  # fmt: skip
