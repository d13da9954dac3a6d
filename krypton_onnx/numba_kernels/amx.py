"""Intel AMX from Numba: matrix tiles of 16 rows of 64 bytes, eight of them a thread, and products of bfloat16 tiles.

The instructions are LLVM's intrinsics of the same names (Intel 64 and IA-32 Architectures Software Developer's Manual,
vol. 1, chapter 18). Tile numbers are fixed when compiling, so each block of instructions is a function of its own.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic as _intrinsic

SWITCH = "KRYPTON_ONNX_AMX"
"""Environment variable: "0" keeps to ordinary vector instructions."""

_NEEDED = ("amx-tile", "amx-bf16", "avx512f", "avx512bw")
_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18  # Linux, x86-64

_BYTE, _SHORT, _INT, _LONG, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_POINTER = ir.PointerType(_BYTE)

intrinsic: Callable[..., Any] = _intrinsic  # called from kernels without its first argument, the typing context


@cache
def available() -> bool:
    """Whether this process may use the tiles. Linux hands them out on request, once for all threads of a process."""
    if os.environ.get(SWITCH, "") == "0" or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    features = llvmlite.binding.get_host_cpu_features()
    if not all(features.get(name) for name in _NEEDED):
        return False
    libc = ctypes.CDLL(None)
    return libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0


def _call(builder: Any, name: str, tiles: tuple[int, ...], arguments: list[Any]) -> None:
    signature = ir.FunctionType(ir.VoidType(), [_BYTE] * len(tiles) + [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    builder.call(function, [ir.Constant(_BYTE, tile) for tile in tiles] + arguments)


@intrinsic
def configure(typing: Any, address: Any) -> Any:
    """Shapes of the tiles, from the 64 bytes at `address`; all tiles become zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.ldtilecfg", (), [builder.inttoptr(arguments[0], _POINTER)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def release(typing: Any) -> Any:
    """Give the tiles back: the system then saves less when it switches threads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "llvm.x86.tilerelease", (), [])
        return context.get_dummy_value()

    return types.void(), generate


def _block(make: Callable[..., None]) -> Callable[..., Any]:
    """(x, y, z) -> what `make` emits for them: many instructions that Numba types and lowers as one call."""

    @intrinsic
    def block(typing: Any, x: Any, y: Any, z: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            make(builder, *arguments)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return block


def _fewer(builder: Any, parts: Any, than: int) -> Any:
    return builder.icmp_signed("<", parts, ir.Constant(_LONG, than))


def _in_parts(make: Callable[..., None]) -> Callable[..., Any]:
    """As _block, for what also asks in how many parts numbers are."""

    @intrinsic
    def block(typing: Any, x: Any, y: Any, z: Any, parts: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            make(builder, *arguments)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64, types.int64), generate

    return block


def _transfer(builder: Any, name: str, tile: int, address: Any, offset: int, stride: Any) -> None:
    """A tile from or to memory; the stride, known or not when compiling, is in bytes."""
    if isinstance(stride, int):
        stride = ir.Constant(_LONG, stride)
    address = builder.inttoptr(builder.add(address, ir.Constant(_LONG, offset)), _POINTER)
    _call(builder, f"llvm.x86.tile{name}64", (tile,), [address, stride])


def _make_products(tall: bool, two: bool) -> Callable[..., None]:
    """Two tiles of rows (4, 5; one unless `tall`) by two of weights (6, 7; one unless `two`) into sums 0 to 3.

    The six products of 32 values, or the three that rows and weights of two `parts` have, or the one of one part, in
    the order with the fewest loads. Parts of a row tile, and of a weight tile, lie TILE bytes apart, weight tiles
    3 * TILE.
    """

    def make(builder: Any, upper: Any, lower: Any, weights: Any, parts: Any) -> None:
        def rows(part: int) -> None:
            _transfer(builder, "loadd", 4, upper, part * TILE, 64)
            if tall:
                _transfer(builder, "loadd", 5, lower, part * TILE, 64)

        def columns(part: int) -> None:
            _transfer(builder, "loadd", 6, weights, part * TILE, 64)
            if two:
                _transfer(builder, "loadd", 7, weights, (3 + part) * TILE, 64)

        def add() -> None:
            for sums, row, column in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7)):
                if (tall or row == 4) and (two or column == 6):
                    _call(builder, "llvm.x86.tdpbf16ps", (sums, row, column), [])

        columns(0)
        with builder.if_else(_fewer(builder, parts, 3)) as (one_or_three, six):
            with one_or_three:
                with builder.if_then(builder.not_(_fewer(builder, parts, 2))):
                    rows(1)
                    add()
                    columns(1)
                    rows(0)
                    add()
                    columns(0)
                rows(0)
                add()
            with six:
                for part in (2, 1, 0):
                    rows(part)
                    add()
                for part in (2, 1):
                    columns(part)
                    add()
                rows(1)
                add()

    return make


def _make_bias(builder: Any, address: Any, _: Any, __: Any) -> None:
    """Every row of the sums starts as the 32 floats at `address`."""
    for tile in range(4):
        _transfer(builder, "loadd", tile, address, 64 * (tile % 2), 0)


def _make_zero(builder: Any, _: Any, __: Any, ___: Any) -> None:
    for tile in range(4):
        _call(builder, "llvm.x86.tilezero", (tile,), [])


def _make_store(tall: bool, two: bool) -> Callable[..., None]:
    """The sums to `address`, rows `stride` bytes apart."""

    def make(builder: Any, address: Any, stride: Any, _: Any) -> None:
        lower = builder.mul(stride, ir.Constant(_LONG, 16))
        for tile in range(4):
            if (tall or tile < 2) and (two or tile % 2 == 0):
                place = builder.add(address, lower) if tile > 1 else address
                _transfer(builder, "stored", tile, place, 64 * (tile % 2), stride)

    return make


ROW = 32
"""bfloat16 values of one row of a tile."""
TILE = 1024
"""Bytes of a whole tile."""

zero_sums, load_bias = _block(_make_zero), _block(_make_bias)
add_products_tall_two, add_products_tall, add_products_two, add_products = (
    _in_parts(_make_products(tall, two)) for tall in (True, False) for two in (True, False)
)
store_sums_tall_two, store_sums_tall, store_sums_two, store_sums = (
    _block(_make_store(tall, two)) for tall in (True, False) for two in (True, False)
)


def _widen(builder: Any) -> None:
    """Use registers of 512 bits in this function; LLVM would cut them in halves."""
    for attribute in ("min-legal-vector-width", "prefer-vector-width"):
        # llvmlite itself knows only attributes without a value.
        set.add(builder.function.attributes, f'"{attribute}"="512"')


_FLOATS, _FLAGS = ir.VectorType(_FLOAT, ROW), ir.VectorType(ir.IntType(1), ROW)
_INTS, _SHORTS = ir.VectorType(_INT, ROW), ir.VectorType(_SHORT, 2 * ROW)


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(_INTS, [0] * ROW))


def _first(builder: Any, count: Any) -> Any:
    """Flags of the first `count` of 32."""
    counts = _splat(builder, builder.trunc(count, _INT), _INTS)
    return builder.icmp_signed("<", ir.Constant(_INTS, list(range(ROW))), counts)


def _load(builder: Any, address: Any, wanted: Any) -> Any:
    """The wanted ones of 32 floats at `address`, zero for the others."""
    pointer = ir.PointerType(_FLOATS)
    signature = ir.FunctionType(_FLOATS, [pointer, _INT, _FLAGS, _FLOATS])
    name = "llvm.masked.load.v32f32.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    zeros = ir.Constant(_FLOATS, [0.0] * ROW)
    return builder.call(function, [builder.inttoptr(address, pointer), ir.Constant(_INT, 4), wanted, zeros])


def _store(builder: Any, value: Any, address: Any, wanted: Any) -> None:
    """The wanted ones of 32 floats to `address`."""
    pointer = ir.PointerType(_FLOATS)
    signature = ir.FunctionType(ir.VoidType(), [_FLOATS, pointer, _INT, _FLAGS])
    name = "llvm.masked.store.v32f32.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    builder.call(function, [value, builder.inttoptr(address, pointer), ir.Constant(_INT, 4), wanted])


def _store_parts(builder: Any, value: Any, target: Any, parts: Any) -> None:
    """32 floats as rows of bfloat16, so many: the first rounded, so that it is a fair value by itself, and of what is
    left the upper bits, twice."""
    upper = ir.Constant(_INTS, [0xFFFF0000] * ROW)
    odd = ir.Constant(_INTS, [2 * k + 1 for k in range(ROW)])

    def store(part: int, rest: Any, bits: Any) -> Any:
        halves = builder.shuffle_vector(builder.bitcast(bits, _SHORTS), ir.Constant(_SHORTS, ir.Undefined), odd)
        address = builder.add(target, ir.Constant(_LONG, part * TILE))
        builder.store(halves, builder.inttoptr(address, ir.PointerType(halves.type)), align=64)
        return builder.fsub(rest, builder.bitcast(builder.and_(bits, upper), _FLOATS))

    rounded = builder.add(builder.bitcast(value, _INTS), ir.Constant(_INTS, [0x8000] * ROW))
    rest = store(0, value, rounded)
    with builder.if_then(builder.not_(_fewer(builder, parts, 2))):
        rest = store(1, rest, builder.bitcast(rest, _INTS))
        store(2, rest, builder.bitcast(rest, _INTS))


@intrinsic
def split_row(typing: Any, source: Any, count: Any, target: Any, parts: Any) -> Any:
    """min(count, 32) floats at `source` as sums of three bfloat16 each; the other ones of 32 are zero.

    A float has 24 bits of mantissa and a bfloat16 has 8: rounded to 8 bits, what is left has 16 at most, and of that 8
    are left after 8 more, so the sum is exact. The three rows go to target, target + TILE and target + 2 * TILE; of
    one part, only the first does.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _widen(builder)
        source, count, target, parts = arguments
        _store_parts(builder, _load(builder, source, _first(builder, count)), target, parts)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def split_sum(
    typing: Any, source: Any, stride: Any, factor_0: Any, factor_1: Any, factor_2: Any, target: Any, parts: Any
) -> Any:  # fmt: skip
    """As split_row, of the sum of 32 floats at source, source + stride and source + 2 * stride, each times a factor.

    Addresses are multiples of 64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _widen(builder)
        source, stride, *factors, target, parts = arguments
        total = ir.Constant(_FLOATS, [0.0] * ROW)
        for factor in factors:
            values = builder.load(builder.inttoptr(source, ir.PointerType(_FLOATS)), align=64)
            product = builder.fmul(values, _splat(builder, factor, _FLOATS), flags=("contract",))
            total = builder.fadd(total, product, flags=("contract",))
            source = builder.add(source, stride)
        _store_parts(builder, total, target, parts)
        return context.get_dummy_value()

    signature = (types.int64, types.int64, types.float32, types.float32, types.float32, types.int64, types.int64)
    return types.void(*signature), generate


@intrinsic
def clamp_row(typing: Any, address: Any, count: Any, low: Any, high: Any) -> Any:
    """min(count, 32) floats at `address`, limited to [low, high] in place; NaN stays NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _widen(builder)
        address, count, low, high = arguments
        wanted = _first(builder, count)
        value = _load(builder, address, wanted)
        for order, limit in (("<", _splat(builder, low, _FLOATS)), (">", _splat(builder, high, _FLOATS))):
            value = builder.select(builder.fcmp_ordered(order, value, limit), limit, value)
        _store(builder, value, address, wanted)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32, types.float32), generate
