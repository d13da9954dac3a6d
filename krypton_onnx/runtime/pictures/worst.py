"""Where hiding the patch hurts most: outlined and numbered on the map, and shown as what the model then saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from krypton_onnx.runtime.pictures import layout, panels, texts, words
from krypton_onnx.runtime.pictures.colors import INK
from krypton_onnx.runtime.pictures.layout import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from krypton_onnx.runtime.heat_map import Extreme, HeatMap
    from krypton_onnx.runtime.pictures.figure import Picture

Occluded = Callable[[np.ndarray, np.ndarray], np.ndarray]

MOST = 12  # numbers on a panel that still have room
THUMBNAIL, LEAST_THUMBNAIL = 1.2, 0.75  # inches
# A thumbnail shows so many patches across, and not the whole of a large image, where a patch would be a dot.
CONTEXT = 8
ARROW = "\N{RIGHTWARDS ARROW}"
UNREADABLE = 1e4  # how much worse it is to meet a number than an outline


@dataclass(frozen=True)
class Thumbnails:
    """Images around the extremes of one map, and how they are arranged.

    size : (width, height) of each, in inches. captions : of one line each, or all of two.
    """

    heading: str
    captions: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    outlines: tuple[tuple[float, float, float, float], ...]
    size: tuple[float, float]
    columns: int
    column: float

    @property
    def height(self) -> float:
        """Inches that all of it takes."""
        rows = math.ceil(len(self.images) / self.columns)
        return texts.height_of(1, texts.SMALL) + 0.06 + rows * self._row

    @property
    def _row(self) -> float:
        return self.size[1] + texts.height_of(1 + self.captions[0].count("\n"), texts.SMALL) + 0.1

    def box(self, index: int, place: Box) -> Box:
        """Of one image, inside the place of the strip."""
        row, column = divmod(index, self.columns)
        top = place.top + texts.height_of(1, texts.SMALL) + 0.06 + row * self._row
        return Box(place.left + column * (self.column + layout.GAP), top, *self.size)


def captions_of(baseline: float, found: Sequence[Extreme]) -> tuple[str, ...]:
    """ "1: 0.94 -> 0.12": the score of the whole image and of the occluded one, for each."""
    before = words.number(baseline)
    return tuple(f"{rank}: {before} {ARROW} {words.number(one.score)}" for rank, one in enumerate(found, 1))


def arrange(count: int, captions: Sequence[str], width: float) -> tuple[int, float, bool]:
    """How many beside each other in so many inches, how wide a column is, and whether captions take two lines.

    count : of images in a strip. captions : of all strips of the picture, so that they are arranged alike.
    """
    whole = max(texts.width_of(said, texts.SMALL) for said in captions)
    halves = max(texts.width_of(half, texts.SMALL) for said in captions for half in _halves(said))
    for columns in range(count, 1, -1):
        column = min((width - (columns - 1) * layout.GAP) / columns, max(THUMBNAIL, whole))
        if column >= max(LEAST_THUMBNAIL, halves):
            return columns, column, column < whole
    return 1, min(width, max(THUMBNAIL, whole)), width < whole


def _halves(caption: str) -> list[str]:
    before, after = caption.split(f" {ARROW} ")
    return [before, f"{ARROW} {after}"]


def thumbnails(
    heat_map: HeatMap,
    found: Sequence[Extreme],
    image: np.ndarray,
    occluded: Occluded,
    captions: Sequence[str],
    arranged: tuple[int, float, bool],
) -> Thumbnails:
    """Of the extremes of one target. image: uint8 (H, W, 3), the explained one. arranged: what `arrange` says."""
    tops, lefts = (np.array([getattr(one, side) for one in found], np.int64) for side in ("top", "left"))
    patches = np.asarray(occluded(tops, lefts), np.uint8)
    frame, (height, length) = image.shape[:2], heat_map.patch
    window = min(frame[0], CONTEXT * height), min(frame[1], CONTEXT * length)
    images, outlines = [], []
    for extreme, patch in zip(found, patches, strict=True):
        hidden = image.copy()
        hidden[extreme.top : extreme.bottom, extreme.left : extreme.right] = patch
        top = _centred(extreme.top, height, window[0], frame[0])
        left = _centred(extreme.left, length, window[1], frame[1])
        images.append(hidden[top : top + window[0], left : left + window[1]])
        outlines.append((extreme.left - left - 0.5, extreme.top - top - 0.5, length, height))
    columns, column, halved = arranged
    side = min(THUMBNAIL, column)
    aspect = min(max(window[0] / window[1], 0.5), 2.0)
    size = (side, side * aspect) if aspect <= 1 else (side / aspect, side)
    said = tuple("\n".join(_halves(one)) if halved else one for one in captions)
    return Thumbnails("Hidden where it hurts most:", said, tuple(images), tuple(outlines), size, columns, column)


def _centred(start: int, extent: int, window: int, frame: int) -> int:
    """Where a window begins that has the patch in its middle, as far as the frame lets it."""
    return min(max(start + (extent - window) // 2, 0), frame - window)


def paint_thumbnails(figure: Picture, strip: Thumbnails, place: Box) -> list[Axes]:
    """The strip, in its place."""
    size = figure.get_figwidth(), figure.get_figheight()
    left, top = place.left / size[0], 1 - place.top / size[1]
    figure.text(left, top, strip.heading, va="top", ha="left", **texts.style(texts.SMALL))
    made = []
    for number, (image, outline) in enumerate(zip(strip.images, strip.outlines, strict=True)):
        box = strip.box(number, place)
        axes = figure.add_axes(box.within(size))
        panels.prepare(axes, panels.frame_extent(image.shape[:2]), to_scale=False)
        panels.paint_image(axes, panels.shrunk(image), panels.frame_extent(image.shape[:2]))
        _outline(axes, outline)
        below = 1 - (box.top + box.height + 0.03) / size[1]
        figure.text(box.left / size[0], below, strip.captions[number], va="top", ha="left", **texts.style(texts.SMALL))
        made.append(axes)
    return made


def mark(axes: Axes, found: Sequence[Extreme], size: tuple[float, float]) -> None:
    """Outlines and numbers on a panel of so many inches (width, height), each number where nothing else is."""
    xs, ys = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    per_x, per_y = (xs[1] - xs[0]) / size[0], (ys[1] - ys[0]) / size[1]  # pixels an inch
    edges = [(one.left - 0.5, one.top - 0.5, one.right - 0.5, one.bottom - 0.5) for one in found]
    # A number on the outline of another patch would be taken for its number; on another number, neither could be read.
    taken = [(edge, 1.0) for edge in edges]
    for rank, (left, top, right, bottom) in enumerate(edges, 1):
        outline = (left, top, right - left, bottom - top)
        _outline(axes, outline)
        label = str(rank)
        room = ((texts.width_of(label, texts.SMALL) + 0.08) * per_x, (texts.height_of(1, texts.SMALL) + 0.06) * per_y)
        x, y = _free_place(outline, room, (xs[0], ys[0], xs[1], ys[1]), taken)
        taken.append(((x - room[0] / 2, y - room[1] / 2, x + room[0] / 2, y + room[1] / 2), UNREADABLE))
        box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": INK, "linewidth": 0.6}
        axes.text(x, y, label, ha="center", va="center", clip_on=False, bbox=box, **texts.style(texts.SMALL))


def _outline(axes: Axes, outline: tuple[float, float, float, float]) -> None:
    left, top, width, height = outline
    # Dark on a light line: it shows on any image.
    edge = [withStroke(linewidth=2.8, foreground="white")]
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=INK, linewidth=1.2, path_effects=edge))


def _free_place(
    outline: tuple[float, float, float, float],
    room: tuple[float, float],
    inside: tuple[float, float, float, float],
    taken: Sequence[tuple[tuple[float, float, float, float], float]],
) -> tuple[float, float]:
    """The centre of a number beside an outline: the nearest of some places that meets the least of what is taken.

    taken : rectangles, and how bad it is to meet each.
    """
    left, top, width, height = outline
    best: tuple[float, tuple[float, float]] = (math.inf, (0.0, 0.0))
    for away in (0.6, 1.7, 2.8, 3.9, 5.0, 6.1):
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)):
            x = left + width / 2 + dx * (width / 2 + away * room[0])
            y = top + height / 2 + dy * (height / 2 + away * room[1])
            x = min(max(x, inside[0] + room[0] / 2), inside[2] - room[0] / 2)
            y = min(max(y, inside[1] + room[1] / 2), inside[3] - room[1] / 2)
            box = (x - room[0] / 2, y - room[1] / 2, x + room[0] / 2, y + room[1] / 2)
            meets = sum(weight * _common(box, other) for other, weight in taken)
            if meets < best[0]:
                best = (meets, (x, y))
        if best[0] == 0:
            break
    return best[1]


def _common(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """The area that two rectangles (left, top, right, bottom) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
