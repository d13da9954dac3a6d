"""explain: fills by word, in pixel values and several at once, against independent computation and the oracle."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from approximate_models import deep, scene
from naive import naive_map
from scipy.ndimage import gaussian_filter
from skimage.restoration import inpaint_biharmonic
from tiny_models import image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.runtime.fills import inpaint
from krypton_onnx.runtime.fills.words import MADE, WORDS, fills_of
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.patches import Patches

IMAGE = image_of(1, 3, 20, 24)
PATCH, STRIDE = (5, 4), (6, 7)
MODES = ["exact", "naive"]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
PREPARATION = kx.Preparation(mean=MEAN, std=STD)


def patches_of(
    fill, image: np.ndarray = IMAGE[0], patch=PATCH, stride=STRIDE, preparation=PREPARATION, **more
) -> Patches:
    occlusion = Occlusion(patch, stride, fill, **more)
    return Patches(occlusion, image, make_grid(image.shape[1:], *occlusion.where), preparation)


def every_position(grid) -> tuple[np.ndarray, np.ndarray]:
    tops, lefts = np.meshgrid(grid.tops, grid.lefts, indexing="ij")
    return tops.ravel(), lefts.ravel()


def all_patches(fill, image: np.ndarray = IMAGE[0], patch=PATCH, stride=STRIDE, **more) -> tuple[list, np.ndarray]:
    """Positions, and the patches (K, N or 1, C, h, w) at all of them."""
    tops, lefts = every_position(make_grid(image.shape[1:], patch, stride))
    made = patches_of(fill, image, patch, stride, **more)(tops, lefts)
    assert made.dtype == np.float32 and made.flags.c_contiguous
    return list(zip(tops.tolist(), lefts.tolist(), strict=True)), made


def whole(values) -> np.ndarray:
    """One value a channel, as a patch."""
    return (np.ones((3, *PATCH)) * np.reshape(values, (3, 1, 1))).astype(np.float32)


def pixel(value: float) -> np.ndarray:
    """A grey pixel value as the model sees it."""
    return whole([(value / 255 - mean) / std for mean, std in zip(MEAN, STD, strict=True)])


def cut(image: np.ndarray, top: int, left: int, patch=PATCH) -> np.ndarray:
    return image[:, top : top + patch[0], left : left + patch[1]]


def inpainted(image: np.ndarray, top: int, left: int, hidden: np.ndarray) -> np.ndarray:
    """By scikit-image, at this one position."""
    mask = np.zeros(image.shape[1:], bool)
    cut(mask[None], top, left, hidden.shape)[0][...] = hidden
    return cut(inpaint_biharmonic(image.astype(np.float64), mask, channel_axis=0), top, left, hidden.shape)


def blurred(image: np.ndarray, patch=PATCH) -> np.ndarray:
    return np.stack([gaussian_filter(one.astype(np.float64), (patch[0] / 2, patch[1] / 2)) for one in image])


# What stands in the patch's place, computed in another way than the package does.
EXPECTED = {
    "mean": whole([float(np.mean(one, dtype=np.float64)) for one in IMAGE[0]]),
    "black": pixel(0),
    "white": pixel(255),
    "gray": pixel(127.5),
    "blur": lambda top, left: cut(blurred(IMAGE[0]), top, left).astype(np.float32),
    "inpaint": lambda top, left: inpainted(IMAGE[0], top, left, np.ones(PATCH, bool)).astype(np.float32),
}


# -- maps, against the oracle ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["NCHW", "NHWC"])
def case(request) -> tuple[bytes, np.ndarray, kx.OcclusionSession]:
    model = tiny(layout=request.param).SerializeToString()
    native = IMAGE if request.param == "NCHW" else np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1))
    return model, native, kx.OcclusionSession(model, preparation=PREPARATION)


def assert_map(case, fill, groups, mode: str, **arguments) -> None:
    """groups: of fills that count the same; each the patches that its mean is over, (C, h, w) or by (top, left)."""
    model, native, session = case
    heat_map = session.explain(
        native, targets=range(4), patch=PATCH, stride=STRIDE, fill=fill, mode=mode, **arguments
    )
    means = [
        np.mean(
            [naive_map(model, native, heat_map.tops, heat_map.lefts, patch)[0] for patch in patches], 0, np.float64
        )
        for patches in groups
    ]
    assert_scores_equal(heat_map.scores, np.mean(means, axis=0).T.reshape(heat_map.scores.shape), probabilities=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("word", EXPECTED)
def test_a_word_is_what_it_says(case, word, mode) -> None:
    assert_map(case, word, [[EXPECTED[word]]], mode)


def drawn(samples: int, seed: int = 0) -> list:
    """The surroundings that are drawn, as the oracle takes them."""
    positions, made = all_patches("surroundings", fill_samples=samples, seed=seed)
    return [lambda top, left, k=k: made[k, positions.index((top, left))] for k in range(samples)]


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_surroundings_are_averaged(case, mode, batch_size) -> None:
    assert_map(case, "surroundings", [drawn(3, seed=5)], mode, fill_samples=3, seed=5, batch_size=batch_size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "fill, groups",
    [
        (["black", "white"], [[EXPECTED["black"]], [EXPECTED["white"]]]),
        ([0.0, [0.5, 0.4, 0.4]], [[whole([0, 0, 0])], [whole([0.5, 0.4, 0.4])]]),
        (
            ([0.1], (0.5, 0.4, 0.4), np.array([1, 2, 3])),
            [[whole([0.1] * 3)], [whole([0.5, 0.4, 0.4])], [whole([1, 2, 3])]],
        ),
        ([0.7, "blur", "mean"], [[whole([0.7] * 3)], [EXPECTED["blur"]], [EXPECTED["mean"]]]),
        (["surroundings", "inpaint"], [drawn(4), [EXPECTED["inpaint"]]]),
        (["gray"], [[EXPECTED["gray"]]]),
        ([np.full((3, *PATCH), 0.3), "blur"], [[whole([0.3] * 3)], [EXPECTED["blur"]]]),
        (
            [lambda image, *where: cut(image, *where[:2]) / 2, -1],
            [[lambda *at: cut(IMAGE[0], *at) / 2], [whole([-1] * 3)]],
        ),
    ],
    ids=["words", "numbers", "lists", "mixed", "samples", "one", "array", "function"],
)  # fmt: skip
def test_several_fills_count_the_same(case, fill, groups, mode) -> None:
    assert_map(case, fill, groups, mode, fill_samples=4)


def test_a_flat_list_is_one_a_channel_and_arrays_of_channels_are_an_array() -> None:
    channels = [np.full(PATCH, value) for value in (0.1, 0.2, 0.3)]
    for fill in ([0.1, 0.2, 0.3], (0.1, 0.2, 0.3), np.array([0.1, 0.2, 0.3]), channels, np.stack(channels).tolist()):
        assert len(fills_of(fill)) == 1
        np.testing.assert_array_equal(all_patches(fill)[1], whole([0.1, 0.2, 0.3])[None, None])


# -- each word -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", ["mean", "black", "white", "gray", 0.5, ["black", "white"], [[1, 2, 3], "mean"]])
def test_what_is_the_same_everywhere_is_one_patch(fill) -> None:
    _, made = all_patches(fill)
    assert made.shape == (len(fills_of(fill)), 1, 3, *PATCH)


def test_blur_is_as_wide_as_half_the_patch() -> None:
    image = image_of(2, 40, 50, seed=3)
    positions, made = all_patches("blur", image, (11, 6), (7, 9))
    expected = np.stack([cut(blurred(image, (11, 6)), *at, (11, 6)) for at in positions])
    np.testing.assert_allclose(made[0], expected, atol=1e-5)


@pytest.mark.parametrize("side", [8, 16])
def test_blur_erases_what_is_as_long_as_the_patch(side) -> None:
    waves = np.sin(2 * np.pi * np.arange(160) / side)[None, None, :].repeat(160, axis=1).astype(np.float32)
    made = patches_of("blur", waves, side)(np.array([72]), np.array([72]))
    assert np.abs(made).max() < 0.01


@pytest.mark.parametrize(
    "frame, patch",
    [
        ((13, 12), (4, 3)),  # with stride 1: every nearness to every edge
        ((12, 9), (5, 8)),  # nearly as wide as the image
        ((9, 6), (9, 2)),  # as high as the image
        ((6, 7), (6, 5)),  # nothing beyond the two rings
        ((6, 6), (5, 5)),
        ((8, 9), (1, 1)),
        ((3, 3), (1, 2)),
        ((1, 9), (1, 3)),  # an image of one row
    ],
)
def test_inpainting_is_scikit_images_own(frame, patch) -> None:
    image = image_of(2, *frame, seed=4) * 3 - 1
    positions, made = all_patches("inpaint", image, patch, 1)
    for number, at in enumerate(positions):
        expected = inpainted(image, *at, np.ones(patch, bool))
        np.testing.assert_allclose(made[0, number], expected, atol=1e-5, err_msg=str(at))


def test_inpainting_goes_on_from_the_visible_pixels_of_a_shape() -> None:
    mask = np.random.default_rng(0).uniform(size=(6, 5)) < 0.6
    mask[2, 2], mask[0, :] = False, True
    image = image_of(3, 11, 12, seed=6)
    positions, made = all_patches("inpaint", image, (6, 5), 1, patch_shape=mask)
    for number, at in enumerate(positions):
        expected = inpainted(image, *at, mask)  # which leaves visible pixels as they are
        np.testing.assert_allclose(made[0, number], expected, atol=1e-5, err_msg=str(at))


@pytest.mark.parametrize("extreme", [-50, 50])
def test_visible_pixels_of_a_shape_widen_the_range(extreme) -> None:
    mask = np.ones((6, 5), bool)
    mask[2, 2] = False
    image = image_of(1, 14, 14, seed=7)
    image[0, 5 + 2, 6 + 2] = extreme  # lower or higher than all others, and so is what is made up beside it
    made = patches_of("inpaint", image, (6, 5), 1, patch_shape=mask)(np.array([5]), np.array([6]))[0, 0]
    assert np.abs(made[:, mask]).max() > 5
    np.testing.assert_allclose(made, inpainted(image, 5, 6, mask), atol=1e-4)


def test_inpainting_is_clipped_to_the_values_of_the_image() -> None:
    """A slope that ends at the patch would go on beyond them."""
    image = np.tile(np.arange(12, dtype=np.float32) ** 2, (12, 1))[None]
    made = patches_of("inpaint", image, (12, 4), 1)(np.array([0]), np.array([8]))[0, 0]
    assert made.max() == 7**2 == image[0, 0, 7]
    np.testing.assert_allclose(made, inpainted(image, 0, 8, np.ones((12, 4), bool)), atol=1e-4)


def test_a_patch_that_is_too_large_to_inpaint_is_refused(monkeypatch) -> None:
    with pytest.raises(kx.ImageError, match="nothing is left to go on from"):
        patches_of("inpaint", patch=(20, 24))
    monkeypatch.setattr(inpaint, "MOST_BYTES", 10_000)
    with pytest.raises(kx.ImageError, match=r"5 x 4 pixels needs 0 MB of weights.* or take fill='blur'"):
        patches_of("inpaint")


def test_weights_that_are_large_are_not_kept(monkeypatch) -> None:
    hidden = np.ones((3, 3), bool)
    kept = inpaint.weights_of(hidden, ((2, 2), (2, 2)))
    assert inpaint.weights_of(hidden, ((2, 2), (2, 2))) is kept
    monkeypatch.setattr(inpaint, "CACHED_BYTES", 0)
    new = inpaint.weights_of(hidden, ((2, 2), (2, 2)))
    assert new is not kept
    np.testing.assert_array_equal(new, kept)


@pytest.mark.parametrize("frame, patch", [((20, 24), PATCH), ((9, 30), (9, 4)), ((12, 12), (4, 4)), ((10, 30), (5, 3))])
def test_surroundings_touch_the_hidden_patch_and_show_none_of_it(frame, patch) -> None:
    image = np.arange(np.prod(frame), dtype=np.float32).reshape(1, *frame)  # every pixel tells where it is from
    positions, made = all_patches("surroundings", image, patch, 1, fill_samples=20)
    for number, (top, left) in enumerate(positions):
        for one in made[:, number, 0]:
            row, column = divmod(int(one[0, 0]), frame[1])
            np.testing.assert_array_equal(one, cut(image, row, column, patch)[0])
            down, right = abs(row - top), abs(column - left)
            assert (down == patch[0] and right <= patch[1]) or (right == patch[1] and down <= patch[0])


def test_all_surroundings_are_drawn_alike() -> None:
    image = np.arange(14 * 16, dtype=np.float32).reshape(1, 14, 16)
    found: dict[float, int] = {}
    for seed in range(300):
        made = patches_of("surroundings", image, (4, 3), seed=seed, fill_samples=9)(np.array([5]), np.array([6]))
        corners = made[:, 0, 0, 0, 0].tolist()
        assert len(set(corners)) == 9  # none twice
        for corner in corners:
            found[corner] = found.get(corner, 0) + 1
    # Four rows and columns less the corners that belong to both: 2 * 7 + 2 * 9 - 4.
    assert len(found) == 28
    assert all(abs(count - 300 * 9 / 28) < 40 for count in found.values())


def test_surroundings_depend_on_seed_and_position_only() -> None:
    image = np.arange(40 * 40, dtype=np.float32).reshape(1, 40, 40)
    draw = patches_of("surroundings", image, 4, 1)
    offsets = {
        tuple(draw(np.array([top]), np.array([left]))[:, 0, 0, 0, 0] - image[0, top, left])
        for top in (10, 20) for left in (10, 20)
    }  # fmt: skip
    assert len(offsets) == 4  # others at every position
    positions, made = all_patches("surroundings", seed=2)
    one_by_one = patches_of("surroundings", seed=2)
    finer = patches_of("surroundings", stride=1, seed=2, region=(6, 0, 20, 24), fill_samples=8)
    for number, (top, left) in enumerate(positions):
        at = np.array([top]), np.array([left])
        np.testing.assert_array_equal(one_by_one(*at)[:, 0], made[:, number])
        np.testing.assert_array_equal(finer(*at)[:, 0], made[:, number])
    assert not np.array_equal(all_patches("surroundings", seed=3)[1], made)


def test_more_samples_than_neighbours_are_drawn_with_repetition() -> None:
    image = np.arange(4 * 8, dtype=np.float32).reshape(1, 4, 8)
    made = patches_of("surroundings", image, (4, 4), fill_samples=30)(np.array([0]), np.array([0]))
    assert made.shape == (30, 1, 1, 4, 4) and (made[:, 0] == image[:, :, 4:]).all()


def test_surroundings_need_room() -> None:
    with pytest.raises(kx.ImageError, match=r"no room for another one in the 20 x 24 image: make it smaller"):
        patches_of("surroundings", patch=(9, 10), stride=1)
    patches_of("surroundings", patch=(9, 8), stride=1)  # beside it, if not above


def test_words_do_not_depend_on_the_batch() -> None:
    for fill in (*MADE, [*WORDS]):
        positions, made = all_patches(fill)
        each = patches_of(fill)
        for number, (top, left) in enumerate(positions):
            alone = each(np.array([top]), np.array([left]))
            np.testing.assert_allclose(alone[:, 0], made[:, min(number, made.shape[1] - 1)], atol=1e-6)


# -- pixel values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fill, expected",
    [
        (127.5, pixel(127.5)),
        (0, pixel(0)),
        ((255, 0, 51), whole([(1 - 0.4) / 0.2, (0 - 0.5) / 0.25, (0.2 - 0.6) / 0.3])),
        (np.stack([np.full(PATCH, value) for value in (255, 0, 51)]), whole([3, -2, -4 / 3])),
        (np.full(PATCH, 51), pixel(51)),
    ],
)
def test_numbers_may_be_pixel_values(fill, expected) -> None:
    np.testing.assert_allclose(all_patches(fill, fill_space="pixel")[1][0, 0], expected, atol=1e-5)


def test_pixel_values_are_of_red_green_and_blue_whatever_the_models_order() -> None:
    bgr = kx.Preparation(mean=MEAN, std=STD, channel_order="bgr")
    made = all_patches((255, 0, 51), fill_space="pixel", preparation=bgr)[1]
    np.testing.assert_allclose(made[0, 0], whole([(0.2 - 0.4) / 0.2, -2, (1 - 0.6) / 0.3]), atol=1e-5)
    gray = kx.Preparation(channel_order="gray", scale=1.0)
    made = all_patches((100, 200, 50), IMAGE[0, :1], fill_space="pixel", preparation=gray)[1]
    np.testing.assert_allclose(made, 0.299 * 100 + 0.587 * 200 + 0.114 * 50, atol=1e-4)


@pytest.mark.parametrize(
    "fill, space", [("black", "model"), ("gray", "pixel"), (127, "pixel"), (["mean", "white"], "model")]
)
def test_pixel_values_need_a_preparation(fill, space) -> None:
    session = kx.OcclusionSession(tiny())
    with pytest.raises(kx.ImageError, match="give the session a preparation"):
        session.explain(IMAGE, patch=PATCH, fill=fill, fill_space=space)
    for word in ("mean", *MADE):  # which need none, in either space
        session.explain(IMAGE, patch=PATCH, stride=9, fill=word, fill_space=space)


def test_a_preparation_of_other_channels_is_told() -> None:
    with pytest.raises(kx.ImageError, match="the preparation is of 3 channels and the image has 1"):
        patches_of("black", IMAGE[0, :1])


def test_white_of_a_deeper_picture_is_not_guessed() -> None:
    deep = kx.Preparation(scale=1 / 65535)
    with pytest.raises(kx.ImageError, match=r"is the pixel value 255, and a scale of .* is one of deeper pictures"):
        patches_of("white", preparation=deep)
    np.testing.assert_array_equal(all_patches("black", preparation=deep)[1], 0)


@pytest.mark.parametrize(
    "fill, message",
    [
        ("grey", "'grey'; as a word it is mean, .* or surroundings; did you mean gray?"),
        ("Black", "did you mean black?"),
        (["mean", "noise"], "'noise'; as a word"),
        (["mean", [1, 2]], r"fill\[1\] of shape \(2,\) does not fit"),
        (["mean", ["black"]], r"fill\[1\] is not made of numbers"),
        ([lambda *_: np.zeros((2, 3, *PATCH)), 0], r"fill\[0\]: a function in a list of fills returns one patch"),
    ],
)
def test_wrong_words(fill, message) -> None:
    with pytest.raises(kx.ImageError, match=message):
        kx.OcclusionSession(tiny()).explain(IMAGE, patch=PATCH, stride=STRIDE, fill=fill)


def test_a_function_has_no_pixel_space() -> None:
    with pytest.raises(kx.ImageError, match="a function returns the model's own numbers"):
        patches_of(lambda *_: 0, fill_space="pixel")


# -- numbers that look like pixel values -------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [127, [123.7, 116.3, 103.5], 255, ["mean", 200]])
def test_a_number_that_looks_like_a_pixel_value_is_warned_of(fill) -> None:
    session = kx.OcclusionSession(tiny(), preparation=PREPARATION)
    with pytest.warns(UserWarning, match=r"looks like a pixel value.* fill_space='pixel'") as caught:
        session.explain(IMAGE, patch=PATCH, stride=9, fill=fill)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.explain(IMAGE, patch=PATCH, stride=9, fill=fill, fill_space="pixel")


@pytest.mark.parametrize(
    "fill, scale", [(0, 1), (-2.6, 1), (3, 1), (1, 1e-3), (1000, 1), (-1000, 1), (127, 50)]
)
def test_other_numbers_are_not(fill, scale) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kx.OcclusionSession(tiny()).explain(IMAGE * np.float32(scale), patch=PATCH, stride=9, fill=fill)


# -- approximate maps and tunings --------------------------------------------------------------------------------------

ASKED = {"patch": 8, "stride": 2}


@pytest.mark.filterwarnings("ignore:mode='approximate' without a tuning")
@pytest.mark.parametrize("fill", ["blur", "inpaint", ["surroundings", 0.0]])
def test_approximate_maps_take_any_fill(fill) -> None:
    session = kx.OcclusionSession(deep())
    asked = ASKED | {"fill": fill, "fill_samples": 2}
    exact = session.explain(scene(1), **asked)
    rough = session.explain(scene(1), mode="approximate", min_ssim=0.8, **asked)
    assert rough.mode == "approximate" and np.corrcoef(rough.scores.ravel(), exact.scores.ravel())[0, 1] > 0.9


@pytest.fixture(scope="module")
def tuned() -> kx.OcclusionSession:
    session = kx.OcclusionSession(deep(), preparation=PREPARATION)
    images = [scene(seed) for seed in range(3)]
    kx.tune(session, images, fill=["blur", 0.5], fill_space="pixel", patch_shape="ellipse", min_ssim=0.5, **ASKED)
    return session


HELD = ASKED | {"fill": ["blur", 0.5], "fill_space": "pixel", "patch_shape": "ellipse"}


def test_a_tuning_holds_for_fill_and_shape(tuned) -> None:
    specification = tuned.tuning.specification
    assert specification.fill == ("blur", (0.5,)) and specification.fill_space == "pixel"
    assert specification.patch_shape == "ellipse" and specification.fill_samples == 8
    assert kx.Tuning.from_json(tuned.tuning.to_json()) == tuned.tuning
    assert tuned.explain(scene(5), mode="approximate", **HELD).expected_ssim is not None
    # What the fill does not depend on may differ.
    assert tuned.explain(scene(5), mode="approximate", fill_samples=3, seed=4, **HELD).complete


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fill": "blur"}, "holds for fill blur, 0.5, not blur; fill_space pixel, not model"),
        ({"fill": ["blur", 0.25]}, "holds for fill blur, 0.5, not blur, 0.25"),
        ({"fill": ["blur", "surroundings"], "fill_samples": 3}, "fill_samples 8, not 3"),
        ({"fill_space": "model"}, "holds for fill_space pixel, not model"),
        ({"patch_shape": "rectangle"}, "holds for patch_shape ellipse, not rectangle"),
        ({"patch_shape": np.eye(8)}, "holds for patch_shape ellipse, not mask [0-9a-f]{16}"),
    ],
)
def test_and_for_no_other(tuned, changes, message) -> None:
    with pytest.raises(kx.ImageError, match=message):
        tuned.explain(scene(0), mode="approximate", **(HELD | changes))


def test_a_tuning_of_an_older_version_is_one_of_numbers_and_rectangles(tuned) -> None:
    old = json.loads(replace(tuned.tuning, specification=replace(tuned.tuning.specification, fill=0.5)).to_json())
    for name in ("fill_space", "fill_samples", "patch_shape"):
        del old["specification"][name]
    session = kx.OcclusionSession(deep())
    session.tuning = kx.Tuning.from_json(json.dumps(old))
    assert session.explain(scene(5), mode="approximate", fill=0.5, **ASKED).complete
    with pytest.raises(kx.ImageError, match="holds for patch_shape rectangle, not ellipse"):
        session.explain(scene(5), mode="approximate", fill=0.5, patch_shape="ellipse", **ASKED)
    with pytest.raises(kx.ImageError, match=r"holds for fill 0\.5, not mean"):
        session.explain(scene(5), mode="approximate", fill="mean", **ASKED)
