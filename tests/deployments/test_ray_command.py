"""`krypton-onnx explain --engine ray`: what it says, what it writes, its exit codes, and Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ray_cases import cut_short
from tolerances import assert_scores_equal
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app

pytest_plugins = ("ray_fixtures",)
pytestmark = pytest.mark.usefixtures("here")

COMMAND = ["explain", "rewritten.onnx", "photos", "-o", "maps", "--engine", "ray", "--preset", "imagenet"]
COARSE = ["--patch", "16", "--stride", "16"]


def krypton(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def plain(text: str) -> str:
    """Of a message in a box its words."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def test_a_folder_is_explained_and_the_same_command_retries_what_failed(on_ray):
    cut_short("photos/cut.jpg")
    result = krypton(*COMMAND, *COARSE, "--workers", "1", "--save-spec", "how.toml", code=1)
    assert "6 of 7 images explained; see maps/" in result.stdout
    assert re.search(r"^photos/000\.jpg: class \d: probability 0\.\d+$", result.stdout, re.M)
    lines = [line for line in result.stderr.splitlines() if "about" not in line]
    assert re.fullmatch(r"krypton-onnx: error: photos/cut\.jpg: the image cannot be read: .*", lines[0])
    assert lines[1:] == ["krypton-onnx: error: 1 of 7 images failed: give the same command again to retry them"]
    session = kx.OcclusionSession("rewritten.onnx", preparation="imagenet")
    for key, heat_map in kx.ray.read("maps"):
        alone = session.explain(key, patch=16, stride=16)
        assert_scores_equal(heat_map.scores, alone.scores, probabilities=True)
    assert kx.ExplanationSpec.load("how.toml") == kx.ExplanationSpec.load("maps/specification.toml")

    Path("photos/cut.jpg").write_bytes(Path("photos/001.jpg").read_bytes())
    Path("photos/000.jpg").write_bytes(Path("photos/002.jpg").read_bytes())  # another image of the same name
    told = json.loads(krypton(*COMMAND, *COARSE, "--json").stdout)
    assert sorted(told["explained"]) == ["photos/000.jpg", "photos/cut.jpg"] and len(told["skipped"]) == 5
    assert told["failed"] == [] and told["output"] == "maps"
    assert krypton(*COMMAND, *COARSE, "-q").output == ""
    assert "0 of 7 images explained, 7 were finished before" in krypton(*COMMAND, *COARSE).stdout
    result = krypton(*COMMAND, "--patch", "8", "--stride", "16", code=1)
    assert "maps: its maps were made by another specification (patch)" in result.stderr and not result.stdout
    assert len(result.stderr.splitlines()) == 1


def test_what_nothing_says_is_warned_of_and_arrays_are_taken_as_they_are(on_ray):
    arguments = ["rewritten.onnx", "photos/000.jpg", "-o", "assumed", "--engine", "ray", *COARSE]
    assert "nothing says how the model wants its image; assumed: " in krypton("explain", *arguments).stderr
    np.save("photos/half.npy", np.load("image.npy") / 2)
    krypton("explain", "rewritten.onnx", "photos/*.npy", "-o", "arrays", "--engine", "ray", *COARSE)
    [(key, heat_map)] = kx.ray.read("arrays")
    alone = kx.OcclusionSession("rewritten.onnx").explain(np.load(key), patch=16, stride=16)
    assert_scores_equal(heat_map.scores, alone.scores, probabilities=True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["photos", "--engine", "ray"], 2, "give a folder for the maps (-o maps/), or the URI of one"),
        (["photos", "-o", "maps", "--engine", "ray", "--format", "png"], 2, "maps of --engine ray are Parquet files"),
        (["photos", "-o", "map.png", "--engine", "ray"], 2, "several images need a folder"),
        (["photos", "-o", "maps", "--engine", "ray", "--extremes", "2"], 2, "is about pictures"),
        (["photos", "-o", "maps", "--engine", "ray", "--workers", "0"], 2, "--workers"),
        (["photos", "-o", "maps", "--workers", "2"], 2, "is about --engine ray"),
        (["photos", "-o", "maps", "--engine", "dask"], 2, "'dask' is not one of local, ray"),
        (["photos/*.tif", "-o", "maps", "--engine", "ray"], 1, "no image is called so"),
        (["s3:/nowhere", "-o", "nosuch://maps", "--engine", "ray"], 1, "s3://nowhere"),
        (["photos", "-o", "labels.txt/maps", "--engine", "ray"], 1, "cannot write to labels.txt/maps: Not a directory"),
        (["photos", "-o", "maps", "--engine", "ray", "--labels", "none.txt"], 1, "none.txt"),
    ],
)
def test_misuse_is_one_clear_message_and_nothing_is_made(arguments, code, message):
    result = krypton("explain", "rewritten.onnx", *arguments, *COARSE, "--preset", "imagenet", code=code)
    assert message in plain(result.stderr) and not result.stdout and not Path("maps").exists()
    if code == 1:
        assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("krypton-onnx: error: ")


def test_a_cluster_that_is_not_there_is_told_in_a_line():
    command = [sys.executable, "-m", "krypton_onnx", *COMMAND, *COARSE, "--address", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done
    assert re.search(r"^krypton-onnx: error: 127\.0\.0\.1:1: Ray cannot be reached: ", done.stderr, re.M)


def test_ctrl_c_ends_a_run_of_its_own_and_the_same_command_goes_on():
    for number in range(24):
        shutil.copy(f"photos/{number % 6:03}.jpg", f"photos/r{number:02}.jpg")
    command = [sys.executable, "-m", "krypton_onnx", *COMMAND, "--workers", "2", "--patch", "5", "--stride", "1"]
    running = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **running, start_new_session=True)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and len(list(Path("maps").glob("maps/*"))) < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, (process.returncode, output, errors)
    assert errors.splitlines()[-1] == "krypton-onnx: error: stopped by Ctrl-C: give the same command again to go on"
    finished = len(dict(kx.ray.read("maps")))
    assert 3 <= finished < 30, "too slow or too fast to be stopped in the middle"
    assert f"{finished} images are finished; see maps/" in output
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done
    assert f"{30 - finished} of 30 images explained, {finished} were finished before" in done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("about ")] == []
    assert len(dict(kx.ray.read("maps"))) == 30
