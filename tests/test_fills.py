"""explain: what stands in the patch's place, against the oracle, in both modes."""

import numpy as np
import pytest
from naive import naive_map
from tiny_models import image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx

IMAGE = image_of(1, 3, 20, 24)
PATCH, STRIDE = (5, 4), (6, 7)
RNG = np.random.default_rng(3)
WHOLE = RNG.standard_normal((3, *PATCH)).astype(np.float32)
MODES = ["exact", "naive"]


@pytest.fixture(scope="module", params=["NCHW", "NHWC"])
def case(request) -> tuple[bytes, np.ndarray, kx.OcclusionSession]:
    """Model, its native image, session: the fill is channels first for both layouts."""
    model = tiny(layout=request.param).SerializeToString()
    native = IMAGE if request.param == "NCHW" else np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1))
    return model, native, kx.OcclusionSession(model)


def assert_map(case, fill, patches, mode: str, **arguments) -> None:
    """patches: those that the mean is over; each (C, h, w) or a function of (top, left)."""
    model, native, session = case
    heat_map = session.explain(
        native, targets=range(4), patch=PATCH, stride=STRIDE, fill=fill, mode=mode, **arguments
    )
    each = [naive_map(model, native, heat_map.tops, heat_map.lefts, patch)[0] for patch in patches]
    expected = np.mean(each, axis=0, dtype=np.float64).T.reshape(heat_map.scores.shape)
    assert heat_map.scores.dtype == np.float32
    assert_scores_equal(heat_map.scores, expected, probabilities=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "fill, patch",
    [
        (0.7, np.full((3, *PATCH), 0.7)),
        (-2, np.full((3, *PATCH), -2)),
        (np.float64(0.3), np.full((3, *PATCH), 0.3)),
        ([1, 2, -3], np.ones(PATCH) * np.reshape([1, 2, -3], (3, 1, 1))),
        (np.array([0.5, 0, 1]), np.ones(PATCH) * np.reshape([0.5, 0, 1], (3, 1, 1))),
        (WHOLE, WHOLE),
        (WHOLE.astype(np.float64)[:, ::-1], WHOLE[:, ::-1]),
        (WHOLE[0], np.stack([WHOLE[0]] * 3)),
    ],
    ids=["number", "int", "numpy", "channels", "array of channels", "whole", "strided", "grey"],
)
def test_constant_fills(case, fill, patch, mode) -> None:
    assert_map(case, fill, [patch.astype(np.float32)], mode)


def around(top: int, left: int) -> np.ndarray:
    """A different patch for every position, made from the image."""
    height, width = PATCH
    return IMAGE[0, :, top : top + height, left : left + width][:, ::-1] * 0.5 + 0.01 * top - 0.02 * left


@pytest.mark.parametrize("batch_size", [None, 1, 5])
@pytest.mark.parametrize("mode", MODES)
def test_a_fill_made_for_every_position(case, mode, batch_size) -> None:
    def fill(image, top, left, height, width):
        assert image.shape == (3, 20, 24) and image.dtype == np.float32 and (height, width) == PATCH
        assert type(top) is int and type(left) is int
        np.testing.assert_array_equal(image, IMAGE[0])
        return image[:, top : top + height, left : left + width][:, ::-1] * 0.5 + 0.01 * top - 0.02 * left

    assert_map(case, fill, [around], mode, batch_size=batch_size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 3])
def test_the_score_is_the_mean_over_several_fills(case, count, mode) -> None:
    def fill(image, top, left, height, width):
        return np.stack([around(top, left) + k for k in range(count)])

    assert_map(case, fill, [lambda top, left, k=k: around(top, left) + k for k in range(count)], mode)


def test_a_fill_cannot_change_the_image(case) -> None:
    _, native, session = case

    def fill(image, top, left, height, width):
        image[:] = 0
        return image[:, :height, :width]

    with pytest.raises(ValueError, match="read-only"):
        session.explain(native, patch=PATCH, fill=fill)
    assert native.flags.writeable


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "fill, message",
    [
        (
            [1, 2],
            r"fill of shape \(2,\) does not fit: give a number, 3 values \(one a channel\) or an array of",
        ),
        (np.zeros((3, 4, 4)), r"fill of shape \(3, 4, 4\) does not fit"),
        (np.zeros((2, 3, *PATCH)), r"fill of shape \(2, 3, 5, 4\) does not fit"),
        ("grey", "fill is not made of numbers: 'grey'"),
        ([[1], [1, 2]], r"fill\[1\] of shape \(2,\) does not fit"),
        (None, "fill has values that are not finite"),
        (np.nan, "fill has values that are not finite"),
        ([0, np.inf, 0], "fill has values that are not finite"),
        (lambda *_: np.zeros((3, 4, 4)), r"returned at \(top, left\) = .* \(3, 4, 4\); expected \(3, 5, 4\)"),
        (lambda *_: 0.0, r"has shape \(\)"),
        (lambda *_: np.zeros((0, 3, *PATCH)), r"has shape \(0, 3, 5, 4\)"),
        (lambda *_: np.zeros((1, 1, 3, *PATCH)), r"has shape \(1, 1, 3, 5, 4\)"),
        (lambda *_: "grey", "is not made of numbers"),
        (lambda *_: np.full((3, *PATCH), np.nan), "not finite"),
        (lambda image, top, *_: np.zeros((1 + top % 5, 3, *PATCH)), "same number of patches"),
    ],
)
def test_wrong_fills(fill, message, mode) -> None:
    with pytest.raises(kx.ImageError, match=message) as raised:
        kx.OcclusionSession(tiny()).explain(IMAGE, patch=PATCH, stride=STRIDE, fill=fill, mode=mode)
    assert "\n" not in str(raised.value)
