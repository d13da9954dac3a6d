"""Products of float32 matrices on Intel AMX, whose tiles hold bfloat16: each float as the exact sum of three of them.

a * b = (a1 + a2 + a3) * (b1 + b2 + b3), of which the six products down to a1*b3, a2*b2, a3*b1 are summed in float32;
the other three are below 2**-23 of |a*b|. (The idea is Henry, Tang & Heinecke's, "Leveraging the bfloat16 Artificial
Intelligence Datatype For Higher-Precision Computations", arXiv:1904.06376.) Sums are rounded once in 32 products, so
the result is closer to the exact one than that of a float32 product (docs/performance.md).

Every row of the result is computed by itself: it does not depend on how many rows there are, nor on its place.
"""

from functools import cache
from itertools import product

import numpy as np

from . import amx
from .compiled import inline, kernel
from .precision import parts_used
from .weights import Columns
from .workspace import aligned, floats

# A block of the result: 2 x 2 tiles.
_BLOCK = 32
# Rows that are split at once: their parts, and the weights of a block, should stay in the second-level cache.
_ROWS = 64
# And where the weights are split anew each time.
_WHOLE_ROWS = 256
# Stacks that would be larger than this when split stay whole.
_SPLIT_BYTES = 12 << 20
_NARROWEST = 16


@cache
def _shapes(rows: int, columns: int) -> np.ndarray:
    """uint8 (4, 64): the tiles' shapes for blocks of the result of 32 or `rows` rows by 32 or `columns` columns."""
    table = np.zeros((4, 64), np.uint8)
    for shapes, (height, width) in zip(table, product((_BLOCK, rows), (_BLOCK, columns)), strict=True):
        shapes[0] = 1
        downs, acrosses = ((min(size, 16), size - 16 if size > 16 else 16) for size in (height, width))
        for tile in range(8):
            lower, right = tile in (2, 3, 5), tile % 2
            across = 16 if tile in (4, 5) else acrosses[right]
            shapes[16 + 2 * tile] = 4 * across
            shapes[48 + tile] = 16 if tile > 5 else downs[lower]
    return table


@inline
def _clamp(address, height, width, stride, low, high):
    """A block of the result, in place."""
    for r in range(height):
        amx.clamp_row(address + r * stride, width, low, high)


@inline
def _split_rows(source, depth, first, last, step, target, strip, used):
    """Values 32 * step .. of rows [first, last) for the tiles."""
    for r in range(first, last):
        values = source + 4 * (r * depth + 32 * step)
        amx.split_row(values, depth - 32 * step, target + (r >> 4) * strip + 3072 * step + 64 * (r & 15), used)


@inline
def _split_weights(source, matrix, factor_0, factor_1, factor_2, first, last, target, used):
    """Rows [first, last) of the tiles (one or two) of one step into their parts: of three matrices' sum, or of one."""
    for r in range(first, last):
        to = target + (r >> 4) * 3072 + 64 * (r & 15)
        if factor_1 == 0:  # the points 0 and infinity take the first or the last tap alone
            amx.split_row(source + 128 * r + (0 if factor_2 == 0 else 2 * matrix), 32, to, used)
        else:
            amx.split_sum(source + 128 * r, matrix, factor_0, factor_1, factor_2, to, used)


@kernel
def multiply_tiles(
    a, weights, whole, factors, bias, biased, out, stack_stride, row_stride, columns, most, clamped, low, high,
    shapes, rows, parts, used,
):  # fmt: skip
    """out (S, P, columns) = a (S, P, K) @ weights (+ bias where `biased`), clamped where `clamped`.

    weights uint8 (matrices, bytes): `pack`'s, whole floats where `whole`, else split; factors float32 (n, 3): if there
    are any, matrix s is made of three (`Columns`), else n is 0; bias float32 (columns rounded up to
    32,); out float32 (floats,), of which a row takes row_stride and a matrix stack_stride; shapes: `_shapes`; rows
    float32 (twice `most` split rows,) and parts float32 (twice the split weights of 32 columns,): scratch; used: how
    many parts of a number are multiplied: 3 is as exact as float32, 2 leaves out what is below 2**-16 of a product, 1
    rounds to bfloat16.

    What comes next, rows and whole weights, is split while the tiles multiply what came before: the vector units
    have nothing else to do.
    """
    stack, count, depth = a.shape
    steps = (depth + amx.ROW - 1) // amx.ROW
    strip = 3 * amx.TILE * steps  # bytes of 16 split rows, and of 16 split columns of weights
    source, weights_at, bias_at = a.ctypes.data, weights.ctypes.data, bias.ctypes.data
    out_at, shapes_at = out.ctypes.data, shapes.ctypes.data
    matrix, tile = weights.shape[1], (2 * amx.TILE if whole else 3 * amx.TILE)
    blocks = (columns + _BLOCK - 1) // _BLOCK
    # Of 32 rows, each of the first 32 / share column blocks splits so many.
    share = 32 if blocks == 1 else 16 if blocks < 4 else 8
    low32, high32 = np.float32(low), np.float32(high)
    shaped = -1
    unclamped, unclamped_rows, unclamped_columns = 0, 0, 0
    here, there = rows.ctypes.data, rows.ctypes.data + (most // 16) * strip
    taps_here, taps_there = parts.ctypes.data, parts.ctypes.data + 2 * strip
    for t in range(steps):
        _split_rows(source, depth, 0, min(most, count), t, here, strip, used)
    if whole:
        tiles = 1 if columns <= 16 else 2
        one, two, three = np.float32(1), np.float32(0), np.float32(0)
        if len(factors):
            one, two, three = factors[0, 0], factors[0, 1], factors[0, 2]
        for t in range(steps):
            _split_weights(
                weights_at + t * tiles * tile, matrix, one, two, three, 0, 16 * tiles,
                taps_here + t * tiles * 3072, used,
            )  # fmt: skip
    for s in range(stack):
        for first in range(0, count, most):
            height = min(most, count - first)
            # The rows that are multiplied next: of this matrix or of the next one.
            if first + height < count:
                after, following, ahead = s, source + 4 * (s * count + first + height) * depth, count - first - height
            else:
                after, following, ahead = s + 1, source + 4 * (s + 1) * count * depth, count if s + 1 < stack else 0
            ahead = min(most, ahead)
            pairs = (height + 31) // 32
            for block in range(blocks):
                column = _BLOCK * block
                width = min(_BLOCK, columns - column)
                tiles = 1 if width <= 16 else 2
                if whole:
                    taps = taps_here
                    following_block = block + 1 if block + 1 < blocks else 0
                    weights_next = weights_at + following_block * steps * 2 * tile
                    stored = s if following_block else after
                    if len(factors):
                        point = stored % len(factors)
                        one, two, three = factors[point, 0], factors[point, 1], factors[point, 2]
                        stored = stored // len(factors) * 3
                    weights_next += stored * matrix
                    tiles_next = 1 if columns - _BLOCK * following_block <= 16 else 2
                    if following_block == 0 and ahead == 0:
                        tiles_next = 0
                    part = (16 * tiles_next + pairs - 1) // pairs
                else:
                    taps = weights_at + s * matrix + block * steps * 2 * tile
                for i in range(0, max(height, ahead), 32):
                    split_first = i + block * share
                    split_last = min(split_first + share, i + 32, ahead)
                    if i >= height:  # nothing left to multiply: only split
                        for t in range(steps):
                            _split_rows(following, depth, split_first, split_last, t, there, strip, used)
                        continue
                    tall = min(32, height - i)
                    wanted = (0 if tall == _BLOCK else 2) + (0 if width == _BLOCK else 1)
                    if wanted != shaped:
                        shaped = wanted
                        amx.configure(shapes_at + 64 * shaped)
                    if biased:
                        amx.load_bias(bias_at + 4 * column, 0, 0)
                    else:
                        amx.zero_sums(0, 0, 0)
                    upper = here + (i >> 4) * strip
                    lower = upper + strip
                    for t in range(steps):
                        if split_first < split_last:
                            _split_rows(following, depth, split_first, split_last, t, there, strip, used)
                        if whole:
                            weights_first = (i >> 5) * part
                            _split_weights(
                                weights_next + t * tiles_next * tile, matrix, one, two, three, weights_first,
                                min(weights_first + part, 16 * tiles_next), taps_there + t * tiles_next * 3072, used,
                            )  # fmt: skip
                        one_rows, other_rows = upper + 3072 * t, lower + 3072 * t
                        if tall > 16 and tiles == 2:
                            amx.add_products_tall_two(one_rows, other_rows, taps + 6144 * t, used)
                        elif tall > 16:
                            amx.add_products_tall(one_rows, other_rows, taps + 3072 * t, used)
                        elif tiles == 2:
                            amx.add_products_two(one_rows, one_rows, taps + 6144 * t, used)
                        else:
                            amx.add_products(one_rows, one_rows, taps + 3072 * t, used)
                    # The block before: this one's products are still under way.
                    _clamp(unclamped, unclamped_rows, unclamped_columns, 4 * row_stride, low32, high32)
                    target = out_at + 4 * (s * stack_stride + (first + i) * row_stride + column)
                    if tall > 16 and tiles == 2:
                        amx.store_sums_tall_two(target, 4 * row_stride, 0)
                    elif tall > 16:
                        amx.store_sums_tall(target, 4 * row_stride, 0)
                    elif tiles == 2:
                        amx.store_sums_two(target, 4 * row_stride, 0)
                    else:
                        amx.store_sums(target, 4 * row_stride, 0)
                    if clamped:
                        unclamped, unclamped_rows, unclamped_columns = target, tall, width
                if whole:
                    taps_here, taps_there = taps_there, taps_here
            here, there = there, here
    _clamp(unclamped, unclamped_rows, unclamped_columns, 4 * row_stride, low32, high32)
    amx.release()


def _rounded(values: np.ndarray) -> np.ndarray:
    """To the nearest bfloat16, as float32."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def _split(values: np.ndarray) -> np.ndarray:
    """float32 (...) -> uint16 (3, ...): the bfloat16 parts. Rounded and not cut off, so that what the six products
    leave out is as often too small as too large."""
    parts = np.empty((3, *values.shape), np.uint16)
    rest = values.copy()
    for part in parts:
        rounded = _rounded(rest)
        part[:] = rounded.view(np.uint32) >> 16
        rest -= rounded
    return parts


def pack(weights: Columns, whole: bool) -> np.ndarray:
    """Weights (S, K, N) for `multiply_tiles`: uint8 (S, bytes), or for fewer matrices where they are made of others.

    A block of 32 columns after the other; in it 32 values of the depth after the other; of them one or two tiles: row
    k of a tile holds values 2k and 2k + 1 of 16 columns. A tile is float32 where `whole`, else its three parts.
    """
    stack, depth, columns = weights.shape
    if weights.factors is not None:
        stack = stack // len(weights.factors) * 3
    steps, tiles = -(-depth // 32), -(-columns // 16)
    tile = 2 * amx.TILE if whole else 3 * amx.TILE
    packed = aligned(stack * steps * tiles * tile // 4).view(np.uint8).reshape(stack, -1)
    for first in range(0, tiles, 2):
        last = min(first + 2, tiles)
        block = np.zeros((stack, 32 * steps, 16 * (last - first)), np.float32)
        some = weights.take(16 * first, min(16 * last, columns))
        block[:, :depth, : some.shape[2]] = some
        # (S, steps, tiles, 16, 16, 2): the rows of the tiles
        block = np.ascontiguousarray(block.reshape(stack, steps, 16, 2, -1, 16).transpose(0, 1, 4, 2, 5, 3))
        if not whole:
            block = np.ascontiguousarray(_split(block).transpose(1, 2, 3, 0, 4, 5, 6))
        packed[:, steps * first * tile : steps * last * tile] = block.reshape(stack, -1).view(np.uint8)
    return packed


def suit(depth: int, columns: int) -> bool:
    """Whether a product by weights (depth, columns) is done this way: narrower ones would leave the tiles half empty.

    The answer never depends on the rows, so that results do not depend on how many there are.
    """
    return min(depth, columns) >= _NARROWEST and amx.available()


class TileProduct:
    """By columns [first, last) of fixed weights (S, K, N)."""

    def __init__(self, weights: Columns, first: int, last: int, bias: np.ndarray | None = None) -> None:
        """bias float32 (N,), for `finish`."""
        stack, self.depth, _ = weights.shape
        self.first, self.last = first, last
        self._columns = last - first
        # Whole floats take two thirds of the memory. To split them again for a few hundred rows costs some percent.
        some = weights.part(first, last)
        self._whole = stack * self.depth * self._columns * 6 > _SPLIT_BYTES and stack > 1
        if not self._whole:
            some = Columns(some.shape, some.whole)
        self._weights = pack(some, self._whole)
        factors = np.zeros((0, 3)) if some.factors is None else some.factors
        self._factors = np.array(factors, np.float32)
        self._bias = aligned(-(-self._columns // _BLOCK) * _BLOCK)
        self._bias[:] = 0
        if bias is not None:
            self._bias[: self._columns] = bias[first:last]

    def multiply(self, a: np.ndarray, out: np.ndarray) -> None:
        """out (S, P, N) = a (S, P, K) @ weights; a is contiguous, the rows of out are, and lie at even distances."""
        self._run(a, out, False, -np.inf, np.inf)

    def finish(self, a: np.ndarray, out: np.ndarray, low: float, high: float) -> None:
        """The same, + bias, limited to [low, high]."""
        self._run(a, out, True, low, high)

    def _run(self, a: np.ndarray, out: np.ndarray, biased: bool, low: float, high: float) -> None:
        if a.size == 0 or out.size == 0:
            return
        stack_stride, row_stride = out.strides[0] // 4, out.strides[1] // 4
        if out.flags.c_contiguous:
            flat = out.reshape(-1)
        else:  # the groups of a convolution lie side by side
            stack, count, columns = out.shape
            extent = (stack - 1) * stack_stride + (count - 1) * row_stride + columns
            flat = np.lib.stride_tricks.as_strided(out, (extent,), (4,))
        strip = -(-self.depth // amx.ROW) * 3 * amx.TILE // 4  # floats of 16 split rows
        most = min(-(-a.shape[1] // 32) * 32, _WHOLE_ROWS) if self._whole else _ROWS
        multiply_tiles(
            a, self._weights, self._whole, self._factors, self._bias, biased, flat, stack_stride, row_stride,
            self._columns, most, low > -np.inf or high < np.inf, low, high,
            _shapes(a.shape[1] % _BLOCK or _BLOCK, self._columns % _BLOCK or _BLOCK),
            floats("split rows", 2 * strip * most // 16), floats("split weights", 4 * strip),
            parts_used(len(a), self.depth),
        )  # fmt: skip
