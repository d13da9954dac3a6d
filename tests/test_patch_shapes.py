"""explain: patches that are no rectangles, against independent computation and the oracle."""

import numpy as np
import pytest
from naive import naive_map
from test_fill_words import IMAGE, MODES, PATCH, PREPARATION, STRIDE, all_patches, blurred, case, cut  # noqa: F401
from tiny_models import image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.runtime.fills.shapes import mask_of

RNG = np.random.default_rng(1)
MASKS = {
    "soft": RNG.uniform(size=PATCH).astype(np.float32),
    "bool": RNG.uniform(size=PATCH) < 0.5,
    "float64": np.eye(*PATCH),
    "int": np.eye(*PATCH, dtype=int),
    "list": np.eye(*PATCH).tolist(),
}


def ellipse(height: int, width: int) -> np.ndarray:
    """Pixel by pixel: is its centre inside?"""
    inside = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            across, along = (x + 0.5 - width / 2) / (width / 2), (y + 0.5 - height / 2) / (height / 2)
            inside[y, x] = across**2 + along**2 <= 1 + 1e-9
    return inside


def blended(mask: np.ndarray, fill, top: int, left: int) -> np.ndarray:
    """mask * fill + (1 - mask) * image, at one position."""
    value = fill(top, left) if callable(fill) else fill
    return (mask * value + (1 - mask) * cut(IMAGE[0].astype(np.float64), top, left)).astype(np.float32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", ["ellipse", *MASKS])
def test_a_shape_hides_what_it_covers(case, shape, mode) -> None:  # noqa: F811
    model, native, session = case
    mask = ellipse(*PATCH) if shape == "ellipse" else np.asarray(MASKS[shape], np.float64)
    for fill, made in ((0.7, 0.7), ("blur", lambda *at: cut(blurred(IMAGE[0]), *at))):
        heat_map = session.explain(
            native, targets=range(4), patch=PATCH, stride=STRIDE, fill=fill, patch_shape=MASKS.get(shape, shape),
            mode=mode,
        )  # fmt: skip
        scores, _ = naive_map(
            model, native, heat_map.tops, heat_map.lefts, lambda *at, made=made: blended(mask, made, *at)
        )
        assert_scores_equal(heat_map.scores, scores.T.reshape(heat_map.scores.shape), probabilities=False)


def test_every_fill_is_blended() -> None:
    mask = MASKS["soft"]
    fills = ["mean", "white", "surroundings", [0.0, "blur"], lambda *_: np.ones((3, *PATCH))]
    for fill in fills:
        positions, whole = all_patches(fill)
        _, made = all_patches(fill, patch_shape=mask)
        assert made.shape[1] == len(positions)
        for number, at in enumerate(positions):
            for k in range(len(whole)):
                expected = blended(mask, whole[k, min(number, whole.shape[1] - 1)], *at)
                np.testing.assert_allclose(made[k, number], expected, atol=1e-6)


def test_outside_a_shape_the_image_is_what_it_was() -> None:
    mask = np.zeros(PATCH)
    mask[1:3, 2] = 1
    positions, made = all_patches(5.0, patch_shape=mask)
    for number, at in enumerate(positions):
        seen = cut(IMAGE[0], *at)
        np.testing.assert_array_equal(made[0, number][:, mask == 0], seen[:, mask == 0])
        assert (made[0, number][:, mask == 1] == 5).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (5, 4), (16, 16), (7, 30), (1, 9), (2, 5), (33, 12)])
def test_an_ellipse_is_the_one_inscribed(size) -> None:
    mask = mask_of("ellipse", size)
    expected = ellipse(*size)
    np.testing.assert_array_equal(np.ones(size) if mask is None else mask, expected)
    if min(size) > 3:
        assert abs(expected.mean() - np.pi / 4) < 0.06
        # It touches all four sides, and is the same from both ends.
        assert all(edge.any() for edge in (expected[0], expected[-1], expected[:, 0], expected[:, -1]))
    np.testing.assert_array_equal(expected, expected[::-1, ::-1])


@pytest.mark.parametrize("shape", ["rectangle", np.ones(PATCH), np.ones(PATCH, bool), np.ones(PATCH).tolist()])
def test_a_rectangle_is_one_patch_for_all_positions(shape) -> None:
    _, made = all_patches(0.5, patch_shape=shape)
    assert made.shape == (1, 1, 3, *PATCH) and (made == 0.5).all()


@pytest.mark.parametrize(
    "shape, message",
    [
        ("elipse", "must be one of rectangle, ellipse or a mask .* did you mean ellipse?"),
        ("circle", "must be one of rectangle, ellipse or a mask of"),
        ("mask.png", "must be one of"),  # files are read by specifications
        (np.ones((4, 5)), r"a mask of 4 x 5 pixels and the patch one of 5 x 4: give patch=\(4, 5\)"),
        (np.ones((1, *PATCH)), r"got shape \(1, 5, 4\)"),
        (np.zeros(PATCH), "which hides nothing"),
        (np.full(PATCH, 255, np.uint8), "divide one of bytes by 255"),
        (np.full(PATCH, -0.1), "has values from 0"),
        (np.full(PATCH, np.nan), "has values from 0"),
        (None, "got None"),
        (0.5, "got 0.5"),
    ],
)
def test_wrong_shapes(shape, message) -> None:
    with pytest.raises(kx.ImageError, match=message) as raised:
        kx.OcclusionSession(tiny(), preparation=PREPARATION).explain(IMAGE, patch=PATCH, patch_shape=shape)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("mode", ["exact", "naive", "approximate"])
@pytest.mark.filterwarnings("ignore:mode='approximate' without a tuning")
def test_a_map_knows_what_of_the_patch_is_hidden(mode):
    """Also while it is made; so that a pixel counts for as much as it is hidden."""
    seen = []
    session = kx.OcclusionSession(tiny())
    asked = {"patch": (6, 5), "mode": mode, "on_update": seen.append}
    heat_map = session.explain(image_of(1, 3, 20, 24), patch_shape="ellipse", **asked)
    expected = mask_of("ellipse", (6, 5))
    for one in (*seen, heat_map):
        np.testing.assert_array_equal(one.mask, expected)
    assert session.explain(image_of(1, 3, 20, 24), **asked).mask is None
