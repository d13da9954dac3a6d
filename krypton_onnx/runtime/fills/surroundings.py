"""fill="surroundings": other patches of the same image, from around the hidden one.

Source: Zintgraf, Cohen, Adel and Welling, "Visualizing Deep Neural Network Decisions: Prediction Difference Analysis"
(ICLR 2017): the score without a patch is its mean over what could stand in the patch's place. They draw that from a
normal distribution fitted to many images; here it is drawn from the image at hand, which needs no others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.fills.windows import windows


class Surroundings:
    """Patches that touch the hidden one and lie inside the image: above, below, left and right of it, and askew.

    Which ones depends on (seed, top, left) only: neither on the grid nor on the batch. None is drawn twice at one
    position, unless there are fewer than `samples`.
    """

    def __init__(
        self, image: np.ndarray, patch: tuple[int, int], tops: np.ndarray, lefts: np.ndarray, samples: int, seed: int
    ) -> None:
        """image : float32 (C, H, W); tops, lefts : of the grid. Raises ImageError where a position has no neighbour."""
        self._image, self._patch, self._samples, self._seed = image, patch, samples, seed
        height, width = image.shape[1:]
        # Whether there is room beside a position is a matter of rows alone, or of columns alone.
        rows = (tops >= patch[0]) | (tops + 2 * patch[0] <= height)
        columns = (lefts >= patch[1]) | (lefts + 2 * patch[1] <= width)
        if not (rows.all() or columns.all()):
            raise ImageError(
                f"fill 'surroundings': beside some positions of a {patch[0]} x {patch[1]} patch there is no room for "
                f"another one in the {height} x {width} image: make it smaller (a third of the image fits anywhere), "
                "or take another fill"
            )

    def __call__(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """float32 (samples, N, C, h, w)."""
        origins = np.array([self._origins(int(top), int(left)) for top, left in zip(tops, lefts, strict=True)])
        drawn = windows(self._image, origins[:, :, 0].ravel(), origins[:, :, 1].ravel(), self._patch)
        return drawn.reshape(len(tops), self._samples, *drawn.shape[1:]).swapaxes(0, 1)

    def _origins(self, top: int, left: int) -> np.ndarray:
        """int64 (samples, 2)."""
        neighbours = neighbours_of(top, left, self._patch, self._image.shape[1:])
        random = np.random.default_rng((self._seed, top, left))
        return neighbours[random.choice(len(neighbours), self._samples, replace=self._samples > len(neighbours))]


def neighbours_of(top: int, left: int, patch: tuple[int, int], frame: tuple[int, ...]) -> np.ndarray:
    """int64 (n, 2): (top, left) of every patch in the frame that touches this one and covers no pixel of it."""
    (height, width), (last_top, last_left) = patch, (frame[0] - patch[0], frame[1] - patch[1])
    columns = np.arange(max(left - width, 0), min(left + width, last_left) + 1)
    rows = np.arange(max(top - height + 1, 0), min(top + height - 1, last_top) + 1)  # corners are the columns'
    parts = [_pairs([row], columns) for row in (top - height, top + height) if 0 <= row <= last_top]
    parts += [_pairs(rows, [column]) for column in (left - width, left + width) if 0 <= column <= last_left]
    return np.concatenate(parts)


def _pairs(rows: Sequence[int] | np.ndarray, columns: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)
