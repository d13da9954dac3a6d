"""What is put in the patch's place, at any positions: the fills of an occlusion, in its shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.fills.blur import Blurred
from krypton_onnx.runtime.fills.called import Called
from krypton_onnx.runtime.fills.constants import (
    Constant,
    Pixels,
    mean_colour,
    names,
    number_patch,
    pixel_word,
    warn_of_pixel_values,
)
from krypton_onnx.runtime.fills.inpaint import Inpainted
from krypton_onnx.runtime.fills.surroundings import Surroundings
from krypton_onnx.runtime.fills.windows import windows
from krypton_onnx.runtime.fills.words import PIXELS, OneFill, fills_of
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.occlusion import Occlusion

Source = Callable[[np.ndarray, np.ndarray], np.ndarray]  # tops, lefts -> float32 (K, N or 1, C, h, w)
WARNED_FROM = 6  # frames between a warning and who called explain


class Patches:
    """What stands in the patch's place: float32 (K, N or 1, C, h, w) for any positions, K patches to average over."""

    def __init__(self, occlusion: Occlusion, image: np.ndarray, grid: Grid, pixels: Pixels | None = None) -> None:
        """image : float32 (C, H, W), the model's input space. pixels : how pixel values become its numbers, or None.

        Raises ImageError where fill or shape do not fit, or a pixel value is asked for and `pixels` is None. Warns
        where a number of the model's space looks like a pixel value.
        """
        self._image = image.view()  # handed to the caller's function, which must not change what is explained
        self._image.setflags(write=False)
        self._grid, self._occlusion, self._pixels = grid, occlusion, pixels
        self._mask = grid.mask
        fills = fills_of(occlusion.fill)
        alone = len(fills) == 1
        made = []
        for fill, name in zip(fills, names(len(fills)), strict=True):
            made.append(self._source(fill, name, alone))
        self._sources = [source for source, _ in made]
        # The fills of a list count the same, however many patches each is.
        self._weights = None if alone else [1 / count for _, count in made for _ in range(count)]

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """Patches for N positions, int64 (N,) each."""
        made = [source(tops, lefts) for source in self._sources]
        if len(made) > 1:
            count = max(patches.shape[1] for patches in made)
            made = [np.broadcast_to(patches, (len(patches), count, *patches.shape[2:])) for patches in made]
        patches = made[0] if len(made) == 1 else np.concatenate(made)
        if self._mask is None:
            return np.ascontiguousarray(patches)
        seen = windows(self._image, tops, lefts, self._grid.patch)
        return np.ascontiguousarray(self._mask * patches + (1 - self._mask) * seen)

    def mean(self, each: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """float32: the mean over the K patches of anything that there is for each of them (the first axis)."""
        if len(each) == 1:
            return np.asarray(each[0], np.float32)
        # float64: the mean over K fills must not depend on their order
        return np.asarray(np.average(np.asarray(each, np.float64), axis=0, weights=self._weights), np.float32)

    def _source(self, fill: OneFill, name: str, alone: bool) -> tuple[Source, int]:
        """What makes the patches of one fill, and how many a position (1 where a function alone tells)."""
        occlusion, image, grid = self._occlusion, self._image, self._grid
        channels, patch = len(image), grid.patch
        if callable(fill):
            if occlusion.fill_space != "model":
                raise ImageError("fill_space='pixel': a function returns the model's own numbers, not pixel values")
            return Called(fill, image, patch, name, alone), 1
        if isinstance(fill, str) and fill == "surroundings":
            samples = occlusion.fill_samples
            return Surroundings(image, patch, grid.tops, grid.lefts, samples, occlusion.seed), samples
        if isinstance(fill, str):
            return self._word(fill), 1
        value = number_patch(fill, name, channels, patch, self._pixels, occlusion.fill_space)
        if occlusion.fill_space == "model":
            warn_of_pixel_values(value, image, WARNED_FROM)
        return Constant(value), 1

    def _word(self, word: str) -> Source:
        image, grid = self._image, self._grid
        shape = (len(image), *grid.patch)
        if word in PIXELS:
            return Constant(np.broadcast_to(pixel_word(word, self._pixels, len(image)), shape))
        if word == "mean":
            return Constant(np.broadcast_to(mean_colour(image), shape))
        if word == "blur":
            return Blurred(image, grid.patch)
        hidden = np.ones(grid.patch, bool) if self._mask is None else self._mask > 0
        return Inpainted(image, grid.tops, grid.lefts, hidden)
