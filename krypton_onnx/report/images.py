"""Pictures inside a page: PNG as data URIs, and a bound on how large they are.

Bounds: the picture has at most MOST_SIDE pixels a side, the patches together MOST_PIXELS. So a page has under 12 MB
whatever was explained, and under 8 MB for the 2809 positions of patches of 16 x 16 pixels over 224 x 224.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np

from krypton_onnx.explanation import Occluded

MOST_SIDE = 1024
MOST_PIXELS = 1_000_000
LEAST_TILE = 4  # pixels a side; what is coarser shows nothing
_AT_ONCE = 4_000_000  # pixels of patches asked for in one go


def png_uri(pixels: np.ndarray) -> str:
    """uint8 (H, W, 3) as a data URI; grey ones as PNG's own grey, which is smaller and looks the same."""
    from PIL import Image

    grey = (pixels[:, :, :1] == pixels).all()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def shrunk(picture: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) of at most MOST_SIDE pixels a side."""
    from PIL import Image

    factor = MOST_SIDE / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = tuple(max(1, round(side * factor)) for side in picture.shape[1::-1])
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


@dataclass(frozen=True, eq=False)
class Sprite:
    """All patches in one picture.

    pixels : uint8 (rows * height, columns * width, 3); position n is tile (n // columns, n % columns).
    tile : (height, width) of a tile. single : one tile stands for every position.
    coarser : how many pixels of a patch a pixel of its tile stands for, on each side.
    """

    pixels: np.ndarray
    tile: tuple[int, int]
    columns: int
    single: bool
    coarser: int


def sprite_of(occluded: Occluded, tops: np.ndarray, lefts: np.ndarray, patch: tuple[int, int]) -> Sprite | None:
    """What stands in the patch's place at every position of a grid, row by row; None where that is too much.

    tops, lefts : int64 (rows,) and (cols,), the origins of the grid.
    """
    at_top, at_left = (axis.ravel() for axis in np.meshgrid(tops, lefts, indexing="ij"))
    count = len(at_top)
    coarser = _coarser(count, patch)
    every = max(1, _AT_ONCE // math.prod(patch))
    first, tiles, single = None, [], True
    for start in range(0, count, every):
        some = np.asarray(occluded(at_top[start : start + every], at_left[start : start + every]))
        first = some[0] if first is None else first
        single = single and bool((some == first).all())
        if coarser is not None:
            tiles.append(_averaged(some, coarser))
        elif not single:
            return None
    assert first is not None  # a grid has at least one position
    if single:
        coarser = math.ceil(max(patch) / MOST_SIDE)
        tiles = [_averaged(first[None], coarser)]
    assert coarser is not None
    return _laid_out(np.concatenate(tiles), single, coarser)


def _coarser(count: int, patch: tuple[int, int]) -> int | None:
    """The least factor that patches must shrink by; None where nothing would be seen of them."""
    factor = 1
    while count * math.prod(-(-side // factor) for side in patch) > MOST_PIXELS:
        factor += 1
        if -(-min(patch) // factor) < min(LEAST_TILE, *patch):
            return None
    return factor


def _averaged(tiles: np.ndarray, factor: int) -> np.ndarray:
    """uint8 (N, h, w, 3), each pixel the mean of factor x factor; those at the lower and right edge of what is left."""
    if factor == 1:
        return tiles
    height, width = tiles.shape[1:3]
    starts = np.arange(0, height, factor), np.arange(0, width, factor)
    sums = np.add.reduceat(np.add.reduceat(tiles.astype(np.float32), starts[0], axis=1), starts[1], axis=2)
    counts = [np.diff([*edges, side]) for edges, side in zip(starts, (height, width), strict=True)]
    return (sums / np.multiply.outer(*counts)[None, :, :, None]).round().astype(np.uint8)


def _laid_out(tiles: np.ndarray, single: bool, coarser: int) -> Sprite:
    """Tiles beside and below each other, about as wide as high."""
    count, height, width = tiles.shape[:3]
    columns = max(1, min(count, round(math.sqrt(count * height / width))))
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, height, width, 3), np.uint8)
    padded[:count] = tiles
    pixels = padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    return Sprite(pixels, (height, width), columns, single, coarser)
