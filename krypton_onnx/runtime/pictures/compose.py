"""A picture of a heat map: the image, a panel a class, where hiding hurts most, what the colours mean, and notes.

Matplotlib's object-oriented API alone: no pyplot, so no global state and no display.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.pictures import colors, layout, notes, panels, texts, words, worst
from krypton_onnx.runtime.pictures.figure import DPI, Picture
from krypton_onnx.runtime.pictures.layout import Box
from krypton_onnx.runtime.pictures.look import Look
from krypton_onnx.runtime.pictures.panels import Cells
from krypton_onnx.runtime.pictures.scales import ColorScale, Legend, legend_of

if TYPE_CHECKING:
    from krypton_onnx.runtime.heat_map import Extreme, HeatMap

# How much of an image cells hide at most, where the caller does not say.
OPACITY = {"drop": 0.9, "score": 0.7, "predicted": 0.85}
def draw(heat_map: HeatMap, image: np.ndarray | None, look: Look) -> Picture:
    """The picture that HeatMap.plot describes."""
    look.check()
    targets = look.targets_of(heat_map)
    shown = replace(look, score_name=look.score_name or heat_map.score_name)
    if np.isnan(heat_map.scores).all():
        raise ImageError("nothing to draw: no position of the heat map is computed yet")
    picture = None if image is None else panels.checked_image(image, heat_map.frame)
    return _Composition(heat_map, picture, targets, shown).painted()


class _Composition:
    """Plans every part, lays them out, then paints."""

    def __init__(
        self, heat_map: HeatMap, image: np.ndarray | None, targets: tuple[int, ...], look: Look
    ) -> None:
        self._map, self._image, self._targets, self._look = heat_map, image, targets, look
        self._name = texts.clean(look.score_name)
        self._indexes = [heat_map.index_of(target) for target in targets]
        self._extent = self._visible()
        left, right, bottom, top = self._extent
        self._maps = 1 if look.show == "predicted" else len(targets)
        before = 0 if image is None else 1
        self._panels = layout.panels_of(before + self._maps, (bottom - top) / (right - left))
        self._width = layout.total_width(self._panels) - 2 * layout.MARGIN

    def painted(self) -> Picture:
        cells, scale = self._classes() if self._look.show == "predicted" else self._numbers()
        headings = self._headings()
        found = [self._worst(target) for target in self._targets[: self._maps]]
        strips = self._strips(found)
        title = texts.wrap(self._look.title or "", self._width, texts.TITLE, 3)
        said = self._notes(cells, found, strips)
        count = self._panels.count
        before = count - self._maps
        place = layout.lay_out(
            self._panels,
            texts.height_of(title.count("\n") + 1, texts.TITLE) if title else 0.0,
            [texts.height_of(heading.count("\n") + 1, texts.HEADING) + 0.08 for heading in headings],
            [0.0] * before + [strip.height if strip else 0.0 for strip in strips],
            scale.height,
            texts.height_of(said.count("\n") + 1, texts.SMALL),
        )
        figure = Picture(figsize=place.size, dpi=DPI, facecolor="white", edgecolor="white")
        figure.set_layout_engine("none")
        if title:
            at = 1 - place.title.top / place.size[1]
            figure.suptitle(title, x=0.5, y=at, va="top", ha="center", **texts.style(texts.TITLE))
        drawn = None
        for number, (box, heading) in enumerate(zip(place.panels, headings, strict=True)):
            axes = figure.add_axes(box.within(place.size))
            panels.prepare(axes, self._extent, self._panels.to_scale)
            axes.set_title(heading, loc="center", pad=3.5, **texts.style(texts.HEADING))
            if self._image is not None:
                frame = self._map.frame or self._image.shape[:2]
                panels.paint_image(axes, self._backdrop(number), panels.frame_extent(frame))
            if number >= before:
                drawn = panels.paint_cells(axes, cells[number - before])
                worst.mark(axes, found[number - before], (box.width, box.height))
            # What is painted must not move what is visible.
            panels.prepare(axes, self._extent, self._panels.to_scale)
        for number, strip in enumerate(strips):
            if strip is not None:
                worst.paint_thumbnails(figure, strip, self._strip_place(place, before + number))
        figure.text(
            layout.MARGIN / place.size[0], 1 - place.notes.top / place.size[1], said, va="top", ha="left",
            **texts.style(texts.SMALL, colors.QUIET_INK),
        )  # fmt: skip
        if isinstance(scale, Legend):
            scale.paint(figure, place.scale)
        else:
            assert drawn is not None  # there is at least one class
            scale.paint(figure, place.scale, drawn)
        figure.description = self._description()
        return figure

    def _worst(self, target: int) -> tuple[Extreme, ...]:
        """The largest falls of the score, which may be fewer than wanted."""
        return tuple(one for one in self._map.extremes(target, self._look.extremes) if one.drop > 0)

    def _visible(self) -> panels.Extent:
        if self._image is not None:
            return panels.frame_extent(self._map.frame or self._image.shape[:2])
        return self._cell_extent()

    def _cell_extent(self) -> panels.Extent:
        if self._look.per_pixel and self._map.frame is not None:
            return panels.frame_extent(self._map.frame)
        return panels.cell_extent(self._map)

    def _backdrop(self, number: int) -> np.ndarray:
        """The image as it is first, then grey under the maps."""
        assert self._image is not None
        image = panels.shrunk(self._image)
        if number == 0:
            return image
        return colors.faded(image) if self._look.show == "predicted" else colors.dimmed(image)

    def _numbers(self) -> tuple[list[Cells], ColorScale]:
        """Drops or scores, all on one scale."""
        look, heat_map = self._look, self._map
        if look.per_pixel:
            every = [panels.thinned(one) for one in heat_map.per_pixel(look.show)[self._indexes]]
        else:
            every = list((heat_map.drop if look.show == "drop" else heat_map.scores)[self._indexes])
        # Scores may be infinite (log-odds of a certain class): drawn as the largest that is finite.
        finite = np.concatenate([one[np.isfinite(one)] for one in every])
        over = self._image is not None
        most = OPACITY[look.show] if look.opacity is None else look.opacity
        if look.show == "drop":
            limit = float(np.abs(finite).max(initial=0.0)) or 1.0  # a map without any drop still needs a scale
            limits, cmap = (-limit, limit), colors.diverging()
        else:
            limits, cmap = _span(finite, heat_map.baseline[self._indexes]), colors.sequential()
        cmap = cmap if look.cmap is None else colors.chosen(look.cmap)
        cells = []
        for one in every:
            values = np.clip(one.astype(np.float64), *limits)
            known = ~np.isnan(values)
            opacity = known.astype(np.float64)
            if over:
                opacity = colors.opacity_of(values, limits[1], most) if look.show == "drop" else most * opacity
            cells.append(Cells(values, opacity, known, self._cell_extent(), limits, cmap, look.interpolation))
        return cells, self._color_scale()

    def _color_scale(self) -> ColorScale:
        several = ", one scale for all classes" if self._maps > 1 else ""
        if self._look.show == "drop":
            caption = f"drop of the {self._name} when hidden{several}"
            # With colours of the caller's own, the sides of the bar have to do.
            red, blue = ("red: ", "blue: ") if self._look.cmap is None else ("", "")
            ends = f"{blue}speaks against the class", f"{red}supports the class"
            return ColorScale(texts.wrap(caption, self._width, texts.SMALL, 2), ends)
        marked = self._maps == 1
        caption = f"{self._name} when hidden{several}{'; the line: of the whole image' if marked else ''}"
        mark = float(self._map.baseline[self._indexes[0]]) if marked else None
        return ColorScale(texts.wrap(caption, self._width, texts.SMALL, 2), None, mark)

    def _classes(self) -> tuple[list[Cells], Legend]:
        """Which class the occluded image turns into."""
        predicted = words.require_predicted(self._map)
        from matplotlib.colors import to_rgb

        legend, color_of = legend_of(predicted, self._look.labels, self._width)
        values = np.full((*predicted.shape, 3), 255, np.uint8)
        for class_id, color in color_of.items():
            values[predicted == class_id] = np.round(np.multiply(to_rgb(color), 255))
        known = predicted >= 0
        opacity = known.astype(np.float64)
        if self._image is not None:
            most = OPACITY["predicted"] if self._look.opacity is None else self._look.opacity
            opacity = np.where(known & (predicted != words.usual_class(predicted)), most, 0.0)
        return [Cells(values, opacity, known, self._cell_extent(), None, None, "nearest")], legend

    def _headings(self) -> list[str]:
        width = self._panels.cell - 0.05
        before = [] if self._image is None else ["image"]
        if self._look.show == "predicted":
            return [*before, texts.wrap("class predicted when hidden", width, texts.HEADING, 2)]
        said = []
        for target, index in zip(self._targets, self._indexes, strict=True):
            name, number = words.name_and_number(target, self._look.labels)
            first = texts.wrap(name, width, texts.HEADING, 2, number)
            score = words.number(float(self._map.baseline[index]))
            said.append(f"{first}\n{texts.wrap(self._name, width, texts.HEADING, 1, score)}")
        return before + said

    def _strips(self, found: Sequence[Sequence[Extreme]]) -> list[worst.Thumbnails | None]:
        if self._image is None or self._look.occluded is None:
            return [None] * self._maps
        image, frame = self._image, self._map.frame
        if frame is not None and image.shape[:2] != frame:
            from PIL import Image

            image = np.asarray(Image.fromarray(image).resize(frame[::-1], Image.Resampling.BILINEAR))
        captions = self._captions(found)
        if not any(captions):
            return [None] * self._maps
        width = self._width if self._maps == 1 else self._panels.cell
        arranged = worst.arrange(max(map(len, captions)), [said for every in captions for said in every], width)
        occluded = self._look.occluded
        return [
            worst.thumbnails(self._map, some, image, occluded, said, arranged) if some else None
            for some, said in zip(found, captions, strict=True)
        ]

    def _captions(self, found: Sequence[Sequence[Extreme]]) -> list[tuple[str, ...]]:
        return [
            worst.captions_of(float(self._map.baseline[index]), some)
            for index, some in zip(self._indexes, found, strict=False)
        ]

    def _strip_place(self, place: layout.Layout, number: int) -> Box:
        """Below its panel; below all of them where there is one map alone."""
        below = place.strips[number]
        return replace(below, left=layout.MARGIN, width=self._width) if self._maps == 1 else below

    def _notes(
        self,
        cells: Sequence[Cells],
        found: Sequence[Sequence[Extreme]],
        strips: Sequence[worst.Thumbnails | None],
    ) -> str:
        missing = 1 - float(np.mean([one.known.mean() for one in cells]))
        said = notes.sentences(self._map, self._look, missing, len(self._targets), self._panels.to_scale)
        for target, captions, strip in zip(self._targets, self._captions(found), strips, strict=False):
            if captions and strip is None:
                of = f" ({words.name_of(target, self._look.labels)})" if self._maps > 1 else ""
                said.append(f"Hidden where it hurts most{of}: {', '.join(captions)}.")
        if self._map.note:
            said.append(f"Note: {self._map.note}")
        return texts.wrap(" ".join(said), self._width, texts.SMALL, 4 + 2 * len(found))

    def _description(self) -> str:
        look = self._look
        if look.show == "predicted":
            return words.describe_predicted(self._map, look.labels)
        return " ".join(words.describe(self._map, target, look.labels, look.score_name) for target in self._targets)


def _span(scores: np.ndarray, baseline: np.ndarray) -> tuple[float, float]:
    """From the least to the largest score, the whole image's among them."""
    every = np.concatenate([scores, baseline[np.isfinite(baseline)]])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
