"""What a user gets wrong comes back as one line of the right class that says what to do."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES
from tiny_models import image_of, tiny, two_image_inputs

import krypton_onnx as kx

IMAGE = image_of(1, 3, 20, 24)
NOT_A_MODEL = b"\x89PNG\r\n\x1a\nnot a model at all"


def refused(error: type[Exception], message: str, call, *arguments, **named) -> None:
    """`call` raises exactly this class, with one line that holds `message`."""
    with pytest.raises(kx.KryptonError) as raised:
        call(*arguments, **named)
    assert type(raised.value) is error and isinstance(raised.value, ValueError)
    text = str(raised.value)
    assert message in text and "\n" not in text and text == text.strip()


# -- models --------------------------------------------------------------------------------------------------


def everything(model, tmp_path: Path, **named) -> list:
    """The three ways into the library, to be called with the same model."""
    target = tmp_path / "rewritten.onnx"
    named_input = {key: value for key, value in named.items() if key == "image_input"}
    return [
        lambda: kx.OcclusionSession(model, **named_input),
        lambda: kx.inspect(model, **named),
        lambda: kx.convert(model, target, **named),
    ]


@pytest.mark.parametrize("index", range(3), ids=["session", "inspect", "convert"])
def test_models_that_are_none(index: int, tmp_path: Path) -> None:
    text = tmp_path / "model.onnx"
    text.write_bytes(NOT_A_MODEL)
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    no_nodes = onnx.ModelProto(ir_version=8)
    for model, message in [
        (tmp_path / "missing.onnx", f"{tmp_path / 'missing.onnx'}: no such file"),
        (str(tmp_path / "missing.onnx"), "no such file; give the path of an ONNX model"),
        (tmp_path, "is a folder"),
        (text, f"{text}: not an ONNX model"),
        (empty, f"{empty}: not an ONNX model"),
        (NOT_A_MODEL, "the bytes given are not an ONNX model"),
        (b"", "not an ONNX model"),
        (no_nodes, "not an ONNX model"),
    ]:
        refused(kx.ModelError, message, everything(model, tmp_path)[index])
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "empty.onnx"}


@pytest.mark.parametrize("index", range(3), ids=["session", "inspect", "convert"])
def test_an_image_input_that_is_ambiguous_or_wrong(index: int, tmp_path: Path) -> None:
    model = two_image_inputs()
    refused(kx.ModelError, "(left, right): choose one with --image-input", everything(model, tmp_path)[index])
    call = everything(model, tmp_path, image_input="middle")[index]
    refused(
        kx.ModelError,
        "image input 'middle': no such image input of rank 4; the model has: left, right",
        call,
    )
    everything(model, tmp_path, image_input="right")[index]()


def test_the_chosen_image_input_is_the_one_occluded() -> None:
    session = kx.OcclusionSession(two_image_inputs(), image_input="right")
    assert session.image_input == "right"
    heat_map = session.explain({"left": IMAGE, "right": IMAGE}, targets=range(4), patch=20, stride=4, fill=1)
    changed = IMAGE.copy()
    changed[:, :, :, 4:] = 1
    expected = session.run(None, {"left": IMAGE, "right": changed})[0][0]
    np.testing.assert_allclose(heat_map.scores[:, 0, 1], expected, rtol=1e-4, atol=1e-4)
    refused(kx.ImageError, "also needs the input 'left'", session.explain, {"right": IMAGE}, patch=4)
    refused(kx.ImageError, "no 'right', the image input", session.explain, {"left": IMAGE}, patch=4)


@pytest.mark.parametrize("index", range(1, 3), ids=["inspect", "convert"])
def test_unknown_height_and_width_need_an_input_shape(index: int, tmp_path: Path) -> None:
    model = FAMILIES["dynamic_size"]()
    unknown = everything(model, tmp_path)[index]
    refused(kx.ModelError, "give it with --input-shape input:1,3,224,224", unknown)
    for shape, message in [
        ((3, 40, 40), "needs 4 dimensions, got 3"),
        ((1, 4, 40, 40), "contradicts the model's"),
    ]:
        refused(kx.ModelError, message, everything(model, tmp_path, input_shape=shape)[index])
    assert not list(tmp_path.iterdir())
    everything(model, tmp_path, input_shape=(1, 3, 40, 36))[index]()


def test_providers_that_are_not_there() -> None:
    for providers, message in [(["No"], "provider 'No' is not available here"), ([], "providers is empty")]:
        refused(kx.ModelError, message, kx.OcclusionSession, tiny(), providers=providers)


def test_a_model_that_onnx_runtime_cannot_load(tmp_path: Path) -> None:
    model = tiny()
    model.graph.node[0].op_type = "NoSuchOperator"
    for call in everything(model, tmp_path)[1:]:
        refused(kx.ModelError, "ONNX Runtime cannot load the model", call)
    session = kx.OcclusionSession(model)
    refused(kx.ModelError, "ONNX Runtime cannot load the model", session.run, None, {"image": IMAGE})
    refused(kx.ModelError, "ONNX Runtime cannot load the model", session.explain, IMAGE)


# -- images and arguments ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session() -> kx.OcclusionSession:
    return kx.OcclusionSession(tiny())


@pytest.mark.parametrize(
    "image, message",
    [
        (IMAGE[:, :1], "the model wants 3 channels"),
        (IMAGE[:, [0, 1, 2, 2]], "the model wants 3 channels"),
        (IMAGE[0, 0], "has shape (20, 24); expected (C, H, W) or (1, C, H, W)"),
        (np.repeat(IMAGE, 2, axis=0), "has shape (2, 3, 20, 24)"),
        (IMAGE[:, :, :10], "wants 3 x 20 x 24 (channels, height, width): resize it"),
        (IMAGE[0].transpose(1, 2, 0), "wants 3 x 20 x 24 (channels, height, width)"),
        (IMAGE.astype(complex), "dtype complex128; expected float32"),
        ("cat.png", "cat.png: no such file"),
        (None, "expected float32 in the model's input space"),
        ([[1, 2], [3]], "the image is not an array"),
        (np.where(IMAGE > 2, np.nan, IMAGE), "values that are not finite"),
        (np.where(IMAGE > 2, np.inf, IMAGE), "values that are not finite"),
        (IMAGE.astype(np.float64) * 1e300, "values that are not finite"),
        ({"picture": IMAGE}, "no 'image', the image input; they have: picture"),
        ({"image": IMAGE, "size": 3}, "no input 'size'; its inputs beside the image are: none"),
    ],
)
def test_images(session, image, message) -> None:
    refused(kx.ImageError, message, session.explain, image, patch=4)


def test_an_image_for_a_model_in_its_own_layout() -> None:
    session = kx.OcclusionSession(tiny(layout="NHWC"))
    refused(
        kx.ImageError,
        "wants 20 x 24 x 3 (height, width, channels): resize it",
        session.explain,
        IMAGE[:, :, 1:],
    )
    refused(kx.ImageError, "3 channels (height, width, channels: 20 x 24 x 3)", session.explain, IMAGE[:, :2])


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patch": 21}, "patch 21 x 21 is larger than the 20 x 24 image: make it smaller"),
        ({"patch": (2, 25)}, "patch 2 x 25 is larger than the 20 x 24 image"),
        ({"patch": (5, 4), "region": (0, 0, 4, 20)}, "patch 5 x 4 is larger than the 4 x 20 region"),
        ({"patch": 0}, "patch must be at least 1 pixel"),
        ({"patch": (4, -1)}, "patch must be at least 1 pixel"),
        ({"patch": 2.5}, "patch must be an int or (height, width), got 2.5"),
        ({"patch": (1, 2, 3)}, "patch must be an int or (height, width)"),
        ({"patch": "four"}, "patch must be an int or (height, width)"),
        ({"patch": (np.inf, 4)}, "patch must be an int or (height, width)"),
        ({"stride": 0}, "stride must be at least 1 pixel"),
        ({"stride": None}, "stride must be an int or (height, width)"),
        ({"region": (0, 0, 21, 24)}, "(top, left, bottom, right) in pixels inside the 20 x 24 image"),
        ({"region": (-1, 0, 20, 24)}, "region must be"),
        ({"region": (5, 5, 5, 24)}, "region must be"),
        ({"region": (0, 0, 20)}, "region must be"),
        ({"region": (0, 0, 20.5, 24)}, "region must be"),
        ({"region": (0, 0, np.inf, 24)}, "region must be"),
        ({"region": 20}, "region must be"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"batch_size": 2.5}, "batch_size must be an integer of at least 1"),
        ({"time_budget": -1}, "time_budget must be a number of seconds"),
        ({"time_budget": np.nan}, "time_budget must be a number of seconds"),
        ({"time_budget": "1s"}, "time_budget must be a number of seconds"),
    ],
)
def test_arguments(session, arguments, message, mode) -> None:
    refused(kx.ImageError, message, session.explain, IMAGE, **{"patch": 4, "mode": mode, **arguments})


def test_modes(session) -> None:
    for mode, message in [
        ("fast", "mode must be one of naive, exact, approximate, got 'fast'"),
    ]:
        refused(kx.ImageError, message, session.explain, IMAGE, mode=mode)


def test_the_default_patch_on_a_small_image_is_refused_with_its_size() -> None:
    session = kx.OcclusionSession(tiny(3, 10, 12))
    refused(
        kx.ImageError,
        "patch 16 x 16 is larger than the 10 x 12 image",
        session.explain,
        image_of(1, 3, 10, 12),
    )
