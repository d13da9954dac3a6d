"""Where the parts of a picture lie, in inches from its upper left corner. Texts are measured before, so none meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MARGIN = 0.14
GAP = 0.12
LEAST_WIDTH = 4.2  # of the picture, so that the words below it have room
LEAST_CELL = 2.1  # of what a heading has
MOST_COLUMNS = 4
# A strip of pixels more than this much longer than wide is drawn wider than it is.
MOST_ASPECT = 6.0


@dataclass(frozen=True)
class Box:
    """A rectangle, in inches; top is measured downwards."""

    left: float
    top: float
    width: float
    height: float

    def within(self, size: tuple[float, float]) -> tuple[float, float, float, float]:
        """(left, bottom, width, height) as shares of a picture of so many inches, as Matplotlib wants it."""
        width, height = size
        return self.left / width, 1 - (self.top + self.height) / height, self.width / width, self.height / height


@dataclass(frozen=True)
class Panels:
    """How many panels of which size, in inches. cell: the room of a panel, which may be wider than it.

    to_scale : whether a pixel is as wide as high.
    """

    count: int
    columns: int
    width: float
    height: float
    cell: float
    to_scale: bool


def panels_of(count: int, aspect: float) -> Panels:
    """aspect: height over width of what is drawn in each."""
    columns = math.ceil(count / math.ceil(count / MOST_COLUMNS))
    longest = 4.2 if columns <= 2 else 3.1 if columns == 3 else 2.6
    drawn = min(max(aspect, 1 / MOST_ASPECT), MOST_ASPECT)
    width, height = (longest, longest * drawn) if drawn <= 1 else (longest / drawn, longest)
    # A margin for rounding: an aspect of exactly the limit is to scale.
    to_scale = abs(drawn - aspect) < 1e-6 * aspect
    return Panels(count, columns, width, height, max(width, LEAST_CELL), to_scale)


@dataclass(frozen=True)
class Layout:
    """Boxes of everything, and the size (width, height) of the picture. Rows of headings are above their panels."""

    size: tuple[float, float]
    title: Box
    panels: tuple[Box, ...]
    strips: tuple[Box, ...]
    scale: Box
    notes: Box


def lay_out(
    panels: Panels, title: float, headings: Sequence[float], strips: Sequence[float], scale: float, notes: float
) -> Layout:
    """title, scale, notes: their heights. headings, strips: heights of what is above and below each panel."""
    width = total_width(panels)
    inner = width - 2 * MARGIN
    top = MARGIN
    title_box = Box(MARGIN, top, inner, title)
    top += title + (GAP if title else 0.0)
    # A lone column stands in the middle.
    left = (width - panels.columns * panels.cell - (panels.columns - 1) * GAP) / 2
    boxes, below = [], []
    for first in range(0, panels.count, panels.columns):
        row = range(first, min(first + panels.columns, panels.count))
        top += max(headings[one] for one in row)
        for column, _ in enumerate(row):
            cell = left + column * (panels.cell + GAP)
            boxes.append(Box(cell + (panels.cell - panels.width) / 2, top, panels.width, panels.height))
        top += panels.height + GAP
        tallest = max(strips[one] for one in row)
        below += [
            Box(left + column * (panels.cell + GAP), top, panels.cell, strips[one]) for column, one in enumerate(row)
        ]
        top += tallest + (GAP if tallest else 0.0)
    scale_box = Box(MARGIN, top, inner, scale)
    top += scale + (GAP / 2 if scale else 0.0)
    notes_box = Box(MARGIN, top, inner, notes)
    return Layout((width, top + notes + MARGIN), title_box, tuple(boxes), tuple(below), scale_box, notes_box)


def total_width(panels: Panels) -> float:
    """Of the picture, in inches."""
    return max(LEAST_WIDTH, panels.columns * panels.cell + (panels.columns - 1) * GAP + 2 * MARGIN)
