"""What `explain` tells people of a map, on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from krypton_onnx.cli import options

if TYPE_CHECKING:
    from krypton_onnx import Explanation, ExplanationSpec, HeatMap


def tell(explanation: Explanation) -> None:
    """One map, in several lines: what the model said, what that depends on, and how it was found out."""
    heat_map = explanation.heat_map
    for target in heat_map.targets:
        typer.echo(_said(explanation, target))
        worst = _worst(heat_map, target)
        if worst:
            typer.echo(worst)
    typer.echo(f"image: {'; '.join(explanation.steps)}")
    typer.echo(f"hidden by: {hidden_by(explanation.spec)}")
    done = heat_map.computed.size if heat_map.complete else int(heat_map.computed.sum())
    seconds = max(explanation.seconds, 1e-3)
    typer.echo(f"{done:,} positions in {seconds:.2f} s ({done / seconds:,.0f} a second), {heat_map.mode}")
    if heat_map.mode == "approximate":
        share = heat_map.computed.mean()
        others = "" if heat_map.computed.all() else ", the others interpolated"
        typer.echo(f"{share:.0%} of the positions computed{others}; {_quality(heat_map)}")
    if heat_map.note:
        typer.echo(heat_map.note)


def in_a_line(explanation: Explanation, written: Sequence[str]) -> str:
    """One map of many. written : the names of its files."""
    said = ", ".join(_said(explanation, target) for target in explanation.heat_map.targets)
    note = f" ({explanation.heat_map.note})" if explanation.heat_map.note else ""
    where = f" -> {', '.join(written)}" if written else ""
    return f"{explanation.source}: {said}{note}{where}"


def hidden_by(spec: ExplanationSpec) -> str:
    """The fill in words, with what its numbers are, and the patch: "0 (in the model's numbers), 16 x 16"."""
    space = "pixel values" if spec.fill_space == "pixel" else "in the model's numbers"
    fills = spec.fill if isinstance(spec.fill, tuple) else (spec.fill,)
    numbers = any(not isinstance(fill, str) for fill in fills)
    samples = f" ({spec.fill_samples} samples)" if "surroundings" in fills else ""
    height, width = spec.patch if isinstance(spec.patch, tuple) else (spec.patch, spec.patch)
    shape = "" if spec.patch_shape == "rectangle" else f" {Path(spec.patch_shape).name}"
    return (
        f"{options.fill_words(spec.fill)}{f' ({space})' if numbers else ''}{samples}, patch {height} x {width}{shape}"
    )


def _said(explanation: Explanation, target: int) -> str:
    heat_map = explanation.heat_map
    baseline = heat_map.baseline[heat_map.index_of(target)]
    return f"{explanation.name_of(target)}: {heat_map.score_name} {baseline:.4g}"


def _worst(heat_map: HeatMap, target: int) -> str:
    """Where hiding the patch costs most; nothing where no score is a number."""
    for worst in heat_map.extremes(target):
        return (
            f"most it drops: to {worst.score:.4g}, where rows {worst.top} to {worst.bottom - 1} "
            f"and columns {worst.left} to {worst.right - 1} are hidden"
        )
    return ""


def _quality(heat_map: HeatMap) -> str:
    if heat_map.estimated_ssim is None:
        return "its quality is not estimated"
    expected = "" if heat_map.expected_ssim is None else f" (expected from tuning: {heat_map.expected_ssim:.2f})"
    return f"estimated SSIM {heat_map.estimated_ssim:.2f}{expected}"
