"""Texts that fit their place, whatever is in them: cleaned, measured with the real font, wrapped and shortened.

No text of a picture is parsed as mathematics (parse_math=False), so $, \\ and ^ are what they are.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import Any

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from krypton_onnx.runtime.pictures.colors import INK
from krypton_onnx.runtime.pictures.words import MISSING, one_line

BASE_FONT = "DejaVu Sans"  # comes with Matplotlib
# For what the base font lacks; of these, those that are installed.
FALLBACK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic",
    "Noto Sans", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Arabic", "Noto Emoji", "Arial Unicode MS",
)  # fmt: skip
TITLE, HEADING, SMALL = 11.0, 9.0, 8.0  # points; nothing is smaller
LINE = 1.3  # distance of lines, in sizes of the font
DOTS = "\N{HORIZONTAL ELLIPSIS}"
_MEASURED_AT = 144.0  # dots an inch
_NARROWEST = 0.015  # inches of the narrowest letters, in the mean


def style(size: float, color: str = INK, **others: Any) -> dict[str, Any]:
    """Keywords for a Matplotlib text; nothing is left to the settings of the host (rcParams)."""
    return {
        # A reader of an .svg may have none of the fonts.
        "family": [*families(), "sans-serif"], "fontsize": size, "fontweight": "normal", "fontstyle": "normal",
        "color": color, "parse_math": False, "usetex": False, "linespacing": LINE, **others,
    }  # fmt: skip


def height_of(lines: int, size: float) -> float:
    """Inches that so many lines take."""
    return lines * size * LINE / 72


@cache
def families() -> tuple[str, ...]:
    installed = set(fontManager.get_font_names())
    return (BASE_FONT, *(name for name in FALLBACK_FONTS if name in installed))


@cache
def _characters() -> frozenset[int]:
    found = (get_font(findfont(name)).get_charmap() for name in families())
    return frozenset(code for charmap in found for code in charmap)


def clean(text: object) -> str:
    """Lines without control characters, and with a mark for characters that no font here can draw."""
    cleaned = ("".join(_drawable(one) for one in one_line(line)).strip() for line in str(text).splitlines())
    return "\n".join(line for line in cleaned if line)


def _drawable(character: str) -> str:
    if ord(character) in _characters():
        return character
    # Joiners and variants have no shape of their own.
    shapeless = unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"
    return "" if shapeless else MISSING


@lru_cache(maxsize=4096)
def width_of(text: str, size: float) -> float:
    """Inches that one line takes."""
    if not text:
        return 0.0
    font = FontProperties(family=list(families()), size=size)
    width, _, _ = RendererAgg(1, 1, _MEASURED_AT).get_text_width_height_descent(text, font, False)
    # The font of another resolution is hinted to other widths: leave 3 % for that.
    return 1.03 * width / _MEASURED_AT


def wrap(text: object, width: float, size: float, lines: int = 1, ending: str = "") -> str:
    """At most `lines` lines no wider than `width` inches, joined by newlines; what is too long is shortened.

    ending : what stays whole at the end of a shortened text, as a class's number.
    """
    # What is far too long need not be measured to its end.
    text, ending = clean(str(text)[: 50 + int(lines * width / _NARROWEST)]), clean(ending)
    whole = _broken(f"{text} {ending}".strip(), width, size)
    if len(whole) <= lines:
        return "\n".join(whole)
    low, high = 0, len(text)  # characters of text that fit, and that do not
    while high - low > 1:
        middle = (low + high) // 2
        if len(_broken(_shortened(text, middle, ending), width, size)) <= lines:
            low = middle
        else:
            high = middle
    return "\n".join(_broken(_shortened(text, low, ending), width, size)[:lines])


def _shortened(text: str, length: int, ending: str) -> str:
    return f"{text[:length].rstrip()}{DOTS} {ending}".strip()


def _broken(text: str, width: float, size: float) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if width_of(longer, size) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            *full, line = _cut(word, width, size)
            lines += full
        lines.append(line)
    return [line for line in lines if line]


def _cut(word: str, width: float, size: float) -> list[str]:
    """A word in pieces that fit, at least one character each."""
    pieces = []
    while width_of(word, size) > width and len(word) > 1:
        low, high = 1, len(word)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if width_of(word[:middle], size) <= width else (low, middle)
        pieces.append(word[:low])
        word = word[low:]
    return [*pieces, word]
