"""HeatMap: what it holds, what it turns into. How it is drawn: test_picture.py."""

import json

import numpy as np
import pytest

from krypton_onnx.errors import ImageError, KryptonError
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
        "computed", "expected_ssim", "estimated_ssim", "complete", "note", "frame", "predicted", "score_name", "mask",
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


# -- per pixel, extremes, files ------------------------------------------------------------------------------


def per_pixel_by_hand(values: np.ndarray, heat_map: HeatMap, mask: np.ndarray) -> np.ndarray:
    """Pixel by pixel, patch by patch."""
    height, width = heat_map.patch
    total, weight = np.zeros((2, *heat_map.frame)), np.zeros((2, *heat_map.frame))
    for target, row, col in np.ndindex(*values.shape):
        if np.isnan(values[target, row, col]):
            continue
        for y, x in np.ndindex(height, width):
            where = target, heat_map.tops[row] + y, heat_map.lefts[col] + x
            total[where] += mask[y, x] * values[target, row, col]
            weight[where] += mask[y, x]
    with np.errstate(invalid="ignore"):
        return np.where(weight > 0, total / weight, np.nan)


@pytest.mark.parametrize("of", ["drop", "score"])
@pytest.mark.parametrize("masked", [False, True])
def test_per_pixel_is_the_mean_over_the_patches_that_hide_a_pixel(of, masked):
    mask = np.random.default_rng(0).uniform(size=(4, 6)).astype(np.float32) if masked else None
    if masked:
        mask[0] = 0
    drop = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    drop[1, 2] = np.nan
    heat_map = make(drop, frame=(9, 18), mask=mask)
    values = heat_map.drop if of == "drop" else heat_map.scores
    expected = per_pixel_by_hand(values, heat_map, np.ones((4, 6)) if mask is None else mask)
    found = heat_map.per_pixel(of)
    assert found.dtype == np.float32 and found.shape == (2, 9, 18)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(found[:, 8]).all()  # where no patch reaches


def test_per_pixel_needs_the_size_of_the_image():
    with pytest.raises(ImageError, match="size of its image"):
        make().per_pixel()
    with pytest.raises(ImageError, match="drop or score"):
        make(frame=(9, 18)).per_pixel("predicted")


def test_extremes_are_the_largest_drops_that_do_not_overlap():
    drop = np.array([[0.5, 0.4, 0.1], [0.6, np.nan, 0.3]], np.float32)
    first, second = make(drop, lefts=np.array([0, 6, 12])).extremes(count=2)
    assert (first.row, first.col, first.top, first.left, first.bottom, first.right) == (1, 0, 2, 0, 6, 6)
    assert first.drop == pytest.approx(0.6) and first.score == pytest.approx(0.3)
    assert (second.row, second.col) == (0, 1)
    assert len(make(drop, lefts=np.array([0, 6, 12])).extremes(count=9)) == 3
    assert len(make(drop).extremes(count=9)) == 2  # at 0, 5 and 10 patches of width 6 overlap
    with pytest.raises(ImageError, match="class 5 was not explained"):
        make().extremes(5)


def test_a_saved_map_is_the_same_when_loaded(tmp_path):
    heat_map = make(
        partial().drop[0], complete=False, note="stopped early", frame=(9, 18), score_name="logit", estimated_ssim=0.91,
        predicted=np.array([[7, 3, 7], [7, 7, -1]]), mask=np.ones((4, 6), np.float32),
    )  # fmt: skip
    heat_map.save(tmp_path / "map.npz")
    again = HeatMap.load(tmp_path / "map.npz")
    assert json.dumps(again.to_dict()) == json.dumps(heat_map.to_dict())
    for name in ("targets", "patch", "frame", "complete", "note", "mode", "expected_ssim"):
        assert type(getattr(again, name)) is type(getattr(heat_map, name)), name


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04broken", b"\x93NUMPY"])
def test_what_is_no_saved_map_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "map.npz").write_bytes(content)
    with pytest.raises(KryptonError, match=r"map\.npz: (no such file|not a heat map)"):
        HeatMap.load(tmp_path / "map.npz")
    np.savez(tmp_path / "other.npz", scores=np.zeros(3))
    with pytest.raises(KryptonError, match="not a heat map"):
        HeatMap.load(tmp_path / "other.npz")


def test_a_damaged_file_is_a_map_or_one_line(tmp_path):
    make(frame=(9, 18), predicted=np.zeros((2, 3), np.int64)).save(tmp_path / "map.npz")
    whole = (tmp_path / "map.npz").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 8)):
            data[place] = rng.integers(0, 256)
        (tmp_path / "damaged.npz").write_bytes(data)
        try:
            assert isinstance(HeatMap.load(tmp_path / "damaged.npz"), HeatMap)
        except KryptonError as error:
            assert "not a heat map" in str(error)
            refused += 1
    assert refused > 100
