"""fill="inpaint": what goes on smoothly from the pixels around, by biharmonic functions.

Source: Damelin and Hoang, "On Surface Completion and Image Inpainting by Biharmonic Functions" (2018), as scikit-image
has it (`skimage.restoration.inpaint_biharmonic`). What it computes before it clips is linear in the two rings of pixels
around what is hidden, with weights that depend on how near the image's edges are, and nearer than two pixels only. So
scikit-image is asked for the weights: once for every nearness that occurs on the grid, by an image with a channel for
every pixel of the rings, 1 there and 0 elsewhere. Each position is then a product of matrices.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.fills.around import LowestAround
from krypton_onnx.runtime.fills.windows import windows

REACH = 2  # pixels, of the biharmonic operator
SPARE = 2  # rows or columns beyond the rings
BEYOND = 1e9  # of spare pixels, which widen the range that scikit-image clips to, and change nothing else
MOST_BYTES = 512 << 20  # of all weights
CACHED_BYTES = 4 << 20  # weights up to this size are kept for the next image

Margins = tuple[tuple[int, int], tuple[int, int]]  # pixels above and below, left and right, at most REACH


class Inpainted:
    """The image (C, H, W) with its hidden pixels made up, in double precision."""

    def __init__(self, image: np.ndarray, tops: np.ndarray, lefts: np.ndarray, hidden: np.ndarray) -> None:
        """tops, lefts : of the grid. hidden : bool (h, w), the pixels of a patch that must not be looked at.

        Raises ImageError where nothing is visible around a position, or the patch is too large.
        """
        self._image, self._hidden = image, hidden
        height, width = hidden.shape
        if hidden.all() and image.shape[1:] == hidden.shape:
            raise ImageError("fill 'inpaint': the patch hides the whole image, and nothing is left to go on from")
        self._lowest, self._minus_highest = LowestAround(image, hidden.shape), LowestAround(-image, hidden.shape)
        rows = {margin(top, height, image.shape[1]) for top in tops.tolist()}
        columns = {margin(left, width, image.shape[2]) for left in lefts.tolist()}
        situations = list(product(sorted(rows), sorted(columns)))
        pixels = int(hidden.sum())
        needed = sum(8 * pixels * int(rings_of(hidden, margins)[1].sum()) for margins in situations)
        if needed > MOST_BYTES:
            raise ImageError(
                f"fill 'inpaint': a patch of {height} x {width} pixels needs {needed / 1e6:.0f} MB of weights, more "
                f"than {MOST_BYTES / 1e6:.0f} MB: make it smaller, or take fill='blur'"
            )
        self._weights = {margins: weights_of(hidden, margins) for margins in situations}

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """float32 (1, N, C, h, w); the pixels that are not hidden as in the image."""
        height, width = self._hidden.shape
        patches = windows(self._image, tops, lefts, (height, width)).astype(np.float64)
        rows = [margin(top, height, self._image.shape[1]) for top in tops.tolist()]
        columns = [margin(left, width, self._image.shape[2]) for left in lefts.tolist()]
        for margins in set(zip(rows, columns, strict=True)):
            here = [n for n, pair in enumerate(zip(rows, columns, strict=True)) if pair == margins]
            patches[here] = self._made(patches[here], tops[here], lefts[here], margins)
        return patches.astype(np.float32)[None]

    def _made(self, patches: np.ndarray, tops: np.ndarray, lefts: np.ndarray, margins: Margins) -> np.ndarray:
        """patches : float64 (n, C, h, w) of positions of equal margins."""
        weights = self._weights[margins]
        if weights is None:
            return np.stack([self._directly(int(top), int(left)) for top, left in zip(tops, lefts, strict=True)])
        ring_rows, ring_columns = np.nonzero(rings_of(self._hidden, margins)[1])
        (above, _), (before, _) = margins
        around = self._image[:, tops[:, None] - above + ring_rows, lefts[:, None] - before + ring_columns]
        made = np.matmul(around.astype(np.float64), weights.T).swapaxes(0, 1)
        visible = patches[:, :, ~self._hidden]
        lowest = np.minimum(self._lowest(tops, lefts), visible.min(axis=2, initial=np.inf))
        highest = np.maximum(-self._minus_highest(tops, lefts), visible.max(axis=2, initial=-np.inf))
        patches[:, :, self._hidden] = np.clip(made, lowest[:, :, None], highest[:, :, None])
        return patches

    def _directly(self, top: int, left: int) -> np.ndarray:
        """(C, h, w) of one position, by scikit-image as it is."""
        from skimage.restoration import inpaint_biharmonic

        height, width = self._hidden.shape
        here = (slice(top, top + height), slice(left, left + width))
        mask = np.zeros(self._image.shape[1:], bool)
        mask[here] = self._hidden
        return inpaint_biharmonic(self._image.astype(np.float64), mask, channel_axis=0)[:, *here]


def margin(origin: int, size: int, whole: int) -> tuple[int, int]:
    """Pixels before and behind, as far as they matter."""
    return min(origin, REACH), min(whole - size - origin, REACH)


def rings_of(hidden: np.ndarray, margins: Margins) -> tuple[np.ndarray, np.ndarray]:
    """bool (h + above + below, w + before + behind), twice: what is hidden, and the visible pixels that matter."""
    from scipy.ndimage import binary_dilation

    inside = np.pad(hidden, margins)
    steps = np.abs(np.arange(-REACH, REACH + 1))
    return inside, binary_dilation(inside, np.add.outer(steps, steps) <= REACH) & ~inside


def weights_of(hidden: np.ndarray, margins: Margins) -> np.ndarray | None:
    """float64 (hidden pixels, pixels of the rings), read-only, both in the order of rows.

    None where a patch nearly fills the image: no pixel is left that could widen what scikit-image clips to.
    """
    inside, rings = rings_of(hidden, margins)
    make = _weights if 8 * inside.sum() * rings.sum() <= CACHED_BYTES else _weights.__wrapped__
    return make(hidden.tobytes(), hidden.shape, margins)


@lru_cache(maxsize=32)
def _weights(packed: bytes, shape: tuple[int, int], margins: Margins) -> np.ndarray | None:
    # It takes a while to import, and other fills need none.
    from skimage.restoration import inpaint_biharmonic

    inside, rings = rings_of(np.frombuffer(packed, bool).reshape(shape), margins)
    # Where the margin is shorter, the edge of this picture is the image's.
    spare = [tuple(SPARE if pixels == REACH else 0 for pixels in side) for side in margins]
    inside, rings = np.pad(inside, spare), np.pad(rings, spare)
    count = int(rings.sum())
    free = np.argwhere(~(inside | rings))
    if len(free) < 2:
        return None
    picture = np.zeros((*inside.shape, count))
    picture[rings] = np.eye(count)
    picture[tuple(free[0])], picture[tuple(free[1])] = BEYOND, -BEYOND
    weights = inpaint_biharmonic(picture, inside, channel_axis=-1)[inside]
    weights.setflags(write=False)
    return weights
