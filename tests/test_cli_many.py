"""Many images by one command: which are meant, what is written, what fails, and how a second run goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from broken_models import SIZE, plain
from PIL import Image
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app
from krypton_onnx.cli.sources import are_several, find
from krypton_onnx.errors import ImageError

ROOT = Path(__file__).parents[1]
COARSE = ["--patch", "4", "--stride", "4"]


def array(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of arrays, three of them in photos/ and below, and one file there that is no image."""
    onnx.save(plain(), tmp_path / "model.onnx")
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for seed, name in enumerate(("a", "b", "more/a")):
        np.save(tmp_path / "photos" / f"{name}.npy", array(seed))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def krypton(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def explained(*arguments: object, code: int = 0):
    return krypton("explain", "model.onnx", *arguments, *COARSE, code=code)


def written(folder: str = "maps") -> list[str]:
    """Every file in it but the two of its own."""
    paths = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return [path for path in paths if path not in ("specification.toml", "finished.jsonl")]


def calls(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The images that are explained from now on."""
    seen: list[np.ndarray] = []
    explain = kx.OcclusionSession.explain

    def counted(self, image, *arguments, **named):
        seen.append(np.asarray(image))
        return explain(self, image, *arguments, **named)

    monkeypatch.setattr(kx.OcclusionSession, "explain", counted)
    return seen


# -- which images ------------------------------------------------------------------------------------------------------


def names(*given: object, outputs: Path | None = None) -> list[tuple[str, str]]:
    sources = find([Path(str(one)) for one in given], outputs)
    return [(source.path.as_posix(), source.name.as_posix()) for source in sources]


def test_a_folder_stands_for_all_images_below_it(folder):
    assert names("photos") == [
        ("photos/a.npy", "a"), ("photos/b.npy", "b"), ("photos/more/a.npy", "more/a"),
    ]  # fmt: skip
    assert are_several([Path("photos")]) and not are_several([Path("photos/a.npy")])


def test_files_without_suffix_count_where_they_are_dicom(folder):
    (folder / "photos" / "1.2.840.1").write_bytes(bytes(128) + b"DICM and more")
    (folder / "photos" / "1.2.840.2").write_bytes(bytes(200))
    assert ("photos/1.2.840.1", "1.2.840.1") in names("photos") and len(names("photos")) == 4


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.npy", ["a", "b"]),
        ("photos/**/*.npy", ["a", "b", "more/a"]),
        ("photos/[b-z].npy", ["b"]),
        ("phot?s/a.npy", ["photos/a"]),
        ("photos/*", ["a", "b", "more/a"]),
        ("photos/**", ["a", "b", "more/a"]),
        ("photos/*.txt", ["notes.txt"]),
    ],
)
def test_patterns(folder, pattern, expected):
    assert [name for _, name in names(pattern)] == expected
    assert are_several([Path(pattern)])


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder):
    np.save("scan [1].npy", array(0))
    assert names("scan [1].npy") == [("scan [1].npy", "scan [1]")]


def test_hidden_files_outputs_and_images_given_twice_are_left_out(folder):
    (folder / "photos" / ".cache").mkdir()
    np.save(folder / "photos" / ".cache" / "c.npy", array(0))
    np.save(folder / "photos" / ".hidden.npy", array(0))
    assert len(names("photos", "photos/a.npy", "photos/*.npy", folder / "photos" / "b.npy")) == 3
    Path("photos/maps").mkdir()
    Image.new("L", (3, 3)).save("photos/maps/a.png")
    assert len(names("photos", outputs=Path("photos/maps"))) == 3
    assert len(names("photos")) == 4
    assert len(names("photos/more", outputs=Path("photos"))) == 1  # outputs above the images


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["photos/*.jpg"], "no image is called so"),
        (["none/*.jpg"], "there is no folder none"),
        (["photos", "none.png"], "none.png: no such file or folder"),
        (["one.png", "two.png"], "one.png: no such file or folder (and 1 more"),
    ],
)
def test_arguments_that_mean_no_image(folder, given, message):
    with pytest.raises(ImageError) as raised:
        find([Path(one) for one in given])
    assert message in str(raised.value)


def test_names_never_collide(folder):
    for name in ("photos/a.png", "photos/A.jpg", "other/b.npy"):
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = names("photos", "other/b.npy")
    assert dict(found) == {
        "photos/A.jpg": "A.jpg", "photos/a.npy": "a.npy", "photos/a.png": "a.png", "photos/b.npy": "photos/b.npy",
        "photos/more/a.npy": "more/a", "other/b.npy": "other/b.npy",
    }  # fmt: skip
    assert len({name.casefold() for _, name in found}) == len(found)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_every_image_gets_its_files_and_the_same_map_as_alone(folder):
    result = explained("photos", "-o", "maps/new", "--format", "npz", "--format", "json", "--top", "2")
    assert written("maps/new") == ["a.json", "a.npz", "b.json", "b.npz", "more/a.json", "more/a.npz"]
    assert result.stderr == "" and "3 of 3 images explained; see maps/new/" in result.stdout
    for seed, name in enumerate(("a", "b", "more/a")):
        expected = kx.OcclusionSession("model.onnx").explain(array(seed), top=2, patch=4, stride=4)
        assert kx.HeatMap.load(f"maps/new/{name}.npz").to_dict() == expected.to_dict()
        told = json.loads(Path(f"maps/new/{name}.json").read_text())
        assert told["scores"] == expected.to_dict()["scores"] and told["source"] == f"photos/{name}.npy"
        assert f"photos/{name}.npy: class {expected.targets[0]}: output " in result.stdout
    spec = kx.ExplanationSpec.load("maps/new/specification.toml")
    assert spec.top == 2 and spec.model_sha256 is not None
    assert spec.explain("photos/a.npy").to_dict() == kx.HeatMap.load("maps/new/a.npz").to_dict()


def test_pictures_are_the_default_and_one_image_may_have_a_folder_too(folder):
    explained("photos/a.npy", "-o", "maps/", "--show", "score", "--extremes", "1")
    assert written() == ["a.png"]
    Image.open("maps/a.png").verify()
    explained("photos/b.npy", "-o", "maps", "--show", "score", "--extremes", "1")  # which is there now
    assert written() == ["a.png", "b.png"]


def test_json_of_many_is_one_object(folder):
    Path("photos/c.npy").write_text("broken")
    result = explained("photos", "--json", code=1)
    told = json.loads(result.stdout)
    assert [one["source"] for one in told["maps"]] == ["photos/a.npy", "photos/b.npy", "photos/more/a.npy"]
    expected = kx.OcclusionSession("model.onnx").explain(array(1), patch=4, stride=4).to_dict()
    one = told["maps"][1]
    assert {name: one[name] for name in expected} == expected and one["names"] == [f"class {one['targets'][0]}"]
    assert told["failed"] == [
        {"source": "photos/c.npy", "error": "photos/c.npy: not a .npy array of numbers, or cut short, or empty"}
    ]
    assert told["skipped"] == [] and set(os.listdir()) == {"model.onnx", "photos"}


def test_quiet_prints_nothing_but_errors(folder):
    assert explained("photos", "-o", "maps", "-q").output == ""
    Path("photos/c.npy").write_text("broken")
    result = explained("photos", "-o", "maps", "-q", code=1)
    assert result.stdout == "" and len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos"], "give a folder for the maps (-o maps/), or --json"),
        (["photos", "-o", "map.png"], "several images need a folder"),
        (["photos/a.npy", "photos/b.npy", "-o", "map.png"], "several images need a folder"),
        (["photos", "-o", "maps", "--report", "all.html"], "for several give --format html"),
        (["photos", "--json", "--format", "png"], "needs a folder"),
        (["photos/a.npy", "-o", "a.png", "--format", "png"], "of one file the suffix says"),
        (["photos", "-o", "maps", "--format", "bmp"], "'bmp' is not one of png"),
        (["photos/a.npy", "-o", "map"], "does not end in .png"),
    ],
)
def test_misuse_of_many(folder, arguments, message):
    result = explained(*arguments, code=2)
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())
    assert result.stdout == "" and set(os.listdir()) == {"model.onnx", "photos"}


# -- what fails --------------------------------------------------------------------------------------------------------


def test_images_that_fail_are_told_the_rest_goes_on_and_a_second_run_retries_them(folder, monkeypatch):
    np.save("photos/large.npy", np.zeros((2, SIZE + 1, SIZE), np.float32))
    Path("photos/broken.npy").write_text("broken")
    result = explained("photos", "-o", "maps", "--format", "npz", code=1)
    assert written() == ["a.npz", "b.npz", "more/a.npz"]
    lines = result.stderr.splitlines()
    assert all(line.startswith("krypton-onnx: error: ") for line in lines) and len(lines) == 3, lines
    assert "photos/broken.npy: " in lines[0] and "photos/large.npy: " in lines[1]
    assert "2 of 5 images failed: give the same command again to retry them" in lines[2]
    assert "3 of 5 images explained" in result.stdout

    np.save("photos/broken.npy", array(3))
    seen = calls(monkeypatch)
    result = explained("photos", "-o", "maps", "--format", "npz", code=1)
    assert written() == ["a.npz", "b.npz", "broken.npz", "more/a.npz"] and len(seen) == 1
    assert "1 of 5 images failed" in result.stderr
    assert "1 of 5 images explained, 3 were finished before" in result.stdout


def test_an_error_of_ours_at_one_image_does_not_end_the_others(folder, monkeypatch):
    explain = kx.OcclusionSession.explain

    def fails(self, image, *arguments, **named):
        if np.array_equal(np.asarray(image).ravel(), array(0).ravel()):
            raise ZeroDivisionError("a mistake")
        return explain(self, image, *arguments, **named)

    monkeypatch.setattr(kx.OcclusionSession, "explain", fails)
    result = explained("photos", "-o", "maps", code=1)
    assert "photos/a.npy: an error of krypton-onnx itself (ZeroDivisionError: a mistake)" in result.stderr
    assert written() == ["b.png", "more/a.png"]


def test_a_broken_model_is_told_once_and_nothing_is_made(folder):
    Path("model.onnx").write_text("broken")
    result = explained("photos", "-o", "maps", code=1)
    assert re.fullmatch(r"krypton-onnx: error: [^\n]*model.onnx: not an ONNX model[^\n]*\n", result.stderr)
    assert not Path("maps").exists()


def test_a_full_disk_ends_the_run(folder, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = explained("photos", "-o", "maps", code=1)
    assert re.fullmatch(r"krypton-onnx: error: cannot write [^\n]+: No space left on device\n", result.stderr)
    assert written() == []


# -- going on ----------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_computed_again(folder, monkeypatch):
    explained("photos", "-o", "maps", "--format", "npz")
    before = {name: Path("maps", name).stat().st_mtime_ns for name in written()}
    seen = calls(monkeypatch)
    result = explained("photos", "-o", "maps", "--format", "npz")
    assert not seen and "0 of 3 images explained, 3 were finished before" in result.stdout
    assert {name: Path("maps", name).stat().st_mtime_ns for name in written()} == before
    np.save("photos/b.npy", array(7))  # another image of the same name
    Path("maps/a.npz").unlink()
    explained("photos", "-o", "maps", "--format", "npz")
    assert len(seen) == 2
    expected = kx.OcclusionSession("model.onnx").explain(array(7), patch=4, stride=4)
    assert kx.HeatMap.load("maps/b.npz").to_dict() == expected.to_dict()
    explained("photos", "-o", "maps", "--format", "npz", "--format", "json")  # one more file of each
    assert "a.json" in written()


def test_a_record_cut_short_costs_one_image(folder, monkeypatch):
    explained("photos", "-o", "maps", "--format", "npz")
    record = Path("maps/finished.jsonl")
    record.write_bytes(record.read_bytes()[:-20])
    seen = calls(monkeypatch)
    explained("photos", "-o", "maps", "--format", "npz")
    assert len(seen) == 1
    explained("photos", "-o", "maps", "--format", "npz")
    assert len(seen) == 1 and len(record.read_bytes().splitlines()) == 4


def test_another_specification_is_refused_unless_all_is_made_anew(folder, monkeypatch):
    explained("photos", "-o", "maps", "--format", "npz")
    for arguments, message in (
        (["--fill", "1"], "made by another specification (fill)"),
        (["--score", "margin", "--target", "1"], "made by another specification (score, targets)"),
        (["--show", "score"], "drawn with another --show"),
    ):
        result = explained("photos", "-o", "maps", "--format", "npz", *arguments, code=1)
        assert message in result.stderr and "--overwrite" in result.stderr and len(result.stderr.splitlines()) == 1
    moved = Path("moved.onnx")
    moved.write_bytes(Path("model.onnx").read_bytes())
    # The same model elsewhere, with less memory.
    krypton("explain", "moved.onnx", "photos", "-o", "maps", "--format", "npz", "--max-memory", "8GiB", *COARSE)
    other = onnx.load("model.onnx")
    other.producer_name = "somebody else"
    onnx.save(other, "model.onnx")
    assert "specification (model)" in explained("photos", "-o", "maps", "--format", "npz", code=1).stderr
    seen = calls(monkeypatch)
    explained("photos", "-o", "maps", "--format", "npz", "--fill", "1", "--overwrite")
    assert len(seen) == 3 and kx.ExplanationSpec.load("maps/specification.toml").fill == 1
    expected = kx.OcclusionSession("model.onnx").explain(array(0), patch=4, stride=4, fill=1)
    assert kx.HeatMap.load("maps/a.npz").to_dict() == expected.to_dict()


def test_files_of_others_are_never_replaced(folder):
    Path("maps").mkdir()
    Path("maps/b.png").write_text("mine")
    result = explained("photos", "-o", "maps", code=1)
    assert "maps/b.png is there, and was not written by this command" in result.stderr
    assert Path("maps/b.png").read_text() == "mine" and os.listdir("maps") == ["b.png"]
    Path("maps/b.png").unlink()
    Path("maps/notes.txt").write_text("mine")  # of another name
    explained("photos", "-o", "maps")
    Path("file").write_text("no folder")
    assert "it is no folder" in explained("photos", "-o", "file", code=1).stderr
    Image.new("L", (SIZE, SIZE)).save("photos/a.png")
    assert "it is what is read" in explained("photos/a.png", "photos/b.npy", "-o", "photos", code=1).stderr


def program(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "krypton_onnx", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_in_the_middle_goes_on(folder, number):
    for seed in range(60):
        np.save(f"photos/{seed:02}.npy", array(seed))
    arguments = ["explain", "model.onnx", "photos", "-o", "maps", "--format", "npz", "--patch", "3", "--stride", "1"]
    process = program(*arguments)
    while len(list(Path("maps").glob("[!.]*.npz"))) < 3 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    whole = [path for path in Path("maps").rglob("*.npz") if not path.name.startswith(".")]
    assert 3 <= len(whole) < 63, "too slow or too fast to be stopped in the middle"
    for path in whole:
        assert kx.HeatMap.load(path).complete  # none is half written, or of half a map
    if number == signal.SIGINT:
        assert process.returncode == 130 and "stopped by Ctrl-C: give the same command again to go on" in errors
        assert "Traceback" not in errors
    result = krypton(*arguments)
    done = re.search(r"(\d+) of 63 images explained, (\d+) were finished before", result.stdout)
    assert done is not None and int(done[1]) + int(done[2]) == 63 and int(done[2]) in (len(whole), len(whole) - 1)
    assert len([name for name in written() if name.endswith(".npz") and not name.startswith(".")]) == 63
    alone = kx.OcclusionSession("model.onnx").explain(array(41), patch=3, stride=1)
    np.testing.assert_array_equal(kx.HeatMap.load("maps/41.npz").scores, alone.scores)


def test_ctrl_c_writes_no_half_map_and_json_is_not_cut(folder, monkeypatch):
    explain = kx.OcclusionSession.explain
    seen = calls(monkeypatch)

    def interrupted(self, image, *arguments, **named):
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(np.asarray(image))
        return explain(self, image, *arguments, **named)

    monkeypatch.setattr(kx.OcclusionSession, "explain", interrupted)
    result = explained("photos", "-o", "maps", "--json", code=130)
    assert result.stdout == "" and written() == ["a.png"]
    assert "stopped by Ctrl-C: give the same command again to go on" in result.stderr


# -- tune takes many too -----------------------------------------------------------------------------------------------


def test_tune_takes_folders_and_patterns_and_refuses_its_own_model_at_once(folder, monkeypatch):
    seen: list[int] = []
    monkeypatch.setattr(kx, "tune", lambda session, images, *_, **__: seen.append(len(images)) or 1 / 0)
    for given in (["photos"], ["photos/**/*.npy"]):
        krypton("tune", "model.onnx", *given, "-o", "tuned.onnx", *COARSE, code=1)
    assert seen == [3, 3]
    result = krypton("tune", "model.onnx", "photos", "-o", "model.onnx", *COARSE, code=1)
    assert "it is what is read" in result.stderr and seen == [3, 3]
