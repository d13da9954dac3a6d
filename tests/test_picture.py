"""HeatMap.plot: what is drawn where, in which colours, and what is said about it; by the artists, not the dots."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from maps_to_draw import DROP, black, image_for, one_class, partial, random_map, two_classes
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch, Rectangle

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.pictures.colors import CATEGORIES, OTHER

NAMES = {7: "tea", 3: "coffee", 12: "bowl"}


def panels(figure):
    return [axes for axes in figure.axes if axes.get_title()]


def cells(axes):
    return axes.images[-1]


def scale(figure):
    return next(axes for axes in figure.axes if axes.get_label() == "colour bar")


def said(figure):
    figure.draw_without_rendering()
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


# -- where -----------------------------------------------------------------------------------------------------


def test_each_cell_lies_at_the_centre_of_its_patch():
    left, right, bottom, top = cells(one_class().plot().axes[0]).get_extent()
    # The first patch covers rows 0..3 and columns 0..5: its centre is (1.5, 2.5); cells are 2 x 5.
    assert (top, left) == (1.5 - 1, 2.5 - 2.5)
    assert (bottom, right) == (1.5 + 2 + 1, 2.5 + 10 + 2.5)


def test_over_an_image_all_of_it_is_shown_and_the_image_comes_first():
    first, panel = panels(one_class().plot(image_for(one_class())))
    assert first.get_title() == "image" and len(first.images) == 1
    # The cells do not reach the border of the image.
    assert panel.get_xlim() == first.get_xlim() == (-0.5, 15.5)
    assert panel.get_ylim() == first.get_ylim() == (5.5, -0.5)


@pytest.mark.parametrize("size", [(6, 16), (12, 32), (3, 8), (600, 1600)])
def test_an_image_of_other_pixels_is_laid_onto_those_explained(size):
    first = panels(one_class().plot(np.zeros((*size, 3), np.uint8)))[0]
    assert list(first.images[0].get_extent()) == [-0.5, 15.5, 5.5, -0.5]


def test_pixels_instead_of_cells():
    heat_map = one_class()
    drawn = cells(panels(heat_map.plot(per_pixel=True))[0])
    np.testing.assert_allclose(drawn.get_array().filled(np.nan), heat_map.per_pixel()[0], rtol=1e-6)
    assert list(drawn.get_extent()) == [-0.5, 15.5, 5.5, -0.5]
    drawn = cells(panels(heat_map.plot(per_pixel=True, show="score"))[0])
    np.testing.assert_allclose(drawn.get_array().filled(np.nan), heat_map.per_pixel("score")[0], rtol=1e-6)


def test_very_long_strips_are_drawn_wider_and_that_is_said():
    wide, square = random_map(1, 200), random_map(5, 5)
    assert wide.plot().axes[0].get_aspect() == "auto" and "Not to scale." in said(wide.plot())
    assert square.plot().axes[0].get_aspect() == 1 and "Not to scale" not in said(square.plot())


# -- what the colours mean ---------------------------------------------------------------------------------------


def test_red_is_a_fall_of_the_score_and_white_is_none():
    drawn = cells(one_class().plot().axes[0])
    low, high = drawn.get_clim()
    assert low == -high and high == pytest.approx(0.3)
    red, white, blue = (drawn.cmap(drawn.norm(value)) for value in (0.15, 0.0, -0.15))
    assert red[0] > 0.8 > red[2] and blue[2] > 0.8 > blue[0] and min(white) > 0.85
    np.testing.assert_allclose(drawn.get_array(), DROP, atol=1e-6)


def test_a_map_without_any_drop_still_has_a_scale(tmp_path):
    figure = two_classes().plot(target=3)
    assert cells(figure.axes[0]).get_clim() == (-1.0, 1.0)
    figure.savefig(tmp_path / "flat.png")


def test_the_scale_says_what_is_shown_and_what_its_ends_mean():
    figure = one_class().plot(score_name="chance", title="tea: 0.9")
    assert "drop of the chance when hidden" in said(figure)
    assert "red: supports the class" in said(figure) and "blue: speaks against the class" in said(figure)
    assert figure.get_suptitle() == "tea: 0.9"
    places = {text.get_text(): text.get_position()[0] for text in figure.texts}
    assert places["blue: speaks against the class"] < places["red: supports the class"]
    assert "drop of the probability when hidden" in said(one_class().plot())


def test_with_colours_of_the_callers_own_no_colour_is_named():
    figure = one_class().plot(cmap="PiYG")
    assert cells(figure.axes[0]).cmap.name == "PiYG"
    assert "red" not in said(figure) and "supports the class" in said(figure)


def test_several_classes_share_one_scale_and_that_is_said():
    figure = two_classes().plot(image_for(two_classes()), labels=NAMES)
    titles = [axes.get_title() for axes in panels(figure)]
    assert titles == ["image", "tea (class 7)\nprobability 0.9", "coffee (class 3)\nprobability 0.1"]
    limits = {cells(axes).get_clim() for axes in panels(figure)[1:]}
    assert len(limits) == 1 and limits.pop()[1] == pytest.approx(0.3)
    assert "one scale for all classes" in said(figure)
    first = panels(two_classes().plot(target=(3, 7)))[0]  # whose own drops are nothing
    assert cells(first).get_clim()[1] == pytest.approx(0.3)
    assert "one scale" not in said(two_classes().plot(target=3))


def test_some_classes_in_the_order_wanted():
    heat_map = random_map(4, 4, targets=5)
    figure = heat_map.plot(target=(3, 1))
    assert [axes.get_title().split("\n")[0] for axes in panels(figure)] == ["class 3", "class 1"]
    for axes, target in zip(panels(figure), (3, 1), strict=True):
        np.testing.assert_allclose(cells(axes).get_array(), heat_map.drop[target], rtol=1e-6)


def test_many_classes_take_several_rows_and_all_are_drawn_up_to_a_limit_that_is_said():
    figure = random_map(3, 3, targets=9).plot()
    tops = {round(axes.get_position().y1, 3) for axes in panels(figure)}
    assert len(panels(figure)) == 9 and len(tops) == 3
    figure = random_map(3, 3, targets=30).plot()
    assert len(panels(figure)) == 24 and "The first 24 of 30 classes." in said(figure)


def test_over_an_image_only_cells_that_matter_cover_it():
    figure = one_class(DROP * [[1, 0.5, 1], [1, 1, 1]]).plot(image_for(one_class()))
    grey, drawn = panels(figure)[1].images
    assert grey.get_array().shape == (6, 16, 3)
    # Dimmed, so that light cells stand out on white.
    assert grey.get_array().max() < 0.8 * 200
    opacity = drawn.get_alpha()
    assert opacity[0, 0] == 0 < opacity[0, 1] < opacity[0, 2] == opacity[1, 1] == 0.9
    assert panels(one_class().plot(image_for(one_class()), opacity=0.5))[1].images[1].get_alpha().max() == 0.5


def test_scores_run_from_dark_to_light_and_the_whole_image_is_marked():
    figure = one_class().plot(show="score")
    drawn = cells(figure.axes[0])
    np.testing.assert_allclose(drawn.get_array(), one_class().scores[0])
    assert drawn.get_clim() == pytest.approx((0.6, 1.0))
    assert sum(drawn.cmap(0.0)[:3]) < sum(drawn.cmap(0.5)[:3]) < sum(drawn.cmap(1.0)[:3])
    marks = [line.get_xdata()[0] for line in scale(figure).lines]
    assert marks == pytest.approx([0.9, 0.9])
    assert "probability when hidden" in said(figure) and "supports" not in said(figure)


def test_infinite_scores_are_drawn_as_the_largest_that_is_finite():
    drop = np.array([[np.inf, 0.1, 0.2], [-np.inf, -0.3, 0.0]], np.float32)
    drawn = cells(one_class(drop).plot(image_for(one_class()), extremes=2).axes[1])
    np.testing.assert_allclose(drawn.get_array(), [[0.3, 0.1, 0.2], [-0.3, -0.3, 0.0]], atol=1e-6)


# -- the class that the occluded image turns into ------------------------------------------------------------------


def rgb_of(figure, row, col):
    return tuple(cells(panels(figure)[-1]).get_array()[row, col] / 255)


def test_predicted_classes_have_colours_and_the_usual_one_is_white():
    figure = one_class().plot(show="predicted", labels=NAMES)
    assert rgb_of(figure, 0, 0) == rgb_of(figure, 1, 2) == (1, 1, 1)
    colors = sorted([rgb_of(figure, 0, 2), rgb_of(figure, 1, 1)])
    np.testing.assert_allclose(colors, sorted(to_rgb(color) for color in CATEGORIES[:2]), atol=0.01)
    entries = {
        text.get_text(): patch.get_facecolor()[:3]
        for text, patch in zip(figure.legends[0].get_texts(), figure.legends[0].get_patches(), strict=True)
    }
    assert set(entries) == {"tea (class 7) 67 %", "coffee (class 3) 17 %", "bowl (class 12) 17 %"}
    assert entries["tea (class 7) 67 %"] == (1, 1, 1)
    assert entries["coffee (class 3) 17 %"] == pytest.approx(rgb_of(figure, 0, 2), abs=0.01)
    assert entries["bowl (class 12) 17 %"] == pytest.approx(rgb_of(figure, 1, 1), abs=0.01)


def test_over_an_image_nothing_lies_where_the_usual_class_stays():
    opacity = cells(panels(one_class().plot(image_for(one_class()), show="predicted"))[1]).get_alpha()
    np.testing.assert_array_equal(opacity > 0, [[False, False, True], [False, True, False]])


def test_rare_classes_share_a_colour_where_there_are_too_many():
    figure = random_map(12, 12, classes=30).plot(show="predicted")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == len(CATEGORIES) + 2 and "other classes" in texts[-1]
    painted = np.unique(cells(panels(figure)[0]).get_array().reshape(-1, 3), axis=0)
    assert len(painted) == len(CATEGORIES) + 2
    assert np.round(np.multiply(to_rgb(OTHER), 255)).astype(int).tolist() in painted.tolist()


# -- where hiding hurts most ---------------------------------------------------------------------------------------


def outlines(axes):
    return [patch for patch in axes.patches if isinstance(patch, Rectangle) and not patch.get_fill()]


def test_extremes_are_outlined_and_numbered_in_the_order_of_their_drop():
    heat_map = random_map(20, 20)
    axes = panels(heat_map.plot(image_for(heat_map), extremes=3))[1]
    found = heat_map.extremes(0, 3)
    drawn = [(patch.get_y(), patch.get_x(), patch.get_height(), patch.get_width()) for patch in outlines(axes)]
    assert drawn == [(one.top - 0.5, one.left - 0.5, 4, 4) for one in found]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    assert f"1: 0.5 → {found[0].score:.3g}, 2:" in said(heat_map.plot(extremes=2))


def test_thumbnails_show_the_occluded_image_and_the_scores():
    heat_map = random_map(40, 40)
    image = np.random.default_rng(1).integers(50, 255, (*heat_map.frame, 3)).astype(np.uint8)
    figure = heat_map.plot(image, extremes=2, occluded=black((4, 4)))
    small = [axes for axes in figure.axes if not axes.get_title() and axes.get_label() != "colour bar"]
    assert len(small) == 2
    for axes, one in zip(small, heat_map.extremes(0, 2), strict=True):
        shown = axes.images[0].get_array()
        assert shown.shape == (32, 32, 3)  # of 82 x 82: the patch and what is around it
        (outline,) = outlines(axes)
        top, left = round(outline.get_y() + 0.5), round(outline.get_x() + 0.5)
        assert not shown[top : top + 4, left : left + 4].any() and (shown == 0).all(axis=2).sum() == 16
        around = image[one.top - top : one.top - top + 32, one.left - left : one.left - left + 32]
        kept = (shown > 0).all(axis=2)
        np.testing.assert_array_equal(shown[kept], around[kept])
    captions = said(figure)
    assert all(f"{rank}: 0.5 → {one.score:.3g}" in captions for rank, one in enumerate(heat_map.extremes(0, 2), 1))


def test_what_does_not_hurt_is_no_extreme():
    figure = two_classes().plot(image_for(two_classes()), target=3, extremes=3, occluded=black((4, 6)))
    assert not outlines(panels(figure)[1]) and "hurts" not in said(figure)


# -- partly computed maps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("show", ["drop", "score", "predicted"])
@pytest.mark.parametrize("over", [False, True])
def test_what_is_not_computed_is_hatched_and_that_is_said(show, over):
    figure = partial().plot(image_for(partial()) if over else None, show=show)
    axes = panels(figure)[-1]
    assert cells(axes).get_alpha()[1, 2] == 0
    (hatched,) = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    left, right, bottom, top = cells(axes).get_extent()
    box = hatched.get_path().get_extents()
    assert (box.x0, box.x1) == pytest.approx((left + 2 * (right - left) / 3, right))
    assert (box.y0, box.y1) == pytest.approx(((top + bottom) / 2, bottom))
    assert hatched.get_hatch() and "Hatched: not computed (17 % of the positions)." in said(figure)
    assert not any(isinstance(patch, PathPatch) for patch in one_class().plot(show=show).axes[0].patches)


def test_hatching_covers_exactly_what_is_missing():
    heat_map = random_map(9, 11, missing=0.4)
    axes = heat_map.plot().axes[0]
    (hatched,) = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    left, right, bottom, top = cells(axes).get_extent()
    xs = left + (np.arange(11) + 0.5) * (right - left) / 11
    ys = top + (np.arange(9) + 0.5) * (bottom - top) / 9
    for row, y in enumerate(ys):
        for col, x in enumerate(xs):
            assert hatched.get_path().contains_point((x, y)) == (not heat_map.computed[row, col])


def test_how_it_was_made_is_said():
    text = said(one_class(mode="approximate", estimated_ssim=0.934, note="Views were kept.").plot())
    assert "SSIM) about 0.93." in text and "Views were kept." in text
    assert "4 x 6 px" in said(one_class().plot()) and "Cut short" in said(partial().plot())


# -- what cannot be drawn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (None, {"target": 5}, r"class 5 was not explained; the targets are \[7, 3\]"),
        (None, {"target": (7, 5)}, "class 5 was not explained"),
        (None, {"target": ()}, "0 classes cannot be drawn"),
        (np.zeros((6, 16, 3), np.float32), {}, "uint8"),
        (np.zeros((6, 16, 4), np.uint8), {}, r"\(6, 16, 4\)"),
        (np.zeros((0, 16, 3), np.uint8), {}, r"\(0, 16, 3\)"),
        (np.zeros((100, 100, 3), np.uint8), {}, "the explained one is 6 x 16"),
        (None, {"show": "drops"}, "show must be drop, score or predicted, got 'drops'"),
        (None, {"show": "predicted", "per_pixel": True}, "show drop or score"),
        (None, {"cmap": "virids"}, "no colour map 'virids'; did you mean 'viridis'"),
        (None, {"opacity": 1.5}, "opacity must be from 0 to 1"),
        (None, {"opacity": float("nan")}, "opacity must be from 0 to 1"),
        (None, {"interpolation": "cubic"}, "interpolation must be one of nearest"),
        (None, {"extremes": 13}, "0 to 12"),
        (None, {"extremes": -1}, "0 to 12"),
    ],
)
def test_what_cannot_be_drawn_is_named(image, arguments, message):
    with pytest.raises(ImageError, match=message):
        two_classes().plot(image, **arguments)


def test_nothing_is_drawn_before_anything_is_computed():
    with pytest.raises(ImageError, match="no position of the heat map is computed yet"):
        one_class(np.full_like(DROP, np.nan)).plot()


def test_a_map_that_does_not_hold_classes_says_so():
    with pytest.raises(ImageError, match="does not hold which class"):
        one_class(predicted=None).plot(show="predicted")


# -- the host's settings ---------------------------------------------------------------------------------------------


def test_drawing_leaves_pyplot_and_all_settings_alone(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import maps_to_draw as maps; import warnings\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib; before = matplotlib.rcParams.copy(); warnings.simplefilter('error')\n"
        "figure = maps.one_class().plot()\n"
        "for form in ('png', 'svg', 'pdf'): figure.savefig(f'{sys.argv[2]}/map.{form}')\n"
        "assert matplotlib.rcParams.copy() == before and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)], check=True)


def test_settings_of_the_host_do_not_change_the_picture(tmp_path):
    heat_map = partial()
    heat_map.plot(image_for(heat_map), extremes=1, occluded=black((4, 6))).savefig(tmp_path / "plain.png")
    style = {
        "image.origin": "lower", "text.color": "red", "axes.grid": True, "figure.facecolor": "black", "font.size": 30,
        "axes.facecolor": "black", "xtick.labelsize": 30, "xtick.top": True, "axes.titlelocation": "left",
        "xtick.minor.visible": True, "axes.spines.left": False, "figure.autolayout": True, "savefig.facecolor": "green",
        "image.interpolation": "bicubic", "font.family": "serif", "axes.linewidth": 5, "patch.linewidth": 4,
        "text.usetex": True, "legend.fontsize": 30,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        heat_map.plot(image_for(heat_map), extremes=1, occluded=black((4, 6))).savefig(tmp_path / "styled.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "styled.png").read_bytes()
