"""Tables and figures of docs/quality.md from what quality.py measured.

    python benchmarks/quality_report.py quality.json --cache maps --figures docs
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

SHOWN = ("coffee", "chelsea", "astronaut", "camera")  # images of the side-by-side figure, the first that is there
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito's, for the colour-blind


def summary(models: dict[str, Any], min_ssim: float = 0.9) -> str:
    """One row a model."""
    lines = [
        "| model | score | images (sources) | speedup over naive: median | lowest to highest | SSIM: median | lowest "
        "| at least 0.9 | computed | completed exactly | estimate's error: median, largest |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, model in models.items():
        images = model["images"]
        speed, alike = (np.array([image[key] for image in images]) for key in ("speedup", "ssim"))
        error = np.abs([image["estimated"] - image["ssim"] for image in images])
        lines.append(
            f"| {name} | {model['score']} | {len(images)} ({len({image['source'] for image in images})}) "
            f"| **{np.median(speed):.1f}** | {speed.min():.1f}-{speed.max():.1f} | {np.median(alike):.3f} "
            f"| {alike.min():.3f} | {(alike >= min_ssim).mean():.0%} "
            f"| {np.mean([image['computed'] for image in images]):.0%} "
            f"| {sum(image['completed_exactly'] for image in images)} "
            f"| {np.median(error):.3f}, {error.max():.3f} |"
        )
    return "\n".join(lines)


def per_image(model: dict[str, Any]) -> str:
    """The leave-one-out table of one model."""
    lines = ["| image | SSIM | estimated | expected | computed | speedup | seconds |", "|---|---|---|---|---|---|---|"]
    for image in model["images"]:
        expected = "" if image["expected"] is None else f"{image['expected']:.3f}"
        lines.append(
            f"| {image['image']} | {image['ssim']:.3f} | {image['estimated']:.3f} | {expected} "
            f"| {image['computed']:.0%} | {image['speedup']:.1f} | {image['seconds']:.2f} |"
        )
    return "\n".join(lines)


def rungs(model: dict[str, Any]) -> str:
    """The ablation: every fidelity's ladder, where its mean SSIM first reaches 0.9, and the policy's choice."""
    lines = [
        "| fidelity | its map alone | SSIM and speedup over exact maps, by rung (levels of the lattices) |",
        "|---|---|---|",
    ]
    for one in model["ladders"]:
        kind = "exact" if not one["light"] else "light" if one["reach"] is None else f"light, reach {one['reach']:g}"
        kind = f"frozen, {kind}" if one.get("frozen") else kind
        steps = ", ".join(
            f"{'/'.join('-' if level is None else f'{level:g}' for level in rung)}: {alike:.3f} {speed:.1f}x"
            for rung, alike, speed in zip(one["rungs"], one["ssim"], one["speedup"], strict=True)
            if alike >= 0.8
        )
        lines.append(f"| {kind} | {one['alone']:.3f} | {steps} |")
    return "\n".join(lines)


def draw_calibration(models: dict[str, Any], path: Path) -> None:
    """The estimate against the truth, over all images."""
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    for colour, (name, model) in zip(COLOURS, models.items(), strict=False):
        axes.scatter(
            [image["estimated"] for image in model["images"]], [image["ssim"] for image in model["images"]],
            s=18, color=colour, label=name,
        )  # fmt: skip
    low = min(axes.get_xlim()[0], axes.get_ylim()[0])
    axes.plot([low, 1], [low, 1], color="0.5", linewidth=1)
    axes.axhline(0.9, color="0.5", linewidth=1, linestyle=":")
    axes.set(xlabel="SSIM estimated for the image", ylabel="SSIM of the map", xlim=(low, 1), ylim=(low, 1))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_curve(models: dict[str, Any], path: Path) -> None:
    """SSIM against speed: what tuning for other promises gives, in exact maps' time."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for colour, (name, model) in zip(COLOURS, models.items(), strict=False):
        points = model["curve"]
        axes.plot(
            [point["speedup"] for point in points], [point["ssim"] for point in points], "o-", color=colour,
            markersize=4, label=name,
        )  # fmt: skip
    axes.set(xlabel="speedup over exact maps (by the work)", ylabel="mean SSIM of images left out")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_maps(models: dict[str, Any], cache: Path, path: Path) -> None:
    """Exact and approximate maps side by side, one image a model."""
    figure, rows = plt.subplots(len(models), 3, figsize=(9, 2.9 * len(models)), layout="constrained", squeeze=False)
    for axes, (name, model) in zip(rows, models.items(), strict=True):
        image = next((one for wanted in SHOWN for one in model["images"] if one["image"] == wanted), model["images"][0])
        exact = np.load(cache / f"{name}-{image['image']}-None-False.npy")
        approximate = np.load(cache / f"{name}-{image['image']}-approximate.npy")
        low, high = exact.min(), exact.max()
        for axis, values, title in (
            (axes[0], exact, f"{name}, {image['image']}: exact"),
            (axes[1], approximate, f"SSIM {image['ssim']:.2f}, {image['speedup']:.0f}x naive"),
        ):
            shown = axis.imshow(values, cmap="viridis", vmin=low, vmax=high)
            axis.set_title(title, fontsize=9)
        figure.colorbar(shown, ax=axes[:2].tolist(), shrink=0.8, label=model["score"])
        limit = (high - low) / 4
        shown = axes[2].imshow(approximate - exact, cmap="RdBu", vmin=-limit, vmax=limit)
        axes[2].set_title("difference", fontsize=9)
        figure.colorbar(shown, ax=axes[2], shrink=0.8)
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.savefig(path, dpi=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("json", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--figures", type=Path, help="folder for quality-*.png")
    chosen = parser.parse_args()
    models = json.loads(chosen.json.read_text())["models"]
    print(summary(models))
    for name, model in models.items():
        print(f"\n### {name}\n\n{per_image(model)}\n\n{rungs(model)}")
    if chosen.figures is not None:
        draw_calibration(models, chosen.figures / "quality-estimate.png")
        draw_curve(models, chosen.figures / "quality-speed.png")
        draw_maps(models, chosen.cache, chosen.figures / "quality-maps.png")


if __name__ == "__main__":
    main()
