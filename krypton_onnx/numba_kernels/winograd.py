"""Convolutions of stride 1 by Winograd's F(4, 3), along each axis whose kernel is longer than 1.

Y = A^T [ (G g G^T) * (B^T d B) ] A with the points 0, 1, -1, 1/2, -2 (Lavin & Gray, arXiv:1509.09308): 36
multiplications instead of 144 for a 4x4 tile of 3x3, 6 instead of 12 for a tile of 1x3. A longer kernel is cut into
parts of three taps, whose products add up: 1x7 costs 18 instead of 28, 5x5 144 instead of 400. The products of a
chunk of tiles, of whatever positions, are 36 (or 6) matrix products, in which the parts lie side by side as if they
were more channels. Relative error about 1e-5: not for strict sessions.
"""

from math import prod

import numpy as np

from .arguments import Residual, Source, Spatial
from .epilogue import Epilogue
from .products import products
from .weights import Columns
from .winograd_transforms import transform_input, transform_output
from .workspace import floats

_G = np.array(
    [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [-1 / 3, 1 / 3, -1 / 3],
     [-16 / 15, -8 / 15, -4 / 15], [1 / 15, -2 / 15, 4 / 15], [0, 0, 1]]
)  # fmt: skip

# Tiles a chunk: what it streams through the caches is mostly the transformed weights, once a chunk.
_TILES = 256
# Floats of their transformed inputs: many channels would take much memory.
_INPUT = 4 << 20
# Floats of one group of tiles between the two passes of the output transform: they stay in the first-level cache.
_TILE_SCRATCH = 8192

# Below this many channels the transforms cost more than they save.
_CHANNELS = 16
# What a multiplication in tiles costs beside one in a plain product (measured): some more, and the transforms, whose
# share grows as the matrices become narrow.
_OVERHEAD = 1.05
_TRANSFORMS = 9.0


def suits(weights: np.ndarray, geometry: Spatial, groups: int) -> bool:
    """Whether a convolution can be done this way at all, and has channels enough to be worth it."""
    return (
        geometry.strides == (1, 1)
        and geometry.dilations == (1, 1)
        and groups == 1
        and min(weights.shape[:2]) >= _CHANNELS
        and max(geometry.kernel) > 2
        and 2 not in geometry.kernel
    )


def pays(kernel: tuple[int, int], depth: int, outputs: int, height: int, width: int) -> bool:
    """Whether regions of this extent waste few enough of their tiles to be faster than a plain product.

    depth: the terms of a product, parts * C.
    """
    tiles, plain = 1, 1
    for size, extent in zip(kernel, (height, width), strict=True):
        tiles *= 6 * -(-size // 3) * -(-extent // 4) if size > 1 else extent
        plain *= size * extent
    return plain >= (_OVERHEAD + _TRANSFORMS / depth + _TRANSFORMS / outputs) * tiles


def _along(taps: np.ndarray, size: int, matrix: np.ndarray) -> np.ndarray:
    """Transform the last axis, `size` taps, three at a time by matrix (n, 3): (..., size) -> (n, parts, ...)."""
    if size == 1:
        return np.moveaxis(taps, -1, 0)[None]
    parts = -(-size // 3)
    padded = np.zeros((*taps.shape[:-1], 3 * parts))
    padded[..., :size] = taps
    return np.moveaxis(padded.reshape(*taps.shape[:-1], parts, 3) @ matrix.T, (-1, -2), (0, 1))


def _transform(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """weights (M, C, kh, kw) -> float32 (points, parts*C, M); `matrix` transforms the rows."""
    outputs, channels, kernel_y, kernel_x = weights.shape
    across = _along(weights.astype(np.float64), kernel_x, matrix)  # (px, qx, M, C, kh)
    both = _along(across, kernel_y, _G)  # (py, qy, px, qx, M, C)
    points, parts = both.shape[0] * both.shape[2], both.shape[1] * both.shape[3]
    return both.transpose(0, 2, 1, 3, 5, 4).reshape(points, parts * channels, outputs).astype(np.float32)


def transformed(weights: np.ndarray) -> Columns:
    """weights (M, C, kh, kw) -> (points, parts*C, M)."""
    outputs, channels, *kernel = weights.shape
    shape = (6 ** sum(size > 1 for size in kernel), prod(-(-size // 3) for size in kernel) * channels, outputs)
    if min(kernel) == 1:
        return Columns(shape, lambda first, last: _transform(weights[first:last], _G))
    return Columns(shape, lambda first, last: _transform(weights[first:last], np.eye(3)), _G)


class WinogradConvolution:
    """Convolution of stride 1, dilation 1, one group."""

    def __init__(self, weights: np.ndarray, geometry: Spatial, epilogue: Epilogue) -> None:
        """weights float32 (M, C, kh, kw)."""
        self._prepared = products("winograd", weights, transformed(weights))
        self._products = self._prepared.parts
        self._geometry, self._epilogue = geometry, epilogue
        self._bias = [np.array(epilogue.bias[piece.first : piece.last]) for piece in self._products]

    def pays(self, height: int, width: int) -> bool:
        """Whether regions of this extent waste few enough of their tiles to be faster than a plain product."""
        return pays(self._geometry.kernel, self._prepared.depth, self._epilogue.bias.size, height, width)

    def run(self, window: Source, channels: int, origin: np.ndarray, residual: Residual, out: np.ndarray) -> None:
        """Regions at origin (N,2) into out (N, eh, ew, M)."""
        n, height, width, outputs = out.shape
        kernel_y, kernel_x = self._geometry.kernel
        points = (6 if kernel_y > 1 else 1) * (6 if kernel_x > 1 else 1)
        depth = self._prepared.depth
        parts = depth // channels
        tiles_x = -(-width // 4) if kernel_x > 1 else width
        columns = 4 * tiles_x + 3 * -(-kernel_x // 3) - 1 if kernel_x > 1 else width
        tile_y = 4 if kernel_y > 1 else 1
        tiles_y = -(-height // tile_y)
        strips = n * tiles_y
        widest = max(piece.last - piece.first for piece in self._products)
        most = max(1, min(_TILES, _INPUT // (points * depth)) // tiles_x)
        # Chunks of about the same size.
        step = -(-strips // -(-strips // most)) if strips else 1
        together = max(1, min(tiles_x, _TILE_SCRATCH // (24 * widest)))
        e = floats("winograd rows", 6 * columns * channels)
        d = floats("winograd window", 6 * columns * channels).reshape(6, columns * channels)
        scratch = floats("winograd tiles", (24 * together + 1) * widest)
        room = step * tiles_x + 3
        v_buffer = floats("winograd input", points * room * depth)
        m_buffer = floats("winograd products", points * room * widest)
        rows = out.reshape(n, height, width * outputs)
        epilogue = self._epilogue
        # The clamp waits for the residual.
        low, high = (-np.inf, np.inf) if residual.present else (epilogue.low, epilogue.high)
        for first in range(0, strips, step):
            last = min(first + step, strips)
            tiles = ((last - first) * tiles_x + 3) // 4 * 4  # whole blocks of rows: the last ones are not read
            v = v_buffer[: points * tiles * depth]
            transform_input(
                *window, origin, channels, *self._geometry.pads, kernel_y, kernel_x, height, width, first, last,
                d, e.reshape(6, columns * channels), e.reshape(6, columns, channels),
                v.reshape(points, tiles * parts, channels),
            )  # fmt: skip
            for piece, bias in zip(self._products, self._bias, strict=True):
                size = piece.last - piece.first
                m = m_buffer[: points * tiles * size].reshape(points, tiles, size)
                piece.multiply(v.reshape(points, tiles, depth), m)
                transform_output(
                    m.reshape(points, tiles * size), kernel_y, kernel_x, first, last, together,
                    scratch[: 24 * together * size].reshape(4, 6, together * size), scratch[-size:],
                    bias, piece.first, out, low, high,
                )  # fmt: skip
            if residual.present:
                first_row, last_row = (s // tiles_y * height + tile_y * (s % tiles_y) for s in (first, last))
                epilogue.add_residual(rows, first_row, last_row, residual, origin)
