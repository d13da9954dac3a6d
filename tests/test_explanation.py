"""Explanation: a map with all that belongs to it, and the files it is saved to."""

import hashlib
import json
from datetime import datetime

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny_models import tiny

import krypton_onnx as kx
from krypton_onnx.explanation import FORMATS
from krypton_onnx.images import Preparation
from krypton_onnx.labels import class_name

NAMES = ("cat", "dog\n(small)", " ", "<b>bird</b>")
PREPARATION = Preparation(size=(20, 24), mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explanation")
    onnx.save(tiny(), folder / "model.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def spec(folder):
    return kx.ExplanationSpec(str(folder / "model.onnx"), preparation=PREPARATION, patch=6, stride=5, top=2, fill=0.5)


@pytest.fixture(scope="module")
def explanation(folder, spec):
    return spec.explanation(folder / "photo.png", labels=NAMES)


def test_it_tells_what_was_explained_and_how(folder, spec, explanation):
    expected = spec.explain(folder / "photo.png")
    np.testing.assert_array_equal(explanation.heat_map.scores, expected.scores)
    assert explanation.spec == spec.with_digest() and explanation.spec.model_sha256
    assert explanation.source == str(folder / "photo.png")
    assert explanation.source_sha256 == hashlib.sha256((folder / "photo.png").read_bytes()).hexdigest()
    np.testing.assert_array_equal(explanation.picture, np.asarray(Image.open(folder / "photo.png")))
    assert explanation.steps and all(isinstance(step, str) for step in explanation.steps)
    assert explanation.seconds > 0
    assert abs(datetime.now().astimezone() - datetime.fromisoformat(explanation.made)).total_seconds() < 600


def test_what_hides_the_image_is_shown_as_pixels(explanation):
    """fill=0.5 in the model's space is (0.5 * std + mean) * 255 in pixels."""
    shown = explanation.occluded(np.array([0, 5, 10]), np.array([5, 0, 10]))
    assert shown.shape == (3, 6, 6, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, round((0.5 * 0.25 + 0.5) * 255))


def test_a_fill_of_each_position_is_shown_as_pixels(folder, spec):
    """The image itself, turned upside down: what stands there is what a picture would show there."""
    session = spec.session()
    made = kx.ExplanationSpec(spec.model, preparation=PREPARATION, patch=6, stride=5, fill="blur")
    explanation = made.explanation(folder / "photo.png", session)
    shown = explanation.occluded(np.array([0, 5]), np.array([5, 10]))
    there = np.stack([explanation.picture[t : t + 6, u : u + 6] for t, u in ((0, 5), (5, 10))])
    assert shown.shape == there.shape and (shown != there).any()
    assert np.ptp(shown.astype(int)) < np.ptp(there.astype(int))  # blurred


def test_classes_have_names_where_they_are_known(explanation):
    assert [class_name(number, NAMES) for number in range(5)] == [
        "cat (class 0)", "dog (small) (class 1)", "class 2", "<b>bird</b> (class 3)", "class 4",
    ]  # fmt: skip
    assert class_name(0, None) == "class 0"
    assert explanation.to_dict()["names"] == [explanation.name_of(target) for target in explanation.heat_map.targets]


@pytest.mark.parametrize("suffix", FORMATS)
def test_it_is_saved_as_the_suffix_says(explanation, tmp_path, suffix):
    if suffix == ".html":
        pytest.importorskip("jinja2")
    path = tmp_path / f"map{suffix}"
    explanation.save(path)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".npz": b"PK", ".json": b"{", ".html": b"<!"}
    assert path.read_bytes().startswith(starts[suffix])
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".npz":
        np.testing.assert_array_equal(kx.HeatMap.load(path).scores, explanation.heat_map.scores)
    if suffix == ".json":
        told = json.loads(path.read_text())
        assert told["targets"] == list(explanation.heat_map.targets)
        assert kx.ExplanationSpec.from_dict(told["specification"]) == explanation.spec


def test_another_suffix_is_refused_and_nothing_written(explanation, tmp_path):
    with pytest.raises(kx.KryptonError, match=r"map\.bmp: does not end in \.png"):
        explanation.save(tmp_path / "map.bmp")
    assert not list(tmp_path.iterdir())


def test_of_arrays_and_of_several_inputs(folder):
    spec = kx.ExplanationSpec(str(folder / "model.onnx"), patch=6, stride=5)
    array = np.random.default_rng(4).normal(size=(3, 20, 24)).astype(np.float32)
    of_array, of_feeds = (spec.explanation(given) for given in (array, {"image": array[None]}))
    np.testing.assert_array_equal(of_array.heat_map.scores, of_feeds.heat_map.scores)
    assert of_array.picture.shape == (20, 24, 3) and of_array.source_sha256 is None and of_array.labels is None
    assert of_array.occluded(np.array([0]), np.array([5])).shape == (1, 6, 6, 3)


# -- masks in files, and the session's own preparation ---------------------------------------------------------


@pytest.fixture
def masked(folder, tmp_path):
    mask = np.eye(6, dtype=np.float32)
    np.save(tmp_path / "mask.npy", mask)
    asked = {"preparation": PREPARATION, "patch": 6, "stride": 5, "patch_shape": str(tmp_path / "mask.npy")}
    return kx.ExplanationSpec(str(folder / "model.onnx"), **asked), tmp_path / "mask.npy"


def test_a_specification_pins_the_content_of_its_mask(folder, masked, tmp_path):
    spec, file = masked
    saved = spec.save(tmp_path / "how.toml")
    assert saved.patch_shape_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert kx.ExplanationSpec.load(tmp_path / "how.toml") == saved
    before = saved.explain(folder / "photo.png").scores
    np.testing.assert_array_equal(spec.explain(folder / "photo.png").scores, before)
    np.save(file, np.ones((6, 6), np.float32))
    with pytest.raises(kx.ImageError, match=r"mask\.npy: is not the mask that was specified"):
        saved.explain(folder / "photo.png")
    assert (spec.explain(folder / "photo.png").scores != before).any()  # which pins none
    assert kx.ExplanationSpec(spec.model, patch_shape="ellipse").with_digest().patch_shape_sha256 is None


def test_an_explanation_shows_the_mask_that_was_used(folder, masked):
    spec, file = masked
    explanation = spec.explanation(folder / "photo.png")
    before = explanation.occluded(np.array([0]), np.array([5]))
    file.unlink()
    np.testing.assert_array_equal(explanation.occluded(np.array([0]), np.array([5])), before)


def test_a_session_of_another_preparation_is_refused(folder, spec):
    """The picture would go by one and fills in pixel values by the other."""
    other = kx.OcclusionSession(spec.model, preparation="raw")
    for call in (spec.explain, spec.explanation):
        with pytest.raises(kx.ImageError, match="another preparation than the specification"):
            call(folder / "photo.png", other)


def test_an_opened_picture_is_turned_as_its_file_is(folder, tmp_path, spec):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.open(folder / "photo.png").save(tmp_path / "turned.jpg", exif=exif, quality=95)
    session = spec.session()
    by_path = session.prepare(tmp_path / "turned.jpg")
    opened = session.prepare(Image.open(tmp_path / "turned.jpg"))
    np.testing.assert_array_equal(opened.array, by_path.array)
    assert opened.steps == by_path.steps and "turned upright" in opened.steps[0]
