"""OcclusionSession: what it is made of, `run`, and which images it takes."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from families import FAMILIES, example_image
from naive import naive_map, occluded, session_of
from tiny_models import image_of, tiny, with_second_input
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.rewriter import rewrite_model

PATCH, STRIDE = (5, 4), (6, 7)


@cache
def original(name: str) -> bytes:
    return FAMILIES[name]().SerializeToString()


@cache
def rewritten(name: str) -> bytes:
    return rewrite_model(original(name)).SerializeToString()


MAKE = {"original": original, "rewritten": rewritten}


def assert_explains(
    session: kx.OcclusionSession, model: onnx.ModelProto | bytes, image: np.ndarray, native=None
):
    """The map of `image` equals the oracle's, which takes the image in the model's own layout."""
    heat_map = session.explain(image, targets=range(4), patch=PATCH, stride=STRIDE, fill=0.2)
    native = image if native is None else native
    channels = min(native.shape[1], native.shape[3])
    patch = np.full((channels, *PATCH), 0.2, np.float32)
    scores, baseline = naive_map(model, native, heat_map.tops, heat_map.lefts, patch)
    expected = scores[:, :4].T.reshape(heat_map.scores.shape)
    assert_scores_equal(heat_map.scores, expected, probabilities=False)
    assert_scores_equal(heat_map.baseline, baseline[:4], probabilities=False)


# -- the model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("form", ["str", "Path", "bytes", "bytearray", "ModelProto"])
def test_a_model_comes_in_every_form(form: str, kind: str, tmp_path: Path) -> None:
    content = MAKE[kind]("vgg_nhwc")
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    sources = {
        "str": str(path),
        "Path": path,
        "bytes": content,
        "bytearray": bytearray(content),
        "ModelProto": onnx.load_model_from_string(content),
    }
    session = kx.OcclusionSession(sources[form])
    image = example_image(FAMILIES["vgg_nhwc"]())
    assert_explains(session, original("vgg_nhwc"), image)
    expected = session_of(original("vgg_nhwc")).run(None, {"input": image})[0]
    assert_scores_equal(session.run(None, {"input": image})[0], expected, probabilities=True)


def test_a_given_model_is_not_changed() -> None:
    model = FAMILIES["resnet_dynamo_fixed_batch"]()
    before = model.SerializeToString()
    session = kx.OcclusionSession(model)
    session.explain(example_image(model), patch=16, stride=16)
    assert model.SerializeToString() == before


def test_a_relative_path_outlives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    onnx.save(model, str(tmp_path / "model.onnx"))
    monkeypatch.chdir(tmp_path)
    session = kx.OcclusionSession("model.onnx")
    monkeypatch.chdir(os.sep)
    assert_explains(session, model, image_of(1, 3, 20, 24))
    assert session.run(None, {"image": image_of(1, 3, 20, 24)})[0].shape == (1, 4)


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    model = tiny()
    path = tmp_path / "model.onnx"
    onnx.save(tiny(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    image = image_of(1, 3, 20, 24)
    session = kx.OcclusionSession(path)
    assert_explains(session, model, image)
    expected = session_of(model).run(None, {"image": image})[0]
    np.testing.assert_array_equal(session.run(None, {"image": image})[0], expected)


# -- run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("name", ["vgg", "vgg_nhwc", "resnet18_legacy", "two_outputs", "inception"])
def test_run_is_the_original_model(name: str, kind: str, batch: int) -> None:
    plain = session_of(original(name))
    image = example_image(FAMILIES[name](), batch=batch)
    feeds = {plain.get_inputs()[0].name: image}
    session = kx.OcclusionSession(MAKE[kind](name))
    expected = plain.run(None, feeds)
    actual = session.run(None, feeds)
    assert len(actual) == len(expected)
    for have, want in zip(actual, expected, strict=True):
        assert have.dtype == want.dtype
        assert_scores_equal(have, want, probabilities=want.min() >= 0 and want.max() <= 1)
    names = [output.name for output in plain.get_outputs()][::-1]
    for have, want in zip(session.run(names, feeds), expected[::-1], strict=True):
        assert_scores_equal(have, want, probabilities=False)


def test_run_uses_the_callers_session_options() -> None:
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 2)
    session = kx.OcclusionSession(tiny(), sess_options=options)
    assert session.run(None, {"image": image_of(2, 3, 20, 24)})[0].shape == (2, 4)
    with pytest.raises(Exception, match="Got: 3 Expected: 2"):
        session.run(None, {"image": image_of(3, 3, 20, 24)})


def test_a_provider_may_come_with_options() -> None:
    session = kx.OcclusionSession(tiny(), providers=[("CPUExecutionProvider", {"use_arena": "0"})])
    image = image_of(1, 3, 20, 24)
    assert_explains(session, tiny(), image)
    assert session._engine(image.shape).kernels


def test_one_provider_may_be_a_string() -> None:
    session = kx.OcclusionSession(tiny(), providers="CPUExecutionProvider")
    assert session.run(None, {"image": image_of(1, 3, 20, 24)})[0].shape == (1, 4)


# -- images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_layouts_of_an_image(layout: str, channels: int) -> None:
    model = tiny(channels, layout=layout)
    first = image_of(1, channels, 20, 24)
    native = first if layout == "NCHW" else np.ascontiguousarray(first.transpose(0, 2, 3, 1))
    session = kx.OcclusionSession(model)
    assert (session.layout, session.image_input) == (layout, "image")
    for image in (first[0], first, native[0], native, {"image": native}, {"image": first[0]}):
        assert_explains(session, model, image, native)


def test_the_models_own_layout_wins_where_both_fit() -> None:
    model = tiny(8, "height", "width", layout="NHWC")
    image = image_of(1, 8, 9, 8)  # height 8, width 9, channels 8; or channels 8, height 9, width 8
    heat_map = kx.OcclusionSession(model).explain(image, targets=0, patch=(2, 3), stride=(4, 5))
    np.testing.assert_array_equal(heat_map.tops, [0, 4])
    np.testing.assert_array_equal(heat_map.lefts, [0, 5])
    changed = image.copy()
    changed[0, 4:6, 5:8] = 0
    expected = session_of(model).run(None, {"image": changed})[0]
    assert_scores_equal(heat_map.scores[:, 1, 1], expected[0, :1], probabilities=False)


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_any_kind_of_array(mode: str) -> None:
    session = kx.OcclusionSession(tiny())
    whole = np.arange(3 * 20 * 24).reshape(3, 20, 24) % 7
    plain = whole.astype(np.float32)
    read_only = plain.copy()
    read_only.setflags(write=False)
    variants = {
        "float64": plain.astype(np.float64),
        "float16": plain.astype(np.float16),
        "uint8": whole.astype(np.uint8),
        "list": plain.tolist(),
        "Fortran order": np.asfortranarray(plain),
        "strided": np.repeat(plain, 2, axis=2)[:, :, ::2],
        "reversed": np.ascontiguousarray(plain[:, ::-1, ::-1])[:, ::-1, ::-1],
        "big endian": plain.astype(">f4"),
        "read-only": read_only,
    }
    expected = session.explain(plain, targets=range(4), patch=PATCH, mode=mode)
    for name, image in variants.items():
        heat_map = session.explain(image, targets=range(4), patch=PATCH, mode=mode)
        np.testing.assert_array_equal(heat_map.scores, expected.scores, err_msg=name)


def test_the_image_is_left_as_it_was() -> None:
    image = image_of(1, 3, 20, 24)
    before = image.copy()
    session = kx.OcclusionSession(tiny())
    session.explain(
        image, patch=PATCH, fill=lambda image, top, left, height, width: image[:, :height, :width]
    )
    session.explain(image, patch=PATCH, mode="naive")
    np.testing.assert_array_equal(image, before)


def test_unknown_height_and_width_come_from_each_image() -> None:
    model = FAMILIES["dynamic_size"]()
    session = kx.OcclusionSession(model)
    for height, width in ((44, 38), (31, 52), (44, 38)):
        image = image_of(1, 3, height, width)
        assert_explains(session, model, image)
        assert session.plan(image).image_shape == (3, height, width)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize("name", ["squeezenet_fixed_batch", "resnet_dynamo_fixed_batch"])
def test_a_fixed_batch(name: str, mode: str, kind: str) -> None:
    image = example_image(FAMILIES[name]())
    session = kx.OcclusionSession(MAKE[kind](name))
    heat_map = session.explain(image, targets=range(5), patch=9, stride=12, mode=mode)
    scores, _ = naive_map(
        original(name), image, heat_map.tops, heat_map.lefts, np.zeros((3, 9, 9), np.float32)
    )
    assert_scores_equal(heat_map.scores, scores[:, :5].T.reshape(heat_map.scores.shape), probabilities=False)


# -- models with further inputs ------------------------------------------------------------------------------

SECOND_INPUTS = {
    "vector": np.array([[3, -1, 0.5, 2]], np.float32),
    "shared": np.array([3, -1, 0.5, 2], np.float32),
    "number": np.array(1.5, np.float32),
    "ids": np.array([3]),
    "scales": np.array([[2, 1, 0.5, -1, 1, 0.2]], np.float32),
}


@pytest.mark.parametrize("batch, mode", [("batch", "exact"), (1, "exact"), ("batch", "naive")])
@pytest.mark.parametrize("kind", SECOND_INPUTS)
def test_a_second_input(kind: str, batch: int | str, mode: str) -> None:
    model, image, more = with_second_input(kind, batch), image_of(1, 3, 20, 24), SECOND_INPUTS[kind]
    plain = session_of(model)
    for source in (model, rewrite_model(model)) if mode == "exact" else (model,):
        session = kx.OcclusionSession(source)
        heat_map = session.explain(
            {"image": image, "more": more}, targets=range(4), patch=PATCH, stride=STRIDE, mode=mode
        )
        feeds = [
            {"image": occluded(image, np.zeros((3, *PATCH), np.float32), top, left), "more": more}
            for top in heat_map.tops
            for left in heat_map.lefts
        ]
        expected = np.concatenate([plain.run(None, feed)[0] for feed in feeds])
        assert_scores_equal(heat_map.scores, expected.T.reshape(heat_map.scores.shape), probabilities=False)
        np.testing.assert_allclose(session.run(None, feeds[0])[0], expected[:1], atol=1e-5)


def test_a_second_input_is_converted_to_the_models_type() -> None:
    session = kx.OcclusionSession(with_second_input("vector"))
    image = image_of(1, 3, 20, 24)
    maps = [
        session.explain({"image": image, "more": more}, targets=1, patch=PATCH)
        for more in (SECOND_INPUTS["vector"], SECOND_INPUTS["vector"].astype(np.float64), [[3, -1, 0.5, 2]])
    ]
    np.testing.assert_array_equal(maps[0].scores, maps[1].scores)
    np.testing.assert_array_equal(maps[0].scores, maps[2].scores)


@pytest.mark.parametrize(
    "feeds, message",
    [
        ({}, "also needs the input 'more'"),
        (
            {"more": np.zeros((1, 4)), "extra": np.zeros(1)},
            "no input 'extra'; its inputs beside the image are: more",
        ),
        ({"more": np.zeros(4)}, r"input 'more' has shape \(4,\); the model wants 1 x 4"),
        ({"more": np.zeros((1, 3))}, r"input 'more' has shape \(1, 3\); the model wants 1 x 4"),
        ({"more": np.zeros((2, 4))}, r"input 'more' has shape \(2, 4\); the model wants 1 x 4"),
        ({"more": np.full((1, 4), "x")}, "input 'more' has dtype <U1; the model wants float32"),
    ],
)
def test_a_wrong_second_input_is_named(feeds: dict, message: str) -> None:
    session = kx.OcclusionSession(with_second_input("vector"))
    with pytest.raises(kx.ImageError, match=message):
        session.explain({"image": image_of(1, 3, 20, 24), **feeds}, patch=PATCH)
