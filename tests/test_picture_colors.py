"""The colours of maps: even steps to the eye, and signs that the colour-blind tell apart.

Measured in CAM02-UCS (Luo, Cui and Li 2006), where equal distances look equally different; colour-blindness as by
Machado, Oliveira and Fernandes (2009), at full severity. A distance of 1 is about the least that is seen at all.
"""

from itertools import combinations

import colorspacious
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import Colormap, to_rgb

from krypton_onnx.runtime.pictures.colors import CATEGORIES, OTHER, PAPER, diverging, sequential

SIGHTS = [None, "deuteranomaly", "protanomaly", "tritanomaly"]
STEPS = 256
MOST_UNEVEN = 1.6  # largest over smallest step
SIGNS_APART = 30.0  # of values of the same size and other sign, from a quarter of the scale on
CLASSES_APART = 10.0


def seen(rgb: np.ndarray, sight: str | None) -> np.ndarray:
    """(N, 3) of CAM02-UCS: lightness, and two of colour."""
    if sight is not None:
        space = {"name": "sRGB1+CVD", "cvd_type": sight, "severity": 100}
        rgb = np.clip(colorspacious.cspace_convert(rgb, space, "sRGB1"), 0, 1)
    return colorspacious.cspace_convert(rgb, "sRGB1", "CAM02-UCS")


def along(cmap: Colormap, sight: str | None = None) -> np.ndarray:
    return seen(cmap(np.linspace(0, 1, STEPS))[:, :3], sight)


def unevenness(cmap: Colormap) -> float:
    """The largest over the smallest step, each a mean over nine, as the tables of colours are rounded to 8 bits."""
    steps = np.linalg.norm(np.diff(along(cmap), axis=0), axis=1)
    smooth = np.convolve(steps, np.ones(9) / 9, "valid")
    return smooth.max() / smooth.min()


@pytest.mark.parametrize("cmap", [diverging(), sequential()], ids=["diverging", "sequential"])
def test_equal_steps_look_equal(cmap):
    assert unevenness(cmap) < MOST_UNEVEN


@pytest.mark.parametrize("name", ["RdBu_r", "coolwarm", "bwr", "jet"])
def test_those_of_others_are_less_even(name):
    # The measure tells; and it is why the map is another library's.
    assert unevenness(colormaps[name]) > MOST_UNEVEN


@pytest.mark.parametrize("sight", SIGHTS)
def test_for_against_and_nothing_stay_apart(sight):
    colors = along(diverging(), sight)
    against, supports = colors[: STEPS // 2], colors[::-1][: STEPS // 2]
    strong = slice(0, 3 * STEPS // 8)  # from the ends to a quarter of the scale
    assert np.linalg.norm(against[strong] - supports[strong], axis=1).min() > SIGNS_APART
    middle = colors[STEPS // 2]
    assert np.linalg.norm(colors[[0, STEPS // 4, -STEPS // 4, -1]] - middle, axis=1).min() > SIGNS_APART


def test_both_signs_are_equally_dark_and_darker_the_larger():
    lightness = along(diverging())[:, 0]
    np.testing.assert_allclose(lightness, lightness[::-1], atol=6)
    assert (np.diff(lightness[: STEPS // 2 - 8]) > -0.3).all() and (np.diff(lightness[STEPS // 2 + 8 :]) < 0.3).all()
    assert lightness[STEPS // 2] > 90


def test_scores_get_lighter_all_the_way():
    assert (np.diff(along(sequential())[:, 0]) > 0).all()


@pytest.mark.parametrize("sight", SIGHTS)
def test_classes_stay_apart(sight):
    colors = seen(np.array([to_rgb(color) for color in (*CATEGORIES, OTHER, PAPER)]), sight)
    for a, b in combinations(range(len(colors)), 2):
        assert np.linalg.norm(colors[a] - colors[b]) > CLASSES_APART, (a, b)
