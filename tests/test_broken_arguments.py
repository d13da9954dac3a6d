"""Wrong arguments, by API and command line: one clear line of the right class, nothing written, nothing lost."""

import json
import os
import re
import signal
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from broken_models import SIZE, plain
from PIL import Image
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app

IMAGE = np.random.default_rng(0).standard_normal((1, 2, SIZE, SIZE)).astype(np.float32)
HUGE = 10**30
NAN = float("nan")


@pytest.fixture(scope="module")
def session() -> kx.OcclusionSession:
    return kx.OcclusionSession(plain())


class Odd:
    """Nothing that any argument takes."""

    def __repr__(self) -> str:
        return "an\nodd\x1b[31m thing"


def _raises(*_: object) -> None:
    raise RuntimeError("mine")


ARGUMENTS = {
    "patch": [
        0, -1, 2.5, NAN, HUGE, True, False, (), (3,), (3, 3, 3), (3, 0), (3, -3), (NAN, 3), (True, 3), "4", "",
        None, [], {},
        Odd(), 13, (13, 2), (2, 13), np.array([[3, 3]]), np.float32(2.5), 1 + 2j, b"4", (None, None), [[3], [3]],
    ],
    "stride": [
        0, -1, 1.5, NAN, float("inf"), True, (1, 0), (0, 1), (1, 2, 3), "2", None, Odd(), (1, None), np.zeros(2), -HUGE,
    ],
    "region": [
        (), (0, 0, 9), (0, 0, 9, 9, 9), (0, 0, 13, 12), (0, 0, 12, 13), (-1, 0, 9, 9), (9, 9, 0, 0), (0, 9, 9, 0),
        (5, 5, 5, 5), (0, 0, 0, 0), (0, 0, NAN, 9), (0.5, 0, 9, 9), "0,0,9,9", 5, Odd(), (0, 0, HUGE, HUGE),
        (None,) * 4, (0, 0, 2, 2), np.zeros((4, 4)), {"top": 1},
    ],
    "targets": [
        3, -1, HUGE, -HUGE, True, [True], 1.0, [0.0], NAN, "0", "one", [], (), {}, [0, 0], [0, 1, 0], (2, 3), [[0, 1]],
        [0, "1"], [None], np.array([]), np.array([0.5]), np.array([[1]]), np.array([1, 1]), Odd(), [Odd()], b"0",
        np.array([True, False]), 2**64, [[0], [1, 2]],
    ],
    "fill": [
        NAN, float("inf"), -float("inf"), 1e300, "gray", [1, 2, 3], np.zeros(3), np.zeros((2, 4)),
        np.zeros((1, 2, 4, 4)),
        np.full(2, NAN), None, [[1], [2, 3, 4]], Odd(), {}, "grey", ["mean", "grey"], ["mean", [[1, 2]]],
        ["mean", None],
        ["mean", NAN], "black", ["mean", "black"], np.zeros(0), ["a", "b"], 1 + 2j, HUGE**12,
        lambda *_: None, lambda *_: np.zeros((2, 4, 3)), lambda *_: np.full((2, 4, 4), NAN), lambda *_: "x",
        lambda *_: np.zeros((0, 2, 4, 4)), lambda *_: np.zeros(0), lambda *_: Odd(), lambda *_: [[1], [2, 3]],
    ],
    "score": [
        "", "probability", None, 3, Odd(), np.zeros(3), ["logit"], lambda outputs: None, lambda outputs: 1.0,
        lambda outputs: "x", lambda outputs: np.zeros(3), lambda outputs: np.zeros((7, 3)),
        lambda outputs: np.zeros((1, 0)),
        lambda outputs: outputs["logits"] * NAN, lambda outputs: outputs, lambda outputs: [[1], [2, 3]],
        lambda outputs: Odd(), lambda outputs: np.zeros((1, 3, 1)), lambda outputs: np.full((len(outputs), 3), "a"),
    ],
    "output": ["", "other", 3, Odd(), ["logits"], b"logits"],
    "mode": ["", "fast", "EXACT", None, 3, Odd(), ["exact"]],
    "min_ssim": [0.9],
    "batch_size": [0, -1, 2.5, NAN, "3", Odd(), [1], True],
    "time_budget": [-1, NAN, "5s", Odd(), [1], -float("inf"), 1j],
    "memory_budget": [0, -1, 1, 1.5, NAN, "1 GB", Odd(), True],
    "fill_space": ["pixel", "", "rgb", None, Odd(), ["model"]],
    "fill_samples": [0, -1, 1.5, NAN, HUGE, 257, True, "8", None, Odd()],
    "patch_shape": [
        "", "circle", None, 3, Odd(), [], np.ones(4), np.ones((4, 3)), np.zeros((4, 4)), np.full((4, 4), 2),
        np.full((4, 4), NAN), np.full((4, 4), "a"), [[1], [1, 2]],
    ],
    "seed": [-1, 1.5, NAN, "0", None, Odd(), [1]],
    "progress": ["bar", 3, Odd()],
    "on_update": ["bar", 3, Odd()],
}  # fmt: skip
CASES = [(name, value) for name, values in ARGUMENTS.items() for value in values]


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize("name, value", CASES, ids=lambda value: str(value)[:24] if isinstance(value, str) else None)
def test_arguments(session, name, value, mode):
    with pytest.raises(kx.KryptonError) as raised:
        session.explain(IMAGE, **{"patch": 4, "stride": 4, "mode": mode, name: value})
    message = str(raised.value)
    assert message.isprintable() and 10 < len(message) < 400, message


def test_the_number_of_cases():
    assert len(CASES) >= 150


@pytest.mark.parametrize("min_ssim", [0, -1, 1.1, NAN, float("inf"), "0.9", True, Odd(), [0.9]])
def test_promises_that_cannot_be_kept(session, min_ssim):
    with pytest.raises(kx.ImageError, match="min_ssim must be a number"):
        session.explain(IMAGE, patch=4, mode="approximate", min_ssim=min_ssim)


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize("argument", ["fill", "score", "progress", "on_update"])
def test_what_the_callers_own_function_raises_comes_back_as_it_is(session, argument, mode):
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match=r"^mine$"):
        session.explain(IMAGE, patch=4, stride=4, mode=mode, **{argument: _raises})
    assert threading.active_count() == threads
    assert session.explain(IMAGE, patch=4, stride=4, mode=mode).complete  # and nothing is left behind


def test_a_long_step_is_one_position(session):
    assert session.explain(IMAGE, patch=4, stride=HUGE).scores.shape == (1, 1, 1)


def test_a_score_that_is_not_finite_at_some_positions_is_a_score(session):
    """Only the unoccluded one must be: nothing drops from NaN."""
    seen = []

    def score(outputs):
        seen.append(len(outputs["logits"]))
        return outputs["logits"] if len(seen) == 1 else outputs["logits"] * NAN

    heat_map = session.explain(IMAGE, patch=4, stride=4, score=score)
    assert np.isnan(heat_map.scores).all() and heat_map.complete


@pytest.mark.parametrize(
    "model", [None, 3, 2.5, Odd(), [], {}, "", "\0", "x" * 5000, Path("no/such.onnx"), b"", bytearray(b"x")]
)
def test_models_that_are_none(model, tmp_path):
    for call in (
        lambda: kx.OcclusionSession(model), lambda: kx.inspect(model), lambda: kx.convert(model, tmp_path / "out.onnx"),
    ):  # fmt: skip
        with pytest.raises(kx.ModelError):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path", [None, 3, "", "\0", "x" * 5000, "no/such/folder.onnx", Odd(), "/dev/null", "/dev/full"]
)
def test_places_that_cannot_be_written(path):
    with pytest.raises(kx.KryptonError, match="cannot write"):
        kx.convert(plain(), path)


@pytest.mark.parametrize(
    "shape",
    [(), (1, 2, 12), (1, 2, 0, 12), (1, 2, -3, 12), (1, 2, 2**40, 2**40), (1, 3, 12, 12), "1,2,12,12", 3,
     (1, 2, 12.5, 12), (1, 2, NAN, 12), (None,) * 4, Odd()],
)  # fmt: skip
def test_input_shapes(shape, tmp_path):
    model = plain()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "any"
    for call in (lambda: kx.inspect(model, 4, input_shape=shape), lambda: kx.convert(model, tmp_path / "o", shape)):
        with pytest.raises(kx.KryptonError):
            call()
    assert not list(tmp_path.iterdir())


# -- the command line ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(plain(), tmp_path / "model.onnx")
    np.save(tmp_path / "image.npy", IMAGE)
    (tmp_path / "labels.txt").write_text("only\n")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "picture.png")
    (tmp_path / "read-only").mkdir(mode=0o500)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fails(folder: Path, code: int, *arguments: str) -> str:
    """The last line on stderr of a command that must fail, and leave every file as it was."""
    before = contents(folder)
    with_folder = [argument.replace("@", f"{folder}/") for argument in arguments]
    result = CliRunner().invoke(app, with_folder)
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    assert "Traceback" not in result.output and "please report" not in result.output
    assert result.stdout == ""
    if code == 1:
        assert re.fullmatch(r"krypton-onnx: error: [^\n]+\n", result.stderr), result.stderr
    assert contents(folder) == before
    return result.stderr


EXPLAIN = ("explain", "@model.onnx", "@image.npy", "--patch", "4")
WRONG_OPTIONS = [
    *(["--patch", value] for value in ("0", "-1", "4.5", "nan", "", "a", "4,", "4,4,4", "1e3", "0,4", ",", "4;4")),
    *(["--stride", value] for value in ("0", "-1", "inf", "x", "1,0", "")),
    *(["--fill", value] for value in ("", "grey", "1,,2", "1/0", "1/2/3", "0x10")),
    *(["--fill-space", value] for value in ("", "pixels")), *(["--fill-samples", value] for value in ("0", "x", "257")),
    *(["--patch-shape", value] for value in ("", "elipse")),
    *(["--target", value] for value in ("", " ")),
    *(["--score", value] for value in ("", "probability", "LOGIT")),
    *(["--mode", value] for value in ("", "fast")),
    *(["--time-budget", value] for value in ("", "-1", "5x", "nan", "inf", "s", "-5s")),
    *(["--min-ssim", value] for value in ("2", "-1", "x")),
    *(["--seed", value] for value in ("-1", "x")),
    *(["--input-shape", value] for value in ("", "1,2", "x:1,2,0,3", "1,2,3,x", "a:b:c")),
    *(["--scale", value] for value in ("", "x", "1,2")),
    ["--mean", "x"], ["--std", "1/0"], ["--channel-order", "cmyk"], ["--unheard"],
    *(["--region", value] for value in ("", "1,2,3", "4,0,2,9", "-1,0,2,9", "a,b,c,d", "0,0,4.5,4")),
    ["--top", "0"], ["--top", "2", "--target", "1"], ["--activation", "relu"],
    ["--activation", "softmax", "--score", "margin"], ["--format", "png"], ["--report", "map.txt"], ["--show", "all"],
    ["--extremes", "-1"], ["one", "-o", "map.png"], ["one", "--report", "map.html"], ["one", "--format", "png"],
]  # fmt: skip


@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=" ".join)
def test_options_that_nothing_could_make_right(folder, options):
    fails(folder, 2, *EXPLAIN, "--json", *options)


IMPOSSIBLE = {
    "--patch 13": "larger than the 12 x 12 image",
    "--patch 99999999999999999999": "patch",
    "--fill 1,2,3": "fill of shape",
    "--fill nan": "finite",
    "--fill gray": "give the session a preparation",
    "--fill 127 --fill-space pixel": "give the session a preparation",
    "--fill surroundings --patch 9": "no room for another one",
    "--patch-shape @none.png": "no such file",
    "--patch-shape @labels.txt": "not an image",
    "--patch-shape @picture.png --stride 3": "which hides nothing",
    "--target 3": "out of range",
    "--target one": "is a name, but the classes have none",
    "--target 1.5": "is a name, but the classes have none",
    "--target onyl --labels @labels.txt": "did you mean only (class 0)?",
    "--region 0,0,13,12": "region",
    "--activation softmax --score log-odds --target 5": "out of range",
    "--score log-odds": "--activation",
    "@none.npy": "none.npy: no such file or folder",
    "@read-only": "a folder without images",
    "@*.jpg": "no image is called so",
    "@no/*.jpg": "there is no folder",
    "--target -1": "target",
    "--target 99999999999999999999999": "target",
    "--model-output other": "no such output",
    "--image-input other": "no such",
    "--labels @labels.txt --target 1": "has 1 names and so none for class 1",
    "--labels @none.txt": "no such file",
    "--labels @": "",
    "--labels /dev/zero": "not a regular file",
    "--labels @image.npy": "cannot be read as text",
    "--providers nothing": "not available",
    "--providers ,": "providers",
    "--scale 2": "has no meaning",
    "--input-shape 1,2,9,9": "contradicts",
}


@pytest.mark.parametrize("options", IMPOSSIBLE)
def test_options_that_this_model_and_image_cannot_take(folder, options):
    assert IMPOSSIBLE[options] in fails(folder, 1, *EXPLAIN, "--json", *options.split())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("explain @model.onnx @image.npy --patch 4 -o @none/map.png", "there is no folder"),
        ("explain @model.onnx @image.npy --patch 4 -o @.png", ""),
        ("explain @model.onnx @picture.png --patch 4 -o @picture.png", "it is what is read"),
        ("explain @model.onnx @image.npy --patch 4 --save-spec @model.onnx", ""),
        ("explain @model.onnx @image.npy --patch 4 --json --save-spec @image.npy", "it is what is read"),
        ("convert @model.onnx -o @model.onnx", "it is what is read"),
        ("convert @model.onnx -o @none/out.onnx", "there is no folder"),
        ("convert @model.onnx -o @", "it is a folder"),
        ("convert @model.onnx -o /dev/null", "not a regular file"),
        ("convert @model.onnx -o /dev/full", "not a regular file"),
        ("tune @model.onnx @image.npy -o @image.npy", "it is what is read"),
    ],
)
def test_places_that_commands_cannot_write_to(folder, arguments, message):
    code = 1 if message else 2
    assert message in fails(folder, code, *arguments.split())


def test_a_link_to_what_is_read_is_what_is_read(folder):
    (folder / "link.onnx").symlink_to("model.onnx")
    assert "it is what is read" in fails(folder, 1, "convert", "@model.onnx", "-o", "@link.onnx")
    os.link(folder / "model.onnx", folder / "hard.onnx")
    assert "it is what is read" in fails(folder, 1, "convert", "@hard.onnx", "-o", "@model.onnx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_places_that_may_not_be_written(folder):
    assert "is not writable" in fails(folder, 1, "convert", "@model.onnx", "-o", "@read-only/out.onnx")
    (folder / "out.onnx").write_text("old")
    (folder / "out.onnx").chmod(0o400)
    assert "write-protected" in fails(folder, 1, "convert", "@model.onnx", "-o", "@out.onnx")


def test_commands_without_their_arguments(folder):
    for command in ("explain", "convert", "inspect", "tune"):
        fails(folder, 2, command)
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    fails(folder, 2, "unheard")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_map_that_is_nowhere_finite_is_told(folder, monkeypatch):
    """A model whose score is finite for the image alone: nothing to draw, and one line says so."""
    monkeypatch.setattr(
        kx.OcclusionSession, "explain", _all_nan(kx.OcclusionSession.explain)
    )
    assert "no position" in fails(folder, 1, *EXPLAIN, "-o", "@map.png")
    result = CliRunner().invoke(app, [argument.replace("@", f"{folder}/") for argument in (*EXPLAIN, "--json")])
    assert result.exit_code == 0 and json.loads(result.stdout)["scores"][0][0][0] is None


def _all_nan(explain):
    def wrapped(*arguments, **named):
        heat_map = explain(*arguments, **named)
        heat_map.scores[:] = np.nan
        return heat_map

    return wrapped
