"""The colours of a map, and what they mean: red supports the class, blue speaks against it, white does not matter.

Diverging: CET-D1A of P. Kovesi, "Good Colour Maps: How to Design Them" (arXiv:1509.03700), as colorcet ships it. Its
steps are even to the eye, its ends stay apart for the colour-blind, and its middle is the white of the paper; the
red-blue maps of Matplotlib (RdBu, coolwarm, bwr) have steps that differ by a factor of two. Sequential: viridis.
Categories: M. Okabe and K. Ito, "Color Universal Design" (2008), made for the colour-blind.
"""

from __future__ import annotations

import difflib

import numpy as np
from colorcet import m_CET_D1A
from matplotlib import colormaps
from matplotlib.colors import Colormap

from krypton_onnx.errors import ImageError

# Okabe and Ito's colours but black, which on a photograph is no colour; those that red and blue maps have come last.
CATEGORIES = ("#E69F00", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#0072B2", "#D55E00")
OTHER = "#4D4D4D"
PAPER = "#FFFFFF"
INK = "#1A1A1A"
QUIET_INK = "#4D4D4D"
HATCH = "#8C8C8C"

# Over an image, a cell is opaque from this share of the largest drop on, and the less so below.
FADE = 0.3


def diverging() -> Colormap:
    """Blue below zero, white at zero, red above."""
    return m_CET_D1A


def sequential() -> Colormap:
    """Dark for low scores, light for high ones."""
    return colormaps["viridis"]


def chosen(name: str | Colormap) -> Colormap:
    """A map that the caller names. Raises ImageError where Matplotlib does not know it."""
    if isinstance(name, Colormap):
        return name
    if name in colormaps:
        return colormaps[name]
    near = difflib.get_close_matches(str(name), list(colormaps), n=1)
    raise ImageError(f"cmap: Matplotlib has no colour map {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def opacity_of(drop: np.ndarray, limit: float, opacity: float) -> np.ndarray:
    """float (rows, cols) in [0, opacity]: cells without a drop let the image through. 0 where drop is NaN."""
    share = np.minimum(np.abs(np.nan_to_num(drop)) / (FADE * limit), 1.0)
    # Squared: rounding and weak effects all over an image would lie on it like a veil.
    return np.where(np.isnan(drop), 0.0, opacity * share**2)


def dimmed(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), grey and no lighter than three quarters, so that light colours of a map stand out on it."""
    return _grey(image, 0.0, 0.75)


def faded(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3), grey and light, near to paper."""
    return _grey(image, 120.0, 0.53)


def _grey(image: np.ndarray, least: float, share: float) -> np.ndarray:
    luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return (least + share * luma).astype(np.uint8)[:, :, None].repeat(3, axis=2)
