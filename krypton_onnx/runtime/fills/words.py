"""What a fill may be: a number, one a channel, an array, a word, a function, or several of these to average over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches

import numpy as np

from krypton_onnx.errors import ImageError

PIXELS = {"black": 0.0, "white": 255.0, "gray": 127.5}  # pixel values, of pictures of 8 bits
MADE = ("blur", "inpaint", "surroundings")  # from the image, for every position
WORDS = ("mean", *PIXELS, *MADE)
SPACES = ("model", "pixel")
MOST_SAMPLES = 256

OneFill = float | str | np.ndarray | Sequence[float] | Callable[[np.ndarray, int, int, int, int], np.ndarray]
Fill = OneFill | Sequence[OneFill]


def fills_of(fill: Fill) -> tuple[OneFill, ...]:
    """The fills to average over: those of a list with at least one word, function or list in it, else the one given.

    A flat list of numbers is one a channel, and arrays of (h, w), one a channel, are an array.
    """
    if isinstance(fill, (list, tuple)) and any(_stands_alone(one) for one in fill):
        return tuple(fill)
    return (fill,)  # type: ignore[return-value]


def _stands_alone(one: object) -> bool:
    if isinstance(one, str) or callable(one):
        return True
    try:
        return np.ndim(one) in (1, 3)  # type: ignore[arg-type]
    except ValueError:  # rows of different lengths
        return False


def check_fill(fill: Fill, space: object, samples: object) -> None:
    """Raises ImageError where a word is unknown, or a setting cannot be right, whatever the image."""
    for one in fills_of(fill):
        if isinstance(one, str) and one not in WORDS:
            raise ImageError(f"fill is not made of numbers: {_shown(one)}; as a word it is {word_list()}{meant(one)}")
    if not (isinstance(space, str) and space in SPACES):
        raise ImageError(f"fill_space must be one of {', '.join(SPACES)}, got {_shown(space)}")
    whole = isinstance(samples, (int, np.integer)) and not isinstance(samples, bool)
    if not (whole and 1 <= samples <= MOST_SAMPLES):  # type: ignore[operator]
        raise ImageError(f"fill_samples must be an integer from 1 to {MOST_SAMPLES}, got {_shown(samples)}")


def needs_preparation(fill: Fill, space: str) -> bool:
    """True where a part of the fill is stated as a pixel value."""
    return any(one in PIXELS if isinstance(one, str) else space == "pixel" for one in fills_of(fill))


def word_list() -> str:
    """The words, for a sentence."""
    return f"{', '.join(WORDS[:-1])} or {WORDS[-1]}"


def meant(word: str, known: Sequence[str] = WORDS) -> str:
    """ "; did you mean ...?" where one of the words is close."""
    close = get_close_matches(word.lower(), known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(value: object) -> str:
    return " ".join(repr(value).split())[:80]
