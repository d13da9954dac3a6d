"""How precisely products are computed: as float32, or lighter where the result is an approximation anyway."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_state = threading.local()


@contextmanager
def light_products(wanted: bool = True) -> Iterator[None]:
    """While it lasts, products of this thread need not be exact: less work on Intel AMX."""
    before = getattr(_state, "light", False)
    _state.light = wanted
    try:
        yield
    finally:
        _state.light = before


WIDE = 256  # terms a product


def parts_used(stack: int, depth: int) -> int:
    """In how many bfloat16 parts a product of `stack` matrices by `depth` rows takes its numbers.

    Three are as exact as float32. Light ones are rounded to one part, and in narrow stacks to two: those are
    Winograd's, whose transforms make rounding errors about ten times larger, and little of the time is theirs.
    """
    if not getattr(_state, "light", False):
        return 3
    return 1 if stack == 1 or depth >= WIDE else 2
