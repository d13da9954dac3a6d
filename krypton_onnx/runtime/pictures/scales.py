"""What the colours mean, below the panels: a colour bar for numbers, a legend for classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch

from krypton_onnx.runtime.pictures import texts, words
from krypton_onnx.runtime.pictures.colors import CATEGORIES, INK, OTHER, PAPER
from krypton_onnx.runtime.pictures.layout import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from krypton_onnx.runtime.pictures.figure import Picture

BAR_HEIGHT, TICK = 0.13, 0.05  # inches
LONGEST_BAR = 5.0
SIDE = 0.35  # at each end of the bar, for half of its outermost number
TICKS = 5
SWATCH = 0.35  # inches of a legend's entry before its words


@dataclass(frozen=True)
class ColorScale:
    """caption : what is shown. ends : what the left and the right end of the bar mean. mark : a value to mark."""

    caption: str
    ends: tuple[str, str] | None
    mark: float | None = None

    @property
    def height(self) -> float:
        """Inches."""
        lines = self.caption.count("\n") + 2 + (self.ends is not None)
        return texts.height_of(lines, texts.SMALL) + BAR_HEIGHT + TICK + 0.12

    def paint(self, figure: Picture, place: Box, drawn: AxesImage) -> Axes:
        """The bar, in its place."""
        size = figure.get_figwidth(), figure.get_figheight()
        width = min(place.width - 2 * SIDE, LONGEST_BAR)
        left = place.left + (place.width - width) / 2
        top = place.top + texts.height_of(self.caption.count("\n") + 1, texts.SMALL) + 0.04
        middle = (place.left + place.width / 2) / size[0]
        figure.text(middle, 1 - place.top / size[1], self.caption, va="top", ha="center", **texts.style(texts.SMALL))
        axes = figure.add_axes(Box(left, top, width, BAR_HEIGHT).within(size), label="colour bar")
        low, high = drawn.get_clim()
        bar = figure.colorbar(drawn, cax=axes, orientation="horizontal")
        # Colours as they are, also where the cells of a map let an image through.
        bar.set_alpha(1.0)
        values = np.linspace(low, high, TICKS)
        axes.set_xticks(values, [_short(value, high - low) for value in values], **texts.style(texts.SMALL))
        axes.tick_params(
            axis="x", which="both", bottom=True, top=False, labelbottom=True, labeltop=False, direction="out",
            length=72 * TICK, width=0.6, pad=1.5, color=INK, labelrotation=0,
        )  # fmt: skip
        axes.minorticks_off()
        axes.grid(False)
        bar.outline.set(edgecolor=INK, linewidth=0.6)
        if self.mark is not None and low <= self.mark <= high:
            axes.axvline(self.mark, color="white", linewidth=3.0)
            axes.axvline(self.mark, color=INK, linewidth=1.4)
        if self.ends is not None:
            below = top + BAR_HEIGHT + TICK + texts.height_of(1, texts.SMALL) + 0.05
            y = 1 - below / size[1]
            start, stop = (left - SIDE) / size[0], (left + width + SIDE) / size[0]
            figure.text(start, y, self.ends[0], va="top", ha="left", **texts.style(texts.SMALL))
            figure.text(stop, y, self.ends[1], va="top", ha="right", **texts.style(texts.SMALL))
        return axes


def _short(value: float, span: float) -> str:
    if abs(value) < 1e-9 * span:  # nothing beside the span: a zero, rounded
        return "0"
    return f"{value:.0f}" if 10 <= abs(value) < 1e4 else f"{value:.2g}"


@dataclass(frozen=True)
class Legend:
    """caption : what is shown. entries : (colour, words)."""

    caption: str
    entries: tuple[tuple[str, str], ...]
    columns: int

    @property
    def height(self) -> float:
        """Inches."""
        rows = math.ceil(len(self.entries) / self.columns)
        return texts.height_of(self.caption.count("\n") + 1 + rows, texts.SMALL) + 0.08 + 0.03 * rows

    def paint(self, figure: Picture, place: Box) -> None:
        """The legend, in its place."""
        size = figure.get_figwidth(), figure.get_figheight()
        middle = (place.left + place.width / 2) / size[0]
        figure.text(middle, 1 - place.top / size[1], self.caption, va="top", ha="center", **texts.style(texts.SMALL))
        top = 1 - (place.top + texts.height_of(self.caption.count("\n") + 1, texts.SMALL) + 0.04) / size[1]
        font = FontProperties(family=texts.style(texts.SMALL)["family"], size=texts.SMALL)
        drawn = figure.legend(
            handles=[Patch(facecolor=color, edgecolor=INK, linewidth=0.6) for color, _ in self.entries],
            labels=[said for _, said in self.entries],
            loc="upper center", bbox_to_anchor=(middle, top), ncols=self.columns, frameon=False, borderpad=0.0,
            borderaxespad=0.0, handlelength=1.6, handleheight=0.9, handletextpad=0.6, columnspacing=1.6,
            labelspacing=0.35, prop=font, labelcolor=INK, alignment="left",
        )  # fmt: skip
        for text in drawn.get_texts():
            text.set_parse_math(False)


def legend_of(predicted: np.ndarray, labels: words.Labels | None, width: float) -> tuple[Legend, dict[int, str]]:
    """The legend of a map of classes, int64 (rows, cols), and the colour of each class; white is the usual one."""
    classes, counts = np.unique(predicted[predicted >= 0], return_counts=True)
    order = counts.argsort(kind="stable")[::-1]
    shares = counts[order] / counts.sum()
    colors = dict(zip(classes[order].tolist(), (PAPER, *CATEGORIES), strict=False))
    longest = width - SWATCH
    entries = []
    for class_id, part in zip(classes[order].tolist(), shares, strict=True):
        if class_id in colors:
            name, number = words.name_and_number(class_id, labels)
            ending = f"{number} {words.share(float(part))}".strip()
            entries.append((colors[class_id], texts.wrap(name, longest, texts.SMALL, 1, ending)))
    rest = len(classes) - len(colors)
    if rest:
        part = words.share(float(shares[len(colors) :].sum()))
        entries.append((OTHER, f"{rest} other class{'es' if rest > 1 else ''} {part}"))
        colors.update({int(one): OTHER for one in classes[order][len(colors) :]})
    widest = max(texts.width_of(said, texts.SMALL) for _, said in entries) + SWATCH
    columns = max(1, min(len(entries), int(width / widest)))
    caption = "What the occluded image turns into, and at which share of the positions"
    caption = texts.wrap(caption, width, texts.SMALL, 2)
    return Legend(caption, tuple(entries), columns), colors
