"""The command line as a person meets it: what is written, what is printed, how it ends."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES
from graph_builder import Graph
from PIL import Image
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app

# The image of the family `squeezenet`, which most tests explain.
HEIGHT, WIDTH = 59, 51
COARSE = ["--patch", "16,12", "--stride", "12"]
UNIT = ["--scale", "1/255"]  # as by default, but said: what is assumed of a picture is a line of warning


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("squeezenet", "vgg_nhwc", "dynamic_size", "two_outputs"):
        onnx.save(FAMILIES[name](), folder / f"{name}.onnx")
    two = Graph(1, opset=13, ir=8)
    left, right = two.input("left", ["N", 3, 24, 24]), two.input("right", ["N", 3, 24, 24])
    pooled = two.node("GlobalAveragePool", two.conv(two.node("Add", left, right), 4, 3))
    two.node("Flatten", pooled, name="scores")
    onnx.save(two.model({"scores": ["N", 4]}), folder / "two_inputs.onnx")
    (folder / "text.onnx").write_text("this is not an ONNX model")
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("images") / "photo.png"
    Image.fromarray(pixels).resize((100, 80)).save(path)
    return path


def krypton(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def complaint(result) -> str:
    """The one line on stderr of a run that failed because of the model or the image."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"krypton-onnx: error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


# -- approximate maps ----------------------------------------------------------------------------------------

FINE = ["--patch", "8", "--stride", "3"]  # 18 x 15 positions


@pytest.fixture(scope="module")
def tuned(models, photo, tmp_path_factory):
    output = tmp_path_factory.mktemp("tuned") / "tuned.onnx"
    photos = []
    for seed in range(3):
        photos.append(output.with_name(f"photo{seed}.png"))
        Image.open(photo).rotate(37 * seed, expand=True).save(photos[-1])
    result = krypton("tune", models / "squeezenet.onnx", *photos, "-o", output, "--score", "logit", *FINE)
    assert result.exit_code == 0, result.output
    return output, result


def test_tune_writes_a_model_and_says_what_it_found(tuned, photo):
    output, result = tuned
    assert re.search(r"^SSIM [01]\.\d+ expected, [01]\.\d+ the lowest, on 3 images", result.stdout, re.M)
    assert re.search(r"^\d+\.\d times as fast as exact maps", result.stdout, re.M)
    assert "holds for patch 8, stride 3, fill 0, score logit" in result.stdout
    assert "with fewer than 5 images the promise is a weak one" in result.stderr
    assert f"wrote {output}" in result.stdout
    explained = krypton("explain", output, photo, "--mode", "approximate", "--score", "logit", "--json", *FINE)
    assert explained.exit_code == 0, explained.output
    values = json.loads(explained.stdout)
    assert values["mode"] == "approximate" and values["complete"] is True and values["estimated_ssim"] > 0.8
    assert krypton("tune", output, photo, "-o", output, "--score", "logit", "-q", *FINE).exit_code == 0  # once more


def test_an_approximate_map_says_how_good_it_is(models, photo, tmp_path):
    arguments = ["--mode", "approximate", "--score", "logit", "-o", tmp_path / "map.png", *FINE, *UNIT]
    result = krypton("explain", models / "squeezenet.onnx", photo, *arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"positions computed, the others interpolated; estimated SSIM [01]\.\d\d$", result.stdout, re.M)
    assert "not tuned: the setting was chosen on this image" in result.stdout
    assert re.fullmatch(r"krypton-onnx: warning: mode='approximate' without a tuning[^\n]*\n", result.stderr)


def test_a_tuning_for_something_else_is_refused_in_one_line(tuned, photo):
    arguments = ["--mode", "approximate", "--score", "logit", "--json", "--patch", "9", "--stride", "3", *UNIT]
    assert "holds for patch 8 x 8, not 9 x 9" in complaint(krypton("explain", tuned[0], photo, *arguments))


def test_tune_refuses_before_it_computes(models, photo, tmp_path):
    missing = tmp_path / "none.png"
    refused = krypton("tune", models / "squeezenet.onnx", photo, missing, "-o", tmp_path / "t.onnx")
    assert "no such file" in complaint(refused)
    nowhere = krypton("tune", models / "squeezenet.onnx", photo, "-o", tmp_path / "no" / "t.onnx")
    assert "there is no folder" in complaint(nowhere)
    assert krypton("tune", models / "squeezenet.onnx", photo).exit_code == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", ["exact", "approximate"])
def test_a_time_budget_keeps_the_map_as_far_as_it_is(models, photo, tmp_path, mode):
    arguments = ["--time-budget", "1ms", "--mode", mode, "-o", tmp_path / "map.png", "--patch", "8", "--stride", "1"]
    result = krypton("explain", models / "squeezenet.onnx", photo, *arguments)
    assert result.exit_code == 0, result.output
    assert "stopped early by the time budget" in result.stdout
    assert (tmp_path / "map.png").exists()


# -- explain -------------------------------------------------------------------------------------------------


def test_explain_writes_a_picture_and_says_what_it_found(models, photo, tmp_path):
    result = krypton("explain", models / "squeezenet.onnx", photo, "-o", tmp_path / "map.png", *COARSE)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"krypton-onnx: warning: nothing says how the model wants its image; [^\n]*\n", result.stderr)
    assert re.search(r"^class \d+: probability 0\.\d+$", result.stdout, re.M)
    assert re.search(r"where rows \d+ to \d+ and columns \d+ to \d+ are hidden", result.stdout)
    assert "16 positions in " in result.stdout and ", exact" in result.stdout
    assert f"wrote {tmp_path / 'map.png'}" in result.stdout
    with Image.open(tmp_path / "map.png") as picture:
        picture.load()
        assert picture.format == "PNG" and picture.width > 600
    assert os.listdir(tmp_path) == ["map.png"]


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_explain_writes_vector_pictures(models, photo, tmp_path, suffix):
    output = tmp_path / f"map.{suffix}"
    assert krypton("explain", models / "squeezenet.onnx", photo, "-o", output, *COARSE, "-q").output == ""
    assert {"svg": b"<svg", "pdf": b"%PDF"}[suffix] in output.read_bytes()


def test_explain_prints_json_that_equals_the_api(models, photo):
    preparing = ["--scale", "1/127.5", "--mean", "1", "--std", "0.9,1,1.1", "--channel-order", "bgr"]
    arguments = ["--target", 1, "--fill", "0.1,-0.2,0.3", "--score", "logit", "--json", *preparing, *COARSE]
    result = krypton("explain", models / "squeezenet.onnx", photo, *arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    values = json.loads(result.stdout)

    pixels = Image.open(photo).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    image = (np.asarray(pixels)[:, :, ::-1] / 127.5 - 1) / [0.9, 1, 1.1]
    heat_map = kx.OcclusionSession(models / "squeezenet.onnx").explain(
        image.transpose(2, 0, 1).astype(np.float32),
        targets=1,
        patch=(16, 12),
        stride=12,
        fill=np.array([0.1, -0.2, 0.3], np.float32),
        score="logit",
    )
    expected = json.loads(json.dumps(heat_map.to_dict()))
    assert list(values) == list(expected)
    scores = values.pop("scores"), values.pop("baseline")
    np.testing.assert_allclose(scores[0], expected.pop("scores"), atol=1e-5)
    np.testing.assert_allclose(scores[1], expected.pop("baseline"), atol=1e-5)
    assert values == expected
    assert (values["mode"], values["targets"], values["patch"]) == ("exact", [1], [16, 12])


def test_explain_of_a_channels_last_model_and_naive_agree(models, photo):
    arguments = ["explain", models / "vgg_nhwc.onnx", photo, "--json", "--patch", 8, "--stride", 8]
    exact, naive = (
        json.loads(krypton(*arguments, "--target", 0, "--mode", mode).stdout) for mode in ("exact", "naive")
    )
    assert (exact["mode"], naive["mode"]) == ("exact", "naive")
    np.testing.assert_allclose(exact["scores"], naive["scores"], atol=1e-5)
    assert np.ptp(exact["scores"]) > 1e-4


def test_explain_takes_a_prepared_array_as_it_is(models, tmp_path):
    image = np.random.default_rng(1).normal(size=(3, HEIGHT, WIDTH)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    arguments = ["explain", models / "squeezenet.onnx", tmp_path / "image.npy", "--json", *COARSE]
    values = json.loads(krypton(*arguments).stdout)
    scores = kx.OcclusionSession(models / "squeezenet.onnx").run(None, {"data": image[None]})[0][0]
    assert values["targets"] == [int(scores.argmax())]
    assert values["baseline"][0] == pytest.approx(scores.max(), abs=1e-5)
    assert "--mean has no meaning" in complaint(krypton(*arguments, "--mean", 1))


def test_an_open_height_and_width_come_from_the_image_or_from_the_option(models, photo):
    arguments = ["explain", models / "dynamic_size.onnx", photo, "--json", "--patch", 16, "--stride", 16]
    own = json.loads(krypton(*arguments).stdout)
    assert (own["tops"][-1], own["lefts"][-1]) == (64, 80)
    given = json.loads(krypton(*arguments, "--input-shape", "input:1,3,32,48").stdout)
    assert (given["tops"][-1], given["lefts"][-1]) == (16, 32)


def test_labels_name_the_class(models, photo, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"thing {index}" for index in range(20)))
    arguments = ["explain", models / "squeezenet.onnx", photo, "-o", tmp_path / "map.png", *COARSE]
    arguments += ["--labels", tmp_path / "names.txt", "--target", 3]
    assert "thing 3 (class 3): probability" in krypton(*arguments).stdout
    (tmp_path / "names.txt").write_text("only one")
    (tmp_path / "map.png").unlink()
    assert "has 1 names and so none for class 3" in complaint(krypton(*arguments))
    assert not (tmp_path / "map.png").exists()


def test_a_model_of_several_outputs_needs_its_name(models, photo):
    arguments = ["explain", models / "two_outputs.onnx", photo, "--json", *COARSE, *UNIT]
    assert "several outputs" in complaint(krypton(*arguments))
    name = onnx.load(models / "two_outputs.onnx").graph.output[0].name
    assert krypton(*arguments, "--model-output", name).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.onnx", "PHOTO"], "absent.onnx: no such file"),
        (["text.onnx", "PHOTO"], "text.onnx: not an ONNX model"),
        (["squeezenet.onnx", "absent.png"], "absent.png: no such file"),
        (["squeezenet.onnx", "text.onnx"], "text.onnx: not an image"),
        (["two_inputs.onnx", "PHOTO"], "--image-input"),
        (["squeezenet.onnx", "PHOTO", "--image-input", "date"], "'date'"),
        (["squeezenet.onnx", "PHOTO", "--input-shape", "1,3,8,8"], "contradicts"),
        (["squeezenet.onnx", "PHOTO", "--patch", "60"], "patch 60 x 60 is larger than the 59 x 51 image"),
        (["squeezenet.onnx", "PHOTO", "--target", "1000"], "target 1000 is out of range"),
        (
            ["squeezenet.onnx", "PHOTO", "--channel-order", "gray"],
            "a picture of 1 channel, but the model takes 3",
        ),
        (["squeezenet.onnx", "PHOTO", "--mean", "1,2"], "mean has 2 values"),
        (["squeezenet.onnx", "PHOTO", "--fill", "1,2"], "fill"),
        (["squeezenet.onnx", "PHOTO", "--providers", "abacus"], "abacus"),
        (["squeezenet.onnx", "PHOTO", "--labels", "absent.txt"], "absent.txt: no such file"),
    ],
)
def test_what_is_wrong_with_model_or_image_is_one_line_and_nothing_is_written(
    models, photo, tmp_path, arguments, message
):
    paths = [photo if a == "PHOTO" else models / a if "." in a and "," not in a else a for a in arguments]
    paths += UNIT
    output = tmp_path / "map.png"
    output.write_text("the last one")
    assert message in complaint(krypton("explain", *paths, "-o", output))
    assert output.read_text() == "the last one"
    assert os.listdir(tmp_path) == ["map.png"]


def test_an_output_that_cannot_be_written_is_told_before_anything_is_computed(models, photo, tmp_path):
    output = tmp_path / "absent" / "map.png"
    # The model is not even read.
    assert "there is no folder" in complaint(krypton("explain", models / "text.onnx", photo, "-o", output))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a file for the map (-o map.png), or --json, or both"),
        (["-o", "map.bmp"], "does not end in .png, .pdf, .svg"),
        (["--json", "--patch", "0"], "'0' is neither a number of pixels"),
        (["--json", "--patch", "1,2,3"], "'1,2,3' is neither"),
        (["--json", "--stride", "x"], "--stride"),
        (["--json", "--fill", "blak"], "'blak' is neither a number"),
        (["--json", "--scale", "1/0"], "'1/0' is neither a number"),
        (["--json", "--scale", "1,2"], "is not one number"),
        (["--json", "--input-shape", "data:3,8,8"], "an input's name and its four sizes"),
        (["--json", "--input-shape", "a:1,3,8,8", "--image-input", "b"], "--image-input names 'b'"),
        (["--json", "--mode", "quick"], "'quick'"),
        (["--json", "--min-ssim", "0.9"], "only an approximate map"),
        (["--json", "--min-ssim", "2", "--mode", "approximate"], "--min-ssim"),
        (["--json", "--time-budget", "soon"], "is not a time"),
        (["--json", "--time-budget", "-1s"], "is not a time"),
    ],
)
def test_misuse_exits_with_2(models, photo, arguments, message):
    result = krypton("explain", models / "squeezenet.onnx", photo, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    # Rich draws a frame around the message and breaks its lines.
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


# -- convert and inspect -------------------------------------------------------------------------------------


def test_convert_writes_a_model_that_explains_the_same(models, photo, tmp_path):
    output = tmp_path / "rewritten.onnx"
    result = krypton("convert", models / "squeezenet.onnx", "-o", output)
    assert result.exit_code == 0, result.output
    assert os.listdir(tmp_path) == ["rewritten.onnx"]
    assert re.search(r"equal to the original on \d+ occluded images.*largest difference \d\.\de-\d+", result.stdout)
    assert "100.0% of the convolutions' multiply-adds are incremental" in result.stdout
    assert f"wrote {output}" in result.stdout
    maps = [
        json.loads(krypton("explain", model, photo, "--json", *COARSE).stdout)
        for model in (models / "squeezenet.onnx", output)
    ]
    np.testing.assert_allclose(maps[0].pop("scores"), maps[1].pop("scores"), atol=1e-5)
    np.testing.assert_allclose(maps[0].pop("baseline"), maps[1].pop("baseline"), atol=1e-5)
    assert maps[0] == maps[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.onnx"], "absent.onnx: no such file"),
        (["text.onnx"], "text.onnx: not an ONNX model"),
        (["dynamic_size.onnx"], "--input-shape"),
        (["two_inputs.onnx"], "--image-input"),
    ],
)
@pytest.mark.parametrize("command", ["convert", "inspect"])
def test_convert_and_inspect_name_what_they_need(models, tmp_path, command, arguments, message):
    output = ["-o", tmp_path / "out.onnx"] if command == "convert" else []
    assert message in complaint(krypton(command, models / arguments[0], *output))
    assert os.listdir(tmp_path) == []


def test_convert_does_not_write_where_it_cannot(models, tmp_path):
    output = tmp_path / "absent" / "out.onnx"
    assert "there is no folder" in complaint(krypton("convert", models / "squeezenet.onnx", "-o", output))


def test_inspect_shows_every_operator_the_ratio_and_the_end(models):
    result = krypton("inspect", models / "squeezenet.onnx")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    inspection = kx.inspect(models / "squeezenet.onnx")
    assert result.stdout.count(" Conv ") == sum(row.op_type == "Conv" for row in inspection.operators)
    assert f"R = {inspection.redundancy_ratio:.2f}" in result.stdout
    assert f"{inspection.positions} positions" in result.stdout
    assert "the incremental part ends at" in result.stdout
    for reason in inspection.end_reasons:
        assert " ".join(reason.split()) in " ".join(result.stdout.split())


def test_inspect_prints_json(models):
    arguments = ["--json", "--patch", 8, "--input-shape", "input:1,3,40,56"]
    values = json.loads(krypton("inspect", models / "dynamic_size.onnx", *arguments).stdout)
    assert values == json.loads(
        json.dumps(kx.inspect(models / "dynamic_size.onnx", 8, 4, input_shape=(1, 3, 40, 56)).to_dict())
    )
    assert values["redundancy_ratio"] >= 1


# -- the program ---------------------------------------------------------------------------------------------


def test_help_is_quick_and_names_the_commands():
    code = (
        "import sys; from krypton_onnx.cli import app; app(['--help'], standalone_mode=False); "
        "print([name for name in ('onnx', 'onnxruntime', 'numba', 'matplotlib', 'skimage', 'PIL') "
        "if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.rstrip().endswith("[]"), "help imported what it does not need"
    for command in ("explain", "convert", "inspect", "demo"):
        assert re.search(rf"{command} ", printed)


def test_explain_imports_no_drawing_for_json(models, photo):
    code = (
        "import sys; from krypton_onnx.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "assert not {'matplotlib', 'skimage'} & set(sys.modules)"
    )
    arguments = ["explain", str(models / "squeezenet.onnx"), str(photo), "--json", *COARSE]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "krypton_onnx", "--version"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert printed.stdout == f"krypton-onnx {kx.__version__}\n"


def test_ctrl_c_while_a_native_module_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The module says that its initialization failed, because of a KeyboardInterrupt."""

    def stopped(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr("krypton_onnx.inspect", stopped, raising=False)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "model.onnx")])
    assert result.exit_code == 130 and "initialization failed" not in result.output
