"""Reading a value that somebody wrote, in a file or as an argument: what it must be, and what is kept of it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

LARGEST = 2**63 - 1  # of TOML's integers

# From what was given to what is kept; raises ValueError with what it must be.
Read = Callable[[Any], Any]


def shown(value: object) -> str:
    """A value on one line, short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def integer(least: int) -> Read:
    def read(value: Any) -> int:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (whole and least <= value <= LARGEST):
            raise ValueError(f"must be an integer of at least {least}, got {shown(value)}")
        return int(value)

    return read


def number(what: str, fits: Callable[[float], bool] = math.isfinite) -> Read:
    def read(value: Any) -> float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        try:
            if real and fits(float(value)):
                return float(value)
        except OverflowError:
            pass
        raise ValueError(f"must be {what}, got {shown(value)}")

    return read


def word(choices: Iterable[str]) -> Read:
    known = tuple(choices)

    def read(value: Any) -> str:
        if not (isinstance(value, str) and value in known):
            raise ValueError(f"must be one of {', '.join(known)}, got {shown(value)}{meant(value, known)}")
        return value

    return read


def text(what: str) -> Read:
    def read(value: Any) -> str:
        if not (isinstance(value, str) and value and "\0" not in value):
            raise ValueError(f"must be {what}, got {shown(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"must be text that UTF-8 can hold, got {shown(value)}") from None
        return value

    return read


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {shown(value)}")
    return value


def several(read: Read, what: str, counts: Iterable[int] = range(1, 1 << 20)) -> Read:
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


def either(one: Read, several: Read) -> Read:
    """Whichever the value looks like: a sequence, or not."""

    def read(value: Any) -> Any:
        return (several if isinstance(value, (list, tuple, range, np.ndarray)) else one)(value)

    return read


def pair(value: Any) -> tuple[int, int]:
    what = "an integer or two (height and width) of at least 1"
    single = isinstance(value, numbers.Integral)
    height, width = several(integer(1), what, (2,))((value, value) if single else value)
    return height, width


def meant(word: object, known: Iterable[str], form: str = "{}") -> str:
    """ "; did you mean ...?" where one of the known words is close."""
    close = get_close_matches(str(word), list(known), 1)
    return f"; did you mean {form.format(close[0])}?" if close else ""
