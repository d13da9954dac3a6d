"""HeatMap: what it holds, what it turns into, and where its cells are drawn."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from krypton_onnx.runtime.heat_map import HeatMap

DROP = np.array([[0.0, 0.1, 0.2], [-0.1, 0.3, 0.0]], np.float32)


def make(drop: np.ndarray = DROP, **changes: object) -> HeatMap:
    """Two targets on a 2 x 3 grid of 4 x 6 patches, 2 x 5 apart; the second target never drops."""
    baseline = np.array([0.9, 0.1], np.float32)
    scores = np.stack([0.9 - drop, np.full_like(drop, 0.1)])
    parts = {
        "scores": scores,
        "baseline": baseline,
        "targets": (7, 3),
        "tops": np.array([0, 2]),
        "lefts": np.array([0, 5, 10]),
        "patch": (4, 6),
        "stride": (2, 5),
        "mode": "exact",
        "computed": ~np.isnan(drop),
    }
    return HeatMap(**{**parts, **changes})


def partial() -> HeatMap:
    drop = DROP.copy()
    drop[1, 2] = np.nan  # not computed yet
    return make(drop, complete=False)


def test_drop_is_positive_where_hiding_the_patch_lowers_the_score():
    np.testing.assert_allclose(make().drop[0], DROP, atol=1e-6)
    assert not make().drop[1].any()


def test_arrays_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2, 3\).*baseline \(1,\)"):
        make(baseline=np.zeros(1, np.float32))


def test_to_dict_is_json_named_as_the_attributes():
    heat_map = partial()
    values = json.loads(json.dumps(heat_map.to_dict(), allow_nan=False))
    assert list(values) == [
        "scores", "baseline", "targets", "tops", "lefts", "patch", "stride", "mode",
        "computed", "expected_ssim", "estimated_ssim", "complete", "note",
    ]  # fmt: skip
    assert values["targets"] == [7, 3]
    assert values["patch"] == [4, 6]
    assert values["tops"] == [0, 2]
    assert values["scores"][0][1][2] is None
    assert values["computed"][1] == [True, True, False]
    assert values["complete"] is False
    # float32 survives the way through JSON bit by bit.
    scores = np.array(values["scores"], np.float32)
    np.testing.assert_array_equal(scores, heat_map.scores)


def test_plot_centres_each_cell_on_its_patch():
    figure = make().plot()
    cells = figure.axes[0].images[0]
    left, right, bottom, top = cells.get_extent()
    # The first patch covers rows 0..3 and columns 0..5: its centre is (1.5, 2.5); cells are 2 x 5.
    assert (top, left) == (1.5 - 1, 2.5 - 2.5)
    assert (bottom, right) == (1.5 + 2 + 1, 2.5 + 10 + 2.5)


def test_plot_shows_the_drop_on_a_scale_centred_at_zero():
    cells = make().plot().axes[0].images[0]
    low, high = cells.get_clim()
    assert low == -high and high == pytest.approx(0.3)
    red, blue = cells.cmap(cells.norm(0.3)), cells.cmap(cells.norm(-0.3))
    assert red[0] > red[2] and blue[2] > blue[0]


def test_plot_of_a_target_without_any_drop_still_has_a_scale(tmp_path):
    figure = make().plot(target=3)
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    figure.savefig(tmp_path / "flat.png")


def test_cells_not_computed_are_not_drawn():
    cells = partial().plot().axes[0].images[0]
    assert np.ma.getmaskarray(cells.get_array())[1, 2]
    assert cells.get_alpha()[1, 2] == 0 and cells.get_alpha()[0, 0] == 1


def test_over_an_image_only_cells_that_matter_cover_it():
    figure = make().plot(np.full((8, 16, 3), 200, np.uint8))
    image, panel = figure.axes[:2]
    grey, cells = panel.images
    assert grey.get_array().shape == (8, 16, 3)
    alpha = cells.get_alpha()
    assert alpha[0, 0] == 0 < alpha[0, 1] < alpha[1, 1]
    # Both panels show the whole image, though the cells do not reach its border.
    assert panel.get_xlim() == image.get_xlim() == (-0.5, 15.5)


def test_the_colour_bar_says_what_is_shown_and_what_its_sign_means():
    figure = make().plot(score_name="probability", title="tea: 0.9")
    label = figure.axes[-1].get_ylabel()
    assert "drop of the probability when hidden" in label
    assert "red: supports the class" in label and "blue: speaks against it" in label
    assert figure.get_suptitle() == "tea: 0.9"


@pytest.mark.parametrize("shape", [(8, 16), (8, 16, 1), (30, 8, 3)])
def test_the_figure_is_saved_as_a_picture(tmp_path, shape):
    path = tmp_path / "map.png"
    make().plot(np.zeros(shape, np.uint8)).savefig(path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ("image", "target", "message"),
    [
        (None, 5, r"class 5 was not explained; the targets are \[7, 3\]"),
        (np.zeros((8, 16, 3), np.float32), None, "uint8"),
        (np.zeros((8, 16, 4), np.uint8), None, r"\(8, 16, 4\)"),
    ],
)
def test_what_cannot_be_drawn_is_named(image, target, message):
    with pytest.raises(ValueError, match=message):
        make().plot(image, target)


def test_nothing_is_drawn_before_anything_is_computed():
    with pytest.raises(ValueError, match="no position of the heat map is computed yet"):
        make(np.full_like(DROP, np.nan)).plot()


def test_drawing_leaves_pyplot_and_its_global_state_alone():
    code = (
        "import sys, runpy; names = runpy.run_path(sys.argv[1]); assert 'matplotlib' not in sys.modules; "
        "names['make']().plot(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, __file__], check=True)
