"""Outputs are whole or not at all: a full disk, Ctrl-C, kill -9, and two writers at once."""

import errno
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from broken_models import SIZE, plain
from matplotlib.figure import Figure
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app
from krypton_onnx.errors import KryptonError
from krypton_onnx.files import atomic_write

IMAGE = np.random.default_rng(0).standard_normal((1, 2, SIZE, SIZE)).astype(np.float32)
ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(plain(), tmp_path / "model.onnx")
    np.save(tmp_path / "image.npy", IMAGE)
    return tmp_path


def commands(folder: Path) -> dict[str, list[str]]:
    """Commands that write a file, with a map of so many positions that there is time to interrupt it."""
    model, image = str(folder / "model.onnx"), str(folder / "image.npy")
    return {
        "convert": ["convert", model, "-o", str(folder / "out.onnx")],
        "explain": ["explain", model, image, "--patch", "4", "--stride", "1", "-o", str(folder / "out.png")],
    }


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_of(write):
    """A writer that writes what it should and then finds the disk full, as the last block may."""

    def wrapped(first, path, *arguments, **named):
        write(first, path, *arguments, **named)
        full()

    return wrapped


@pytest.mark.parametrize("command", ["convert", "explain"])
@pytest.mark.parametrize("when", ["while it is written", "when it is flushed", "when it is renamed"])
@pytest.mark.parametrize("old", [b"what was there", None])
def test_a_full_disk(folder, monkeypatch, command, when, old):
    arguments = commands(folder)[command]
    output = Path(arguments[-1])
    if old is not None:
        output.write_bytes(old)
    before = sorted(os.listdir(folder))
    if when == "while it is written":
        monkeypatch.setattr(onnx, "save", half_of(onnx.save))
        monkeypatch.setattr(Figure, "savefig", half_of(Figure.savefig))
    elif when == "when it is flushed":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(os, "replace", full)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert re.fullmatch(r"krypton-onnx: error: cannot write [^\n]+: No space left on device\n", result.stderr)
    assert sorted(os.listdir(folder)) == before
    assert (output.read_bytes() if output.exists() else None) == old


def program(*arguments: str, **named) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "krypton_onnx", *arguments], cwd=ROOT, text=True, stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE, **named},
    )  # fmt: skip


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_standard_output_on_a_full_disk(folder):
    arguments = ["explain", str(folder / "model.onnx"), str(folder / "image.npy"), "--patch", "4", "--json"]
    with open("/dev/full", "w") as device:
        process = program(*arguments, stdout=device)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and errors == "krypton-onnx: error: No space left on device\n"


def test_files_that_may_not_grow(folder):
    """The system's own limit, wherever in the writing it strikes: whole or nothing, also of what lies between."""
    arguments = commands(folder)["convert"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    whole = Path(arguments[-1]).read_bytes()
    for limit in (len(whole) // 2, len(whole) - 1):
        process = program(
            *arguments, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        )
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 1 and output == "", errors
        assert re.fullmatch(r"krypton-onnx: error: [^\n]+: File too large\n", errors), errors
        assert Path(arguments[-1]).read_bytes() == whole
        assert sorted(os.listdir(folder)) == ["image.npy", "model.onnx", "out.onnx"]


# -- Ctrl-C --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["convert", "explain"])
def test_ctrl_c_at_any_point(folder, command):
    arguments = commands(folder)[command]
    began = time.perf_counter()
    assert program(*arguments).wait(timeout=120) == 0
    seconds = time.perf_counter() - began
    output = Path(arguments[-1])
    whole = output.read_bytes()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        output.unlink(missing_ok=True)
        process = program(*arguments)
        time.sleep(seconds * share)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        # A signal that comes while Python itself starts or ends kills it, which shells show as 130 too.
        assert process.returncode in (0, 130, -signal.SIGINT), (share, process.returncode, errors)
        assert "Traceback" not in errors or "krypton_onnx" not in errors, (share, errors)
        left = sorted(os.listdir(folder))
        assert left in (["image.npy", "model.onnx"], sorted(["image.npy", "model.onnx", output.name])), left
        assert not output.exists() or len(output.read_bytes()) == len(whole)


@pytest.mark.parametrize(
    "place", ["krypton_onnx.rewriter.load.onnx.load", "onnx.save", "os.fsync", "os.replace"]
)
def test_ctrl_c_in_convert(folder, monkeypatch, place):
    _interrupted(folder, monkeypatch, "convert", place)


@pytest.mark.parametrize(
    "place",
    [
        "krypton_onnx.images.reading.np.load", "krypton_onnx.runtime.session.load_model",
        "krypton_onnx.runtime.engine.Engine.materialize", "krypton_onnx.runtime.heat_map.HeatMap.plot",
        "matplotlib.figure.Figure.savefig", "os.fsync",
    ],
)  # fmt: skip
def test_ctrl_c_in_explain(folder, monkeypatch, place):
    _interrupted(folder, monkeypatch, "explain", place)


def _interrupted(folder: Path, monkeypatch, command: str, place: str) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    result = CliRunner().invoke(app, commands(folder)[command])
    assert result.exit_code == 130, (result.output, result.exception)
    assert "Traceback" not in result.output and result.stdout == ""
    assert sorted(os.listdir(folder)) == ["image.npy", "model.onnx"]


# -- kill -9 -------------------------------------------------------------------------------------------------

_WRITER = """
import sys
from krypton_onnx.files import atomic_write
path, size = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
for number in range(10**9):
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        for _ in range(64):
            file.write(bytes([number % 251]) * (size // 64))
"""


def test_kill_9_leaves_the_old_file_or_the_new_one(tmp_path):
    """At random moments of a process that does nothing but write."""
    path, size = tmp_path / "out.bin", 1 << 20
    moments = random.Random(0)
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(size)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(moments.uniform(0.02, 0.12))
        process.kill()
        process.communicate()
        if path.exists():
            content = path.read_bytes()
            assert len(content) == size and len(set(content)) == 1, "half a file"
    assert path.exists()
    left = [name for name in os.listdir(tmp_path) if name != path.name]
    assert all(re.fullmatch(r"\.out-[0-9a-f]{12}\.bin", name) for name in left), left  # hidden, and never read


@pytest.mark.parametrize("command", ["convert", "explain"])
def test_kill_9_of_a_command(folder, command):
    arguments = commands(folder)[command]
    output = Path(arguments[-1])
    output.write_bytes(b"old")
    began = time.perf_counter()
    process = program(*arguments)
    while output.read_bytes() == b"old" and process.poll() is None:  # until it has written
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    assert process.wait(timeout=60) == 0
    whole = len(output.read_bytes())
    for share in (0.6, 0.9, 0.97, 1.0):
        output.write_bytes(b"old")
        process = program(*arguments)
        time.sleep(seconds * share)
        process.kill()
        process.communicate()
        assert len(output.read_bytes()) in (3, whole)


def test_what_killed_writers_left_is_removed_once_it_is_old(tmp_path):
    old, young, other = (tmp_path / f".{name}-0123456789ab.png" for name in ("map", "map", "other"))
    young = young.with_name(".map-ba9876543210.png")
    similar = tmp_path / ".map-notes.png"
    for path in (old, young, other, similar):
        path.write_text("left")
    for path in (old, other, similar):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    with atomic_write(tmp_path / "map.png") as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted([young.name, other.name, similar.name, "map.png"])


def test_writers_at_once_write_one_after_another(tmp_path):
    """The last one wins, whole."""

    def write(number: int) -> None:
        for _ in range(20):
            with atomic_write(tmp_path / "out") as temporary:
                temporary.write_text(str(number) * 5000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = (tmp_path / "out").read_text()
    assert len(content) == 5000 and len(set(content)) == 1
    assert os.listdir(tmp_path) == ["out"]


def test_a_model_is_never_converted_onto_itself(folder):
    before = (folder / "model.onnx").read_bytes()
    with pytest.raises(KryptonError, match="it is what is read"):
        kx.convert(folder / "model.onnx", folder / "model.onnx")
    assert (folder / "model.onnx").read_bytes() == before
