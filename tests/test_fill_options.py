"""Fills and patch shapes in specifications and on the command line: what is written is what is computed."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny_models import image_of, tiny
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app, options
from krypton_onnx.mask_files import read_mask

IMAGE = image_of(3, 20, 24)
MASK = (np.random.default_rng(0).uniform(size=(5, 4)) * 255).astype(np.uint8)
ASKED = {"patch": (5, 4), "stride": (6, 7)}


@pytest.fixture
def folder(tmp_path) -> Path:
    onnx.save(tiny(), tmp_path / "tiny.onnx")
    np.save(tmp_path / "image.npy", IMAGE)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    return tmp_path


def krypton(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def printed(*arguments: object) -> dict:
    result = krypton(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(code: int, *arguments: object) -> str:
    result = krypton(*arguments, "--json")
    assert result.exit_code == code and result.stdout == "", result.output
    return " ".join(result.stderr.replace("│", " ").split())


# -- in a specification ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fill, kept",
    [
        ("mean", "mean"),
        (["black"], "black"),
        (["black", 0.5, np.array([1, 2])], ("black", 0.5, (1.0, 2.0))),
        ([[0.5, 0.4], 0], ((0.5, 0.4), 0.0)),
        ([[0.5, 0.4]], (0.5, 0.4)),
        ([0.5, 0.4], (0.5, 0.4)),
    ],
)
def test_fills_are_kept_and_written(folder, fill, kept) -> None:
    spec = kx.ExplanationSpec(
        folder / "tiny.onnx", fill=fill, fill_space="pixel", fill_samples=5, patch_shape="ellipse"
    )
    assert spec.fill == kept and hash(spec) == hash(dataclasses.replace(spec))
    read = kx.ExplanationSpec.from_toml(spec.to_toml())
    assert read == spec and read.fill == kept
    assert kx.ExplanationSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    table = tomllib.loads(spec.to_toml())["occlusion"]
    assert (table["fill_space"], table["fill_samples"], table["patch_shape"]) == ("pixel", 5, "ellipse")


def test_an_older_specification_is_one_of_numbers_and_rectangles(folder) -> None:
    text = f"format = 1\n[model]\npath = '{folder / 'tiny.onnx'}'\n[occlusion]\nfill = 0.25\n"
    spec = kx.ExplanationSpec.from_toml(text)
    assert (spec.fill, spec.fill_space, spec.fill_samples, spec.patch_shape) == (0.25, "model", 8, "rectangle")


@pytest.mark.parametrize(
    "line, message",
    [
        ("fill = 'grey'", "[occlusion] fill must be a finite number, or one a channel, or mean, black, white, gray"),
        ("fill = 'blak'", "got 'blak'; did you mean black?"),
        ("fill = ['mean', ['black']]", "[occlusion] fill must be a finite number, or one a channel, got ['black']"),
        ("fill = ['mean', nan]", "fill must be a finite number, or one a channel, got nan"),
        ("fill = [[[1.0]]]", "fill must be a finite number, or one a channel, got [[[1.0]]]"),
        ("fill_space = 'rgb'", "fill_space must be one of model, pixel, got 'rgb'"),
        ("fill_samples = 0", "fill_samples must be an integer of at least 1, got 0"),
        ("fill_samples = 257", "fill_samples must be an integer from 1 to 256, got 257"),
        ("fill_sample = 2", "'fill_sample' is not a key of [occlusion]; did you mean fill_samples?"),
        ("patch_shape = 'elipse'", "patch_shape must be rectangle, ellipse or the path of a mask (.png, .npy), got"),
        ("patch_shape = 'elipse'", "did you mean ellipse?"),
        ("patch_shape = 3", "patch_shape must be rectangle, ellipse or the path of a mask, got 3"),
        ("patch_shape = ''", "patch_shape must be rectangle, ellipse or the path of a mask, got ''"),
    ],
)
def test_reading_is_strict(line, message) -> None:
    with pytest.raises(kx.KryptonError) as raised:
        kx.ExplanationSpec.from_toml(f"format = 1\n[model]\npath = 'm.onnx'\n[occlusion]\n{line}\n")
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_mask_beside_the_file_moves_with_it(folder, tmp_path_factory, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    spec = kx.ExplanationSpec("tiny.onnx", patch_shape=Path("mask.png"), fill="mean", **ASKED)
    assert spec.patch_shape == str(folder / "mask.png")
    spec.save("spec.toml")
    assert tomllib.loads(Path("spec.toml").read_text())["occlusion"]["patch_shape"] == "mask.png"
    moved = tmp_path_factory.mktemp("elsewhere") / "there"
    monkeypatch.chdir("/")
    folder.rename(moved)
    read = kx.ExplanationSpec.load(moved / "spec.toml")
    assert read.patch_shape == str(moved / "mask.png")
    expected = kx.OcclusionSession(tiny()).explain(
        IMAGE, fill="mean", patch_shape=MASK.astype(np.float32) / 255, **ASKED
    )
    np.testing.assert_array_equal(read.explain(IMAGE).scores, expected.scores)


def test_a_replayed_fill_gives_the_same_map(folder) -> None:
    spec = kx.ExplanationSpec(
        folder / "tiny.onnx", fill=("surroundings", "inpaint", (0.1, 0.2, 0.3)), fill_samples=3, seed=4,
        patch_shape="ellipse", **ASKED,
    )  # fmt: skip
    spec.save(folder / "spec.toml")
    expected = kx.OcclusionSession(tiny()).explain(
        IMAGE, fill=["surroundings", "inpaint", [0.1, 0.2, 0.3]], fill_samples=3, seed=4, patch_shape="ellipse", **ASKED
    )
    np.testing.assert_array_equal(kx.ExplanationSpec.load(folder / "spec.toml").explain(IMAGE).scores, expected.scores)
    assert printed("explain", "--spec", folder / "spec.toml", folder / "image.npy") == expected.to_dict()


def test_an_array_cannot_be_written() -> None:
    with pytest.raises(kx.ImageError, match="an array cannot be written to a file; pass it to OcclusionSession"):
        kx.ExplanationSpec("m.onnx", patch_shape=np.ones((16, 16)))


# -- files of masks ----------------------------------------------------------------------------------------------------


def test_masks_are_read_from_pictures_and_arrays(tmp_path) -> None:
    saved = {"grey.png": Image.fromarray(MASK), "rgb.png": Image.fromarray(MASK).convert("RGB")}
    for name, picture in saved.items():
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), MASK.astype(np.float32) / 255)
    Image.fromarray(MASK > 99).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), MASK > 99)
    np.save(tmp_path / "mask.npy", np.eye(3))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.npy"), np.eye(3))


@pytest.mark.parametrize(
    "picture, message",
    [
        (Image.new("RGB", (4, 5), (255, 0, 0)), "a mask is a grey picture, and this one has colours"),
        (Image.new("RGBA", (4, 5), (255, 255, 255, 9)), "a mask is a grey picture of 8 bits, not one of mode RGBA"),
        (Image.new("I;16", (4, 5), 9), "a mask is a grey picture of 8 bits, not one of mode I;16"),
        (Image.new("L", (4, 5)), "the mask is 0 everywhere, which hides nothing"),
    ],
)
def test_what_is_no_mask_is_told_by_the_name_of_its_file(tmp_path, picture, message) -> None:
    picture.save(tmp_path / "mask.png")
    with pytest.raises(kx.ImageError, match=re.escape(message)) as raised:
        read_mask(tmp_path / "mask.png")
    assert str(raised.value).startswith(f"{tmp_path / 'mask.png'}: ")


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texts, fill",
    [
        (None, 0.0),
        ("0.5", 0.5),
        (["1/4"], 0.25),
        (["0.5,0.4,0.4"], (0.5, 0.4, 0.4)),
        (["black"], "black"),
        (["black", "white"], ("black", "white")),
        (["0", "0.5,0.4,0.4", "blur"], ((0.0,), (0.5, 0.4, 0.4), "blur")),
        (["0", "1"], ((0.0,), (1.0,))),
    ],
)
def test_fills_on_the_command_line(texts, fill) -> None:
    assert options.filling(texts) == fill


def test_the_command_line_explains_with_any_fill(folder) -> None:
    session = kx.OcclusionSession(tiny())
    base = ["explain", folder / "tiny.onnx", folder / "image.npy", "--patch", "5,4", "--stride", "6,7"]
    cases = [
        (["--fill", "inpaint"], {"fill": "inpaint"}),
        (["--fill", "0", "--fill", "1", "--patch-shape", "ellipse"], {"fill": [[0], [1]], "patch_shape": "ellipse"}),
        (["--fill", "surroundings", "--fill-samples", "2", "--seed", "3"],
         {"fill": "surroundings", "fill_samples": 2, "seed": 3}),
        (["--patch-shape", folder / "mask.png"], {"patch_shape": MASK.astype(np.float32) / 255}),
    ]  # fmt: skip
    for arguments, asked in cases:
        assert printed(*base, *arguments) == session.explain(IMAGE, **ASKED, **asked).to_dict()


def test_a_mask_gives_the_size_of_the_patch(folder) -> None:
    base = ["explain", folder / "tiny.onnx", folder / "image.npy", "--patch-shape", folder / "mask.png"]
    assert printed(*base)["patch"] == [5, 4]
    message = refused(2, *base, "--patch", 6)
    assert "has 5 x 4 pixels, and --patch is 6 x 6" in message
    # A specification's patch yields to it.
    kx.ExplanationSpec(folder / "tiny.onnx", patch=8, stride=8).save(folder / "spec.toml")
    replay = ["explain", "--spec", folder / "spec.toml", folder / "image.npy", "--patch-shape", folder / "mask.png"]
    assert printed(*replay, "--save-spec", folder / "changed.toml")["patch"] == [5, 4]
    changed = kx.ExplanationSpec.load(folder / "changed.toml")
    assert changed.patch == (5, 4) and changed.stride == (8, 8) and changed.patch_shape == str(folder / "mask.png")


def test_words_and_shapes_that_are_misspelt(folder) -> None:
    base = ["explain", folder / "tiny.onnx", folder / "image.npy"]
    assert "did you mean inpaint?" in refused(2, *base, "--fill", "inpant")
    assert "did you mean ellipse?" in refused(2, *base, "--patch-shape", "elipse")
    assert "no such file" in refused(1, *base, "--patch-shape", folder / "none.png")


def test_a_fill_in_words() -> None:
    for fill, words in ((0.5, "0.5"), ((0.5, 0.4), "0.5,0.4"), ("blur", "blur"), (("black", (0.5,)), "black and 0.5")):
        assert options.fill_words(fill) == words


def test_tune_takes_them_and_says_so(folder) -> None:
    result = krypton(
        "tune", folder / "tiny.onnx", folder / "image.npy", "-o", folder / "tuned.onnx", "--patch-shape",
        folder / "mask.png", "--stride", 1, "--fill", "mean", "--fill", "0.25", "--min-ssim", 0.5,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    words = r"holds for patch 5 x 4 \(mask [0-9a-f]{16}\), stride 1, fill mean and 0\.25, score"
    assert re.search(words, result.stdout)
    held = kx.OcclusionSession(folder / "tuned.onnx").tuning.specification
    assert held.fill == ("mean", (0.25,)) and held.patch == (5, 4)
