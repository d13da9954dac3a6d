"""How a picture is prepared, as said on the command line: what counts before what, what is assumed, what is stored."""

import json
import re
from functools import cache

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny_models import image_of, tiny
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app
from krypton_onnx.images import prepare_image
from krypton_onnx.images.presets import PRESETS

QUESTION = ["--patch", "6", "--stride", "7", "--target", "1", "--json"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models and images; nothing in it is changed by a test."""
    path = tmp_path_factory.mktemp("preparing")
    onnx.save(tiny(), path / "tiny.onnx")
    onnx.save(tiny(height="H", width="W"), path / "open.onnx")
    onnx.save(tiny(channels=1), path / "grey.onnx")
    kx.convert(tiny(), path / "stored.onnx", preparation="tensorflow", labels=["cat", "dog", "lion", "cup"])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path / "photo.png")
    Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50)).save(path / "deep.png")
    np.save(path / "array.npy", image_of(3, 20, 24))
    (path / "crop.toml").write_text('fit = "crop"\nresize = 30\nstd = [0.5]\n')
    kx.ExplanationSpec(path / "tiny.onnx", preparation=kx.Preparation(mean=(0.3,)), patch=6, stride=7).save(
        path / "spec.toml"
    )
    return path


def krypton(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def explained(folder, model, *arguments, image="photo.png"):
    result = krypton("explain", folder / model, folder / image, *arguments, *QUESTION)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["scores"], result.stderr


@cache
def session_of(path):
    return kx.OcclusionSession(path)


def scores(folder, preparation, model="tiny.onnx", image="photo.png"):
    array = prepare_image(Image.open(folder / image), preparation).array
    return session_of(folder / model).explain(array, targets=1, patch=6, stride=7).to_dict()["scores"]


P = kx.Preparation
SIZE = (20, 24)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "imagenet"], PRESETS["imagenet"].preparation.adapted(3, SIZE, "nchw")),
        (["--preset", "imagenet", "--fit", "stretch", "--resample", "nearest"],
         P(SIZE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resample="nearest")),
        (["--preset", "vgg", "--mean", "100"], P(SIZE, (100.0,), scale=1.0, channel_order="bgr")),
        (["--preparation", "crop.toml"], P(SIZE, std=(0.5,), fit="crop", resize=30)),
        (["--preparation", "crop.toml", "--std", "2", "--resize", "33"], P(SIZE, std=(2.0,), fit="crop", resize=33)),
        (["--preparation", "spec.toml"], P(SIZE, (0.3,))),
        (["--resize", "28", "--scale", "1/255"], P(SIZE, fit="crop", resize=28)),
        (["--fit", "pad", "--scale", "1"], P(SIZE, scale=1.0, fit="pad")),
    ],
)  # fmt: skip
def test_options_over_a_preset_or_a_file(folder, arguments, expected):
    paths = [folder / one if one.endswith(".toml") else one for one in arguments]
    actual, said = explained(folder, "tiny.onnx", *paths)
    np.testing.assert_allclose(actual, scores(folder, expected), atol=1e-6)
    assert said == ""


def test_options_then_the_specification_then_what_is_stored(folder):
    spec = ["--spec", folder / "spec.toml"]
    for arguments, expected in (
        ([], P(SIZE, (1.0,), scale=1 / 127.5)),
        (["--mean", "0.5"], P(SIZE, (0.5,), scale=1 / 127.5)),
        (spec, P(SIZE, (0.3,))),
        ([*spec, "--std", "0.5"], P(SIZE, (0.3,), (0.5,))),
        ([*spec, "--preset", "unit"], P(SIZE)),
        (["--preset", "unit", "--channel-order", "bgr"], P(SIZE, channel_order="bgr")),
    ):
        actual, said = explained(folder, "stored.onnx", *arguments)
        np.testing.assert_allclose(actual, scores(folder, expected), atol=1e-5)
        assert "assumed" not in said


def test_what_nothing_says_is_assumed_with_one_line(folder):
    actual, said = explained(folder, "tiny.onnx")
    assert said == (
        "krypton-onnx: warning: nothing says how the model wants its image; assumed: 24 x 20 px, stretched (bilinear); "
        "RGB; pixel / 255; channels first. Say it by --preset, --preparation, or --scale, --mean and --std; "
        "krypton-onnx convert stores it in the model\n"
    )
    np.testing.assert_allclose(actual, scores(folder, P(SIZE)), atol=1e-6)
    assert explained(folder, "tiny.onnx", "--scale", "1/255") == (actual, "")
    assert explained(folder, "tiny.onnx", "-q") == (actual, "")
    assert "warning: nothing says" in explained(folder, "tiny.onnx", "--channel-order", "bgr")[1]
    assert explained(folder, "tiny.onnx", image="array.npy")[1] == ""
    assert "; grey; pixel / 255" in explained(folder, "grey.onnx")[1]


def test_an_open_size_is_said_by_size_or_left_to_the_picture(folder):
    arguments = ["--scale", "1/255"]
    own = explained(folder, "open.onnx", *arguments)[0]
    np.testing.assert_allclose(own, scores(folder, P(), "open.onnx"), atol=1e-6)
    given = explained(folder, "open.onnx", "--size", "20,24", *arguments)[0]
    np.testing.assert_allclose(given, scores(folder, P(SIZE), "open.onnx"), atol=1e-6)
    assert given == explained(folder, "open.onnx", "--size", "20,24", "--input-shape", "1,3,20,24", *arguments)[0]
    preset = explained(folder, "open.onnx", "--preset", "mnist", "--channel-order", "rgb")[0]
    np.testing.assert_allclose(preset, scores(folder, P((28, 28), (0.1307,), (0.3081,)), "open.onnx"), atol=1e-5)


def test_a_window_of_a_deep_picture(folder):
    actual, _ = explained(folder, "grey.onnx", "--window", "1000,800", "--scale", "1/255", image="deep.png")
    expected = P(SIZE, channel_order="gray", window=(1000, 800))
    np.testing.assert_allclose(actual, scores(folder, expected, "grey.onnx", "deep.png"), atol=1e-6)


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (1, ["tiny.onnx", "photo.png", "--size", "30"],
         "--size 30,30 contradicts the model's input 'image' of batch,3,20,24"),
        (1, ["open.onnx", "photo.png", "--size", "30", "--input-shape", "1,3,20,24"],
         "--size 30,30 contradicts --input-shape 1,3,20,24"),
        (1, ["tiny.onnx", "photo.png", "--preset", "mnist"], "a picture of 1 channel, but the model takes 3"),
        (1, ["grey.onnx", "photo.png", "--preset", "imagenet"], "a picture of 3 channels, but the model takes 1"),
        (1, ["tiny.onnx", "photo.png", "--window", "40,400"], "its pixels have 8 bits"),
        (1, ["tiny.onnx", "photo.png", "--preparation", "none.toml"], "none.toml: no such file"),
        (1, ["tiny.onnx", "array.npy", "--preset", "unit"], "an array is taken as it is, so --preset or --preparation"),
        (1, ["tiny.onnx", "array.npy", "--fit", "crop"], "an array is taken as it is, so --fit has no meaning"),
        (2, ["tiny.onnx", "photo.png", "--preset", "imagnet"], "did you mean imagenet?"),
        (2, ["tiny.onnx", "photo.png", "--preset", "unit", "--preparation", "crop.toml"], "both say how"),
        (2, ["tiny.onnx", "photo.png", "--window", "40"], "'40' is not the centre and the width of a window"),
        (2, ["tiny.onnx", "photo.png", "--window", "40,0"], "the width above 0"),
        (2, ["tiny.onnx", "photo.png", "--fit", "squash"], "'squash'"),
        (2, ["tiny.onnx", "photo.png", "--size", "0"], "--size"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(folder, code, arguments, message):
    paths = [folder / one if one.endswith((".onnx", ".png", ".npy", ".toml")) else one for one in arguments]
    result = krypton("explain", *paths, *QUESTION)
    assert result.exit_code == code and result.stdout == "", result.output
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


# -- stored in the model -----------------------------------------------------------------------------------------------


def test_convert_stores_and_inspect_shows(folder, tmp_path):
    output = tmp_path / "rewritten.onnx"
    (tmp_path / "names.json").write_text('{"0": "cat", "1": "dog", "2": "lion", "3": "cup"}')
    result = krypton("convert", folder / "tiny.onnx", "-o", output, "--preset", "imagenet", "--resample", "bicubic",
                     "--labels", tmp_path / "names.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = [
        "stored, how the model wants its image: shorter side to 27 px, centre 24 x 20 px (bicubic); RGB; "
        "(pixel / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225); channels first",
        "stored, the names of 4 classes, 'cat' to 'cup'",
    ]
    assert all(line in result.stdout.splitlines() for line in lines)
    shown = krypton("inspect", output)
    assert all(line in shown.stdout.splitlines() for line in lines)
    values = json.loads(krypton("inspect", output, "--json").stdout)
    assert values["labels"] == ["cat", "dog", "lion", "cup"] and values["preparation"]["resize"] == 27
    assert json.loads(krypton("inspect", folder / "tiny.onnx", "--json").stdout)["preparation"] is None
    assert "stored" not in krypton("inspect", folder / "tiny.onnx").stdout


def test_convert_adds_to_a_rewritten_model_in_place(folder, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes((folder / "stored.onnx").read_bytes())
    assert krypton("convert", path, "-o", path, "--preparation", folder / "crop.toml", "-q").exit_code == 0
    session = kx.OcclusionSession(path)
    assert session.preparation == P(SIZE, std=(0.5,), fit="crop", resize=30) and session.labels[1] == "dog"
    assert krypton("convert", path, "-o", path, "--mean", "0.2", "-q").exit_code == 0  # of what is stored, this changes
    assert kx.OcclusionSession(path).preparation == P(SIZE, (0.2,), (0.5,), fit="crop", resize=30)
    refused = krypton("convert", path, "-o", path)
    assert refused.exit_code == 1 and "rewritten already" in refused.stderr
    refused = krypton("convert", path, "-o", path, "--labels", folder / "crop.toml")
    assert refused.exit_code == 1 and "there are 3 labels, but the model has 4 classes" in refused.stderr
    assert kx.OcclusionSession(path).labels == session.labels
    assert krypton("convert", path, "-o", path, "--preset", "unit", "-q").exit_code == 0
    assert kx.OcclusionSession(path).preparation == P(SIZE)


def test_tune_stores_how_its_pictures_were_prepared(folder, tmp_path):
    path = tmp_path / "tuned.onnx"
    arguments = ["--patch", "4", "--stride", "1", "--min-ssim", "0.5", "-q"]
    result = krypton("tune", folder / "tiny.onnx", folder / "photo.png", "-o", path, "--preset", "imagenet", *arguments)
    assert result.exit_code == 0, result.output
    session = kx.OcclusionSession(path)
    assert session.tuning is not None
    assert session.preparation == PRESETS["imagenet"].preparation.adapted(3, SIZE, "nchw")
    values = krypton("explain", path, folder / "photo.png", "--mode", "approximate", "--json", *arguments[:4])
    assert values.exit_code == 0 and "assumed" not in values.stderr, values.output


def test_a_replay_prepares_alike(folder, tmp_path):
    arguments = ["--preset", "imagenet", "--save-spec", tmp_path / "spec.toml"]
    first, _ = explained(folder, "tiny.onnx", *arguments)
    again = krypton("explain", "--spec", tmp_path / "spec.toml", folder / "photo.png", "--json")
    assert again.exit_code == 0 and again.stderr == "" and json.loads(again.stdout)["scores"] == first
    text = (tmp_path / "spec.toml").read_text()
    assert 'fit = "crop"' in text and "resize = 27" in text
