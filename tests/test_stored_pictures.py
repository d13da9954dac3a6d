"""A session takes pictures where it knows how: a preparation given, or stored with the model, as labels are."""

import dataclasses
import json
import pickle

import numpy as np
import onnx
import pytest
from approximate_models import deep, scene
from families import FAMILIES
from PIL import Image
from tiny_models import image_of, tiny, two_image_inputs, with_second_input

import krypton_onnx as kx
from krypton_onnx.images import prepare_image
from krypton_onnx.images.presets import PRESETS
from krypton_onnx.runtime.metadata import entry, set_entry
from krypton_onnx.runtime.preparing import LABELS_KEY, PREPARATION_KEY, store_labels, store_preparation

NAMES = ("cat", "dog", "sea lion", "espresso")
BGR = kx.Preparation(mean=(104.0, 117.0, 123.0), scale=1.0, channel_order="bgr")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return path


def expected_array(photo, preparation, size=(20, 24)):
    return prepare_image(Image.open(photo), dataclasses.replace(preparation, size=size)).array


# -- in a session ------------------------------------------------------------------------------------------------------


def test_a_picture_is_explained_as_its_array_is(photo):
    session = kx.OcclusionSession(tiny(), preparation=BGR)
    assert session.preparation == dataclasses.replace(BGR, size=(20, 24))
    array = expected_array(photo, BGR)
    expected = session.explain(array, patch=6).to_dict()
    for image in (photo, str(photo), Image.open(photo), {"image": photo}, {"image": Image.open(photo)}):
        assert session.explain(image, patch=6).to_dict() == expected
    np.testing.assert_array_equal(session.prepare(photo).array, array)
    assert session.prepare(photo).steps[1] == "resized to 24 x 20 px, aspect not kept (bilinear)"
    assert session.explain(array, patch=6).to_dict() == expected  # an array stays one


def test_a_preset_by_name_has_the_models_size_and_layout(photo):
    session = kx.OcclusionSession(FAMILIES["vgg_nhwc"](), preparation="imagenet")
    preset = PRESETS["imagenet"].preparation
    height, width = session.image_dims[1:3]
    assert session.preparation.size == (height, width) and session.preparation.layout == "nhwc"
    assert session.preparation.resize == round(256 * max(height, width) / 224)
    assert session.preparation.mean == preset.mean
    assert session.prepare(photo).array.shape == (1, height, width, 3)
    assert session.explain(photo, patch=8, stride=16).complete
    with pytest.raises(kx.ImageError, match=r"did you mean imagenet"):
        kx.OcclusionSession(tiny(), preparation="imagnet")
    with pytest.raises(kx.ImageError, match="a preparation is a Preparation or the name of a preset, got dict"):
        kx.OcclusionSession(tiny(), preparation={"mean": 1})


def test_without_a_preparation_a_picture_is_refused_with_what_to_do(photo, tmp_path):
    session = kx.OcclusionSession(tiny())
    assert session.preparation is None and session.labels is None
    for image in (photo, Image.open(photo)):
        with pytest.raises(kx.ImageError, match=r"is a picture, and nothing says .*preparation=.imagenet.*convert"):
            session.explain(image, patch=6)
    np.save(tmp_path / "array.npy", image_of(3, 20, 24))
    expected = session.explain(image_of(3, 20, 24), patch=6).to_dict()
    assert session.explain(tmp_path / "array.npy", patch=6).to_dict() == expected
    with pytest.raises(kx.ImageError, match=r"none\.png: no such file"):
        session.explain(tmp_path / "none.png")
    session.preparation = "unit"
    assert session.explain(photo, patch=6).complete


def test_of_several_inputs_the_image_may_be_a_picture(photo):
    session = kx.OcclusionSession(with_second_input("vector", "batch"), preparation="unit")
    other = next(name for name in session._others)
    feeds = {other: np.ones([size or 1 for size in session._others[other].sizes], np.float32)}
    array = expected_array(photo, kx.Preparation())
    expected = session.explain({session.image_input: array, **feeds}, patch=6).to_dict()
    assert session.explain({session.image_input: photo, **feeds}, patch=6).to_dict() == expected
    two = kx.OcclusionSession(two_image_inputs(), image_input="left", preparation="unit")
    assert two.prepare({"left": photo}).array.shape == (1, *two.image_dims[1:])


def test_a_picture_can_be_tuned_on(photo):
    session = kx.OcclusionSession(deep(), preparation="unit")
    assert kx.tune(session, [photo], patch=8, stride=4, min_ssim=0.5).evidence.images


def test_a_session_that_was_pickled_knows_the_same(photo):
    session = kx.OcclusionSession(stored().SerializeToString(), preparation=kx.Preparation(std=(0.5,)))
    again = pickle.loads(pickle.dumps(session))
    assert again.preparation == session.preparation and again.labels == session.labels == NAMES
    assert again.preparation.std == (0.5,)
    assert again.explain(photo, patch=6).to_dict() == session.explain(photo, patch=6).to_dict()


# -- in the model ------------------------------------------------------------------------------------------------------


def stored() -> onnx.ModelProto:
    model = tiny()
    store_preparation(model, BGR)
    store_labels(model, NAMES)
    return model


def test_what_is_given_counts_before_what_is_stored(photo):
    session = kx.OcclusionSession(stored())
    assert session.preparation == dataclasses.replace(BGR, size=(20, 24)) and session.labels == NAMES
    other = kx.OcclusionSession(stored(), preparation="unit")
    assert other.preparation == kx.Preparation((20, 24))
    assert session.explain(photo, patch=6).to_dict() != other.explain(photo, patch=6).to_dict()
    other.preparation = None
    assert other.preparation == session.preparation


def test_convert_stores_what_it_is_given(photo, tmp_path):
    path = tmp_path / "rewritten.onnx"
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    report = kx.convert(tiny(), path, preparation="imagenet", labels=tmp_path / "names.txt")
    session = kx.OcclusionSession(path)
    assert report.labels == session.labels == NAMES
    assert report.preparation == session.preparation == PRESETS["imagenet"].preparation.adapted(3, (20, 24), "nchw")
    given = kx.OcclusionSession(tiny(), preparation="imagenet")
    expected, actual = (one.explain(photo, patch=6) for one in (given, session))
    np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-5)
    inspection = kx.inspect(path)
    assert (inspection.preparation, inspection.labels) == (report.preparation, NAMES)
    assert json.loads(json.dumps(inspection.to_dict()))["preparation"]["resize"] == report.preparation.resize
    nothing = kx.convert(tiny(), tmp_path / "plain.onnx")
    assert nothing.preparation is nothing.labels is kx.inspect(tiny()).labels is None


def test_a_rewritten_model_is_added_to_in_place_and_keeps_the_rest(tmp_path):
    path = tmp_path / "model.onnx"
    session = kx.OcclusionSession(deep())
    tuning = kx.tune(session, [scene(0)], patch=8, stride=4, min_ssim=0.5)
    kx.convert(deep(), path, tuning=tuning)
    before = onnx.load(path)
    report = kx.convert(path, path, preparation=BGR)
    assert report.checked_positions == 0 and report.preparation.size == (64, 64)
    classes = kx.OcclusionSession(path).explain(scene(0), targets=0, patch=32, stride=32)
    assert classes.complete
    labels = [f"thing {index}" for index in range(before.graph.output[0].type.tensor_type.shape.dim[1].dim_value)]
    kx.convert(path, path, labels=labels)
    kx.convert(path, path, preparation="unit")  # in place of the other
    session = kx.OcclusionSession(path)
    assert session.tuning == tuning
    assert session.labels == tuple(labels) and session.preparation == kx.Preparation((64, 64))
    kx.convert(path, path, tuning=tuning)
    after = onnx.load(path)
    keys = [one.key for one in after.metadata_props]
    assert len(keys) == len(set(keys)) and {PREPARATION_KEY, LABELS_KEY, "krypton.tuning", "krypton.plan"} <= set(keys)
    assert after.graph == before.graph and after.functions == before.functions
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_what_the_original_model_stores_is_kept_by_the_rewriting(tmp_path):
    report = kx.convert(stored(), tmp_path / "rewritten.onnx")
    assert report.labels == NAMES and report.preparation == BGR
    assert kx.OcclusionSession(tmp_path / "rewritten.onnx").preparation.size == (20, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preparation": "mnist"}, r"the preparation makes 1 channel \(gray\), but the model takes 3"),
        ({"preparation": "imagnet"}, "'imagnet' is not a preset"),
        ({"labels": NAMES[:3]}, "there are 3 labels, but the model has 4 classes"),
        ({"labels": []}, "labels: holds no names"),
        ({"labels": [1, 2, 3, 4]}, "labels: must be names"),
        ({"labels": "none.txt"}, r"none\.txt: no such file"),
    ],
)
def test_what_cannot_be_this_models_is_refused_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(kx.ImageError, match=message):
        kx.convert(tiny(), tmp_path / "rewritten.onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "3", '{"sise": [1, 2]}', '{"mean": "x"}', '{"std": [0]}', "[" * 100000])
def test_a_broken_preparation_in_a_model_is_told_when_it_is_needed(photo, text):
    model = tiny()
    set_entry(model, PREPARATION_KEY, text)
    session = kx.OcclusionSession(model)
    assert session.explain(image_of(1, 3, 20, 24), patch=6).complete  # an array needs none
    with pytest.raises(kx.ModelError, match="the preparation stored with the model cannot be read") as raised:
        session.explain(photo, patch=6)
    assert "\n" not in str(raised.value)
    session.preparation = "unit"
    assert session.explain(photo, patch=6).complete


@pytest.mark.parametrize("text", ["", "3", "[1]", "[]", '{"0": "cat"}'])
def test_broken_labels_in_a_model_are_told_when_they_are_needed(text):
    model = tiny()
    set_entry(model, LABELS_KEY, text)
    session = kx.OcclusionSession(model)
    with pytest.raises(kx.ModelError, match="the labels stored with the model cannot be read"):
        _ = session.labels


def test_an_entry_takes_the_place_of_the_one_before():
    model = tiny()
    set_entry(model, "a", "1")
    set_entry(model, "b", "2")
    set_entry(model, "a", "3")
    assert (entry(model, "a"), entry(model, "b"), entry(model, "c")) == ("3", "2", None)
    assert len(model.metadata_props) == 2


# -- in a specification ------------------------------------------------------------------------------------------------


def test_a_specification_without_a_preparation_goes_by_the_models(photo, tmp_path):
    kx.convert(tiny(), tmp_path / "rewritten.onnx", preparation=BGR, labels=NAMES)
    spec = kx.ExplanationSpec(tmp_path / "rewritten.onnx", patch=6)
    expected = kx.OcclusionSession(tmp_path / "rewritten.onnx").explain(photo, patch=6).to_dict()
    assert spec.explain(photo).to_dict() == expected
    own = dataclasses.replace(spec, preparation=kx.Preparation())
    assert own.explain(photo).to_dict() != expected
    assert own.session().preparation == kx.Preparation((20, 24))
