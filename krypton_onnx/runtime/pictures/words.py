"""A map in words: names, numbers, places, and a description for those who do not see the picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from krypton_onnx.errors import ImageError

if TYPE_CHECKING:
    from krypton_onnx.runtime.heat_map import Extreme, HeatMap

Labels = Sequence[str] | Mapping[int, str]

MISSING = "\N{REPLACEMENT CHARACTER}"
# Characters that turn the direction of what follows them, also of what is not theirs.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BYTE_ORDER_MARK = "\ufeff"  # says nothing inside a text, and Matplotlib 3.11 cannot write it into a .pdf
_DROPPED = _TURNS | {_BYTE_ORDER_MARK}
_STANDS_FOR = {"Cc": " ", "Zs": " ", "Zl": " ", "Zp": " ", "Cs": MISSING}


def one_line(text: object) -> str:
    """Any text as one line that every file format can hold."""
    stands = (_STANDS_FOR.get(unicodedata.category(one), one) for one in str(text) if one not in _DROPPED)
    return " ".join("".join(stands).split())


def name_and_number(class_id: int, labels: Labels | None) -> tuple[str, str]:
    """("espresso", "(class 967)"), or ("class 967", "") where it has no name."""
    name = ""
    if isinstance(labels, Mapping):
        name = labels.get(class_id, "")
    elif labels is not None and 0 <= class_id < len(labels):
        name = labels[class_id]
    name = one_line(name)
    return (name, f"(class {class_id})") if name else (f"class {class_id}", "")


def name_of(class_id: int, labels: Labels | None) -> str:
    """ "espresso (class 967)", or "class 967" where it has no name."""
    return " ".join(name_and_number(class_id, labels)).strip()


def number(value: float) -> str:
    """Three digits, as 0.984, 12.3 or 1.2e-05."""
    return f"{value:.3g}" if np.isfinite(value) else "unknown" if np.isnan(value) else f"{value}inite"


def share(part: float) -> str:
    """A share of 0 to 1 in per cent; neither 0 % nor 100 % unless it is."""
    if 0 < part < 0.01:
        return "under 1 %"
    return "over 99 %" if 0.99 < part < 1 else f"{100 * part:.0f} %"


def usual_class(predicted: np.ndarray) -> int | None:
    """The class that the occluded image has at most positions; None where no position was computed."""
    classes, counts = np.unique(predicted[predicted >= 0], return_counts=True)
    return int(classes[counts.argmax()]) if len(classes) else None


def require_predicted(heat_map: HeatMap) -> np.ndarray:
    """int64 (rows, cols). Raises ImageError where the map does not hold it."""
    if heat_map.predicted is None:
        raise ImageError("the heat map does not hold which class is predicted: show drop or score")
    return heat_map.predicted


def describe(
    heat_map: HeatMap, target: int | None = None, labels: Labels | None = None, score_name: str | None = None
) -> str:
    """A map in a few sentences: which class, its score, where hiding the patch lowers it most and to what.

    target : one of the targets; None is the first. Raises ImageError where it was not explained.
    """
    index = heat_map.index_of(target)
    name = name_of(heat_map.targets[index], labels)
    score_name = one_line(score_name or heat_map.score_name)
    height, width = heat_map.patch
    score = float(heat_map.baseline[index])
    said = [f"Occlusion map of {name}: its {score_name} is {number(score)} for the whole image."]
    drop = heat_map.drop[index]
    known = ~np.isnan(drop)
    if not known.any():
        return f"{said[0]} No position is computed yet."
    patch = f"the patch of {height} x {width} pixels"
    largest = next(iter(heat_map.extremes(heat_map.targets[index], 1)), None)  # None: all drops are infinite
    if largest is None or largest.drop <= 0:
        said.append(f"Hiding {patch} lowers it nowhere." if drop[known].max() <= 0 else "No drop is finite.")
    else:
        said.append(
            f"Hiding {patch} {place(heat_map, largest)} lowers it most, by {number(largest.drop)} to "
            f"{number(largest.score)}."
        )
        strong = float((drop[known] > largest.drop / 2).mean())
        said.append(f"It falls by more than half of that at {share(strong)} of the positions.")
    rise = -float(drop[known].min())
    if rise > 0:
        said.append(f"Hidden elsewhere, it rises by up to {number(rise)}.")
    if not known.all():
        said.append(f"{share(1 - float(known.mean()))} of the positions are not computed.".capitalize())
    return " ".join(said)


def describe_predicted(heat_map: HeatMap, labels: Labels | None = None) -> str:
    """Which classes the occluded image turns into, and at which share of the positions."""
    predicted = require_predicted(heat_map)
    classes, counts = np.unique(predicted[predicted >= 0], return_counts=True)
    if not len(classes):
        return "Map of the predicted class: no position is computed yet."
    order = counts.argsort(kind="stable")[::-1]
    shares = [f"{name_of(int(classes[i]), labels)} at {share(counts[i] / counts.sum())}" for i in order[:5]]
    more = f", and {len(order) - 5} more" if len(order) > 5 else ""
    return f"Map of the class predicted when a patch is hidden: {', '.join(shares)} of the positions{more}."


def place(heat_map: HeatMap, extreme: Extreme) -> str:
    """ "at the upper left (row 8, column 12)": where in the image the centre of the patch lies, in pixels."""
    row, column = (extreme.top + extreme.bottom) // 2, (extreme.left + extreme.right) // 2
    if heat_map.frame is None:
        return f"at row {row}, column {column}"
    height, width = heat_map.frame
    vertical = ("upper", "middle", "lower")[min(3 * row // height, 2)]
    horizontal = ("left", "centre", "right")[min(3 * column // width, 2)]
    words = "centre" if (vertical, horizontal) == ("middle", "centre") else f"{vertical} {horizontal}"
    return f"at the {words} (row {row}, column {column})"
