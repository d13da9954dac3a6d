"""What a specification holds: every key of its TOML, the table it stands in, and the values it may have."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

import numpy as np

from krypton_onnx.images import ChannelOrder, Layout
from krypton_onnx.runtime.scores import SCORES
from krypton_onnx.runtime.session import MODES

MODEL, PREPARATION, OCCLUSION, SCORE, COMPUTING = TABLES = ("model", "preparation", "occlusion", "score", "computing")
LARGEST = 2**63 - 1  # of TOML's integers

# From what was given to what is kept; raises ValueError with what it must be.
Read = Callable[[Any], Any]


@dataclass(frozen=True)
class Key:
    """A key of a table, and the field of the specification (or of its preparation) that it is."""

    table: str
    name: str
    field: str
    read: Read


def shown(value: object) -> str:
    """A value on one line, short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _integer(least: int) -> Read:
    def read(value: Any) -> int:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (whole and least <= value <= LARGEST):
            raise ValueError(f"must be an integer of at least {least}, got {shown(value)}")
        return int(value)

    return read


def _number(what: str, fits: Callable[[float], bool] = math.isfinite) -> Read:
    def read(value: Any) -> float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        try:
            if real and fits(float(value)):
                return float(value)
        except OverflowError:
            pass
        raise ValueError(f"must be {what}, got {shown(value)}")

    return read


def _word(choices: Iterable[str]) -> Read:
    known = tuple(choices)

    def read(value: Any) -> str:
        if not (isinstance(value, str) and value in known):
            raise ValueError(f"must be one of {', '.join(known)}, got {shown(value)}{meant(value, known)}")
        return value

    return read


def _text(what: str) -> Read:
    def read(value: Any) -> str:
        if not (isinstance(value, str) and value and "\0" not in value):
            raise ValueError(f"must be {what}, got {shown(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"must be text that UTF-8 can hold, got {shown(value)}") from None
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {shown(value)}")
    return value


def _digest(value: Any) -> str:
    if not (isinstance(value, str) and len(value) == 64 and set(value.lower()) <= set("0123456789abcdef")):
        raise ValueError(f"must be 64 hexadecimal digits, got {shown(value)}")
    return value.lower()


def _several(read: Read, what: str, counts: Iterable[int] = range(1, 1 << 20)) -> Read:
    """A tuple of values, from any sequence of them."""

    def read_all(value: Any) -> tuple:
        if isinstance(value, np.ndarray):
            value = list(value) if value.ndim == 1 else value
        if not isinstance(value, (list, tuple, range)) or len(value) not in counts:
            raise ValueError(f"must be {what}, got {shown(value)}")
        try:
            return tuple(read(one) for one in value)
        except ValueError:
            raise ValueError(f"must be {what}, got {shown(value)}") from None

    return read_all


def _either(one: Read, several: Read) -> Read:
    """Whichever the value looks like: a sequence, or not."""

    def read(value: Any) -> Any:
        return (several if isinstance(value, (list, tuple, range, np.ndarray)) else one)(value)

    return read


def _pair(value: Any) -> tuple[int, int]:
    what = "an integer or two (height and width) of at least 1"
    single = isinstance(value, numbers.Integral)
    height, width = _several(_integer(1), what, (2,))((value, value) if single else value)
    return height, width


def _region(value: Any) -> tuple[int, int, int, int]:
    what = "four integers (top, left, bottom, right) with top < bottom and left < right"
    top, left, bottom, right = _several(_integer(0), what, (4,))(value)
    if not (top < bottom and left < right):
        raise ValueError(f"must be {what}, got {shown(value)}")
    return top, left, bottom, right


def _fill(value: Any) -> float | tuple[float, ...]:
    what = "a finite number, or one a channel"
    if callable(value) or (isinstance(value, np.ndarray) and value.ndim > 1):
        kind = "a function" if callable(value) else f"an array of shape {value.shape}"
        raise ValueError(f"must be {what}: {kind} cannot be written to a file; pass it to OcclusionSession.explain")
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    finite = _number(what, _single_precision)
    return _either(finite, _several(finite, what))(value)


def _single_precision(value: float) -> bool:
    return abs(value) <= float(np.finfo(np.float32).max)


def _score(value: Any) -> str:
    if callable(value):
        raise ValueError(
            f"must be one of {', '.join(SCORES)}: a function cannot be written to a file; "
            "pass it to OcclusionSession.explain"
        )
    return _word(SCORES)(value)


def _unlike_0(value: float) -> bool:
    return math.isfinite(value) and value != 0


_ids = _several(_integer(0), "class ids, integers of at least 0")
_numbers = _several(_number("a finite number"), "finite numbers, one or one a channel")
_size = _several(_integer(1), "two integers (height and width) of at least 1", (2,))

KEYS: tuple[Key, ...] = (
    Key(MODEL, "path", "model", _text("the path of an ONNX model")),
    Key(MODEL, "sha256", "model_sha256", _digest),
    Key(MODEL, "image_input", "image_input", _text("the name of an input")),
    Key(PREPARATION, "size", "size", _size),
    Key(PREPARATION, "mean", "mean", _numbers),
    Key(PREPARATION, "std", "std", _numbers),
    Key(PREPARATION, "scale", "scale", _number("a finite number other than 0", _unlike_0)),
    Key(PREPARATION, "channel_order", "channel_order", _word(get_args(ChannelOrder))),
    Key(PREPARATION, "layout", "layout", _word(get_args(Layout))),
    Key(OCCLUSION, "patch", "patch", _pair),
    Key(OCCLUSION, "stride", "stride", _pair),
    Key(OCCLUSION, "fill", "fill", _fill),
    Key(OCCLUSION, "region", "region", _region),
    Key(SCORE, "score", "score", _score),
    Key(SCORE, "output", "output", _text("the name of an output")),
    Key(SCORE, "targets", "targets", _either(_integer(0), _ids)),
    Key(COMPUTING, "mode", "mode", _word(MODES)),
    Key(COMPUTING, "min_ssim", "min_ssim", _number("a number above 0 and at most 1", lambda value: 0 < value <= 1)),
    Key(COMPUTING, "complete_exactly", "complete_exactly", _flag),
    Key(COMPUTING, "seed", "seed", _integer(0)),
    Key(COMPUTING, "strict", "strict", _flag),
    Key(COMPUTING, "providers", "providers", _several(_text("a name"), "names of execution providers")),
    Key(COMPUTING, "batch_size", "batch_size", _integer(1)),
    Key(
        COMPUTING, "time_budget", "time_budget",
        _number("a number of seconds", lambda value: math.isfinite(value) and value >= 0),
    ),
    Key(COMPUTING, "memory_budget", "memory_budget", _integer(1)),
)  # fmt: skip


def meant(word: object, known: Iterable[str], form: str = "{}") -> str:
    """ "; did you mean ...?" where one of the known words is close."""
    close = get_close_matches(str(word), list(known), 1)
    return f"; did you mean {form.format(close[0])}?" if close else ""


def unknown(table: str, name: str) -> str:
    """What to say about a key that its table has not."""
    own = [key.name for key in KEYS if key.table == table]
    others = [key.table for key in KEYS if key.name == name]
    hint = meant(name, own) or (f"; it belongs in [{others[0]}]" if others else f"; it has: {', '.join(own)}")
    return f"is not a key of [{table}]{hint}"
