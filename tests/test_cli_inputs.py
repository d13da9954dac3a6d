"""What a command reads is never replaced by what it writes, nor taken for something else."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from test_cli_many import COARSE, krypton
from tiny_models import tiny

from krypton_onnx.cli.sources import find
from krypton_onnx.errors import ImageError

MASK = ["--patch-shape", "mask.png"]
PREPARED = ["--preparation", "prep.toml"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of pictures, two of them, and a mask, labels and a preparation."""
    onnx.save(tiny(), tmp_path / "model.onnx")
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate("ab"):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "mask.png")
    (tmp_path / "names.txt").write_text("cat\ndog\nhen\ncow\n")
    (tmp_path / "prep.toml").write_text("mean = [0.5]\nstd = [0.25]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "model.onnx", "photos/a.png", "--patch-shape", "mask.png", "-o", "mask.png"],
        ["explain", "model.onnx", "photos/a.png", *MASK, "-o", "m.png", "--save-spec", "mask.png"],
        ["explain", "model.onnx", "photos/a.png", *PREPARED, "-o", "m.png", "--save-spec", "prep.toml"],
        ["explain", "model.onnx", "photos/a.png", "--preparation", "prep.toml", "--json", "--save-spec", "./prep.toml"],
        ["explain", "model.onnx", "photos/a.png", "-o", "m.png", "--labels", "names.txt", "--save-spec", "names.txt"],
        ["convert", "model.onnx", "-o", "names.txt", "--labels", "names.txt"],
        ["convert", "model.onnx", "-o", "prep.toml", "--preparation", "prep.toml"],
        ["tune", "model.onnx", "photos/a.png", "-o", "prep.toml", "--preparation", "prep.toml"],
        ["tune", "model.onnx", "photos/a.png", "-o", "mask.png", "--preset", "unit", *MASK],
    ],
)
def test_what_is_read_is_never_replaced(folder, arguments):
    before = contents(folder)
    result = krypton(*arguments, code=1)
    assert "it is what is read" in result.stderr and len(result.stderr.splitlines()) == 1
    assert contents(folder) == before


def test_a_mask_in_the_folder_of_the_maps_is_not_replaced(folder):
    (folder / "maps").mkdir()
    (folder / "mask.png").rename(folder / "maps" / "a.png")
    before = contents(folder)
    result = krypton(
        "explain", "model.onnx", "photos", "-o", "maps", "--overwrite", "--patch-shape", "maps/a.png", code=1
    )
    assert "it is what is read" in result.stderr
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "same.json", "--save-spec", "same.json"],
        ["-o", "same.html", "--report", "./same.html"],
    ],
)
def test_two_outputs_never_share_a_file(folder, arguments):
    result = krypton("explain", "model.onnx", "photos/a.png", "--preset", "unit", *COARSE, *arguments, code=2)
    assert "a file of its own" in " ".join(result.stderr.replace("\u2502", " ").split())
    assert not list(folder.glob("same.*"))


def test_maps_do_not_lie_among_the_images(folder):
    for images in ("photos", "photos/*.png"):
        result = krypton("explain", "model.onnx", images, "-o", "photos/", "--preset", "unit", *COARSE, code=1)
        assert "among the images" in result.stderr
    assert sorted(path.name for path in Path("photos").iterdir()) == ["a.png", "b.png"]


def test_links_that_lead_back_up_are_not_followed(folder):
    (folder / "loop" / "deep").mkdir(parents=True)
    (folder / "photos" / "a.png").rename(folder / "loop" / "deep" / "a.png")
    for name in ("one", "two"):
        (folder / "loop" / "deep" / name).symlink_to("..", target_is_directory=True)
    for given in ("loop/**/*.png", "loop", "loop/**", str(folder / "loop" / "**" / "*.png")):
        assert [source.name.as_posix() for source in find([Path(given)])] == ["deep/a"], given


def test_a_name_of_dots_stays_in_the_folder(folder):
    (folder / "photos" / "a.png").rename(folder / "photos" / "..png")
    assert [source.name.as_posix() for source in find([Path("photos/..png")])] == ["..png"]


def test_other_names_of_the_classes_are_not_mixed(folder):
    asked = ["explain", "model.onnx", "photos", "-o", "maps", "--format", "json", "--preset", "unit", *COARSE]
    krypton(*asked, "--labels", "names.txt")
    Path("other.txt").write_text("tom\nrex\nada\nliz\n")
    assert "other --labels" in krypton(*asked, "--labels", "other.txt", code=1).stderr
    krypton(*asked, "--labels", "names.txt")
    krypton(*asked, "--labels", "other.txt", "--overwrite")
    named = json.loads(Path("maps/a.json").read_text())["names"][0]
    assert named.split()[0] in Path("other.txt").read_text().split()


def test_an_array_does_not_depend_on_the_picture_before_it(folder):
    """What is assumed of a picture says nothing of an array."""
    np.save("photos/c.npy", np.zeros((3, 20, 24), np.float32))
    asked = ["explain", "model.onnx", "--fill", "black", *COARSE, "-o"]
    for images, place in ((["photos/a.png", "photos/c.npy"], "one/"), (["photos/c.npy", "photos/a.png"], "other/")):
        result = krypton(*asked, place, *images, code=1)
        assert "c.npy: fill 'black'" in result.stderr
        assert [path.name for path in Path(place).glob("*.png")] == ["a.png"]


def test_a_folder_is_refused_where_it_is_the_one_searched(folder):
    with pytest.raises(ImageError, match="among the images"):
        find([Path("photos")], Path("photos/../photos"))


@pytest.mark.parametrize(
    "outputs", [["-o", "mask.png"], ["-o", "m.png", "--save-spec", "mask.png"], ["-o", "./", "--overwrite"]]
)
def test_the_mask_of_a_specification_is_not_replaced(folder, outputs):
    asked = ["explain", "model.onnx", "photos/a.png", "--preset", "unit", *MASK, "--stride", "8"]
    krypton(*asked, "-o", "m.png", "--save-spec", "how.toml")
    (folder / "photos" / "a.png").rename(folder / "photos" / "mask.png")
    before = contents(folder)
    result = krypton("explain", "--spec", "how.toml", "photos/mask.png", *outputs, code=1)
    assert "it is what is read" in result.stderr
    assert contents(folder) == before


def test_another_mask_over_a_specification_is_taken(folder):
    asked = ["explain", "model.onnx", "photos/a.png", "--preset", "unit", *MASK, "--stride", "8"]
    krypton(*asked, "-o", "m.png", "--save-spec", "how.toml")
    Image.fromarray(np.full((5, 5), 255, np.uint8)).save("mask.png")
    assert "not the mask that was specified" in krypton(
        "explain", "--spec", "how.toml", "photos/a.png", "-o", "n.png", code=1
    ).stderr
    krypton("explain", "--spec", "how.toml", "photos/a.png", "-o", "n.png", "--patch-shape", "mask.png")
