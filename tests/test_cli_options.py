"""What the options of `explain` and `bench` do, what the shell completes, and what is suggested."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from broken_models import SIZE, plain
from PIL import Image
from tolerances import assert_scores_equal
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app
from krypton_onnx.cli.grouping import grouped
from krypton_onnx.cli.measuring import Measured, Measurement
from krypton_onnx.cli.progress import Bar, Estimate, duration

ROOT = Path(__file__).parents[1]
COARSE = ["--patch", "4", "--stride", "4"]
IMAGE = np.random.default_rng(0).standard_normal((2, SIZE, SIZE)).astype(np.float32)
LABELS = ("tabby, tabby cat", "tiger cat", "espresso")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(plain(), tmp_path / "model.onnx")
    np.save(tmp_path / "image.npy", IMAGE)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def krypton(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def explained(*arguments: object) -> dict:
    return json.loads(krypton("explain", "model.onnx", "image.npy", "--json", *COARSE, *arguments).stdout)


def direct(**arguments: object) -> dict:
    return kx.OcclusionSession("model.onnx").explain(IMAGE, patch=4, stride=4, **arguments).to_dict()


# -- which classes, where, of which score ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--top", "2"], {"top": 2}),
        (["--target", "2", "--target", "0"], {"targets": (2, 0)}),
        (["--labels", "labels.txt", "--target", "Tabby Cat", "--target", "espresso"], {"targets": (0, 2)}),
        (["--labels", "labels.txt", "--target", "tiger_cat", "--target", "2"], {"targets": (1, 2)}),
        (["--region", "2,0,12,8"], {"region": (2, 0, 12, 8)}),
        (["--activation", "softmax"], {"activation": "softmax"}),
        (["--activation", "sigmoid", "--score", "log-odds"], {"activation": "sigmoid", "score": "log-odds"}),
    ],
)
def test_options_are_the_arguments_of_the_api(folder, options, arguments):
    told, expected = explained(*options), direct(**arguments)
    assert told == expected and len(np.unique(told["scores"])) > 1


def test_classes_are_called_as_the_labels_in_the_model_say(folder):
    krypton("convert", "model.onnx", "-o", "ready.onnx", "--labels", "labels.txt", "-q")
    result = krypton("explain", "ready.onnx", "image.npy", "--target", "tiger", "-o", "map.png", *COARSE)
    assert re.search(r"^tiger cat \(class 1\): output -?\d", result.stdout, re.M)
    result = krypton("explain", "ready.onnx", "image.npy", "--target", "tigre cat", "-o", "map.png", *COARSE, code=1)
    assert "--target: no class is called 'tigre cat'; did you mean tiger cat (class 1)" in result.stderr


def test_given_options_replace_what_stands_against_them_in_a_specification(folder):
    explained("--top", "2", "--save-spec", "top.toml")
    explained("--activation", "softmax", "--save-spec", "soft.toml")
    for spec, options, arguments in (
        ("top.toml", ["--target", "1"], {"targets": 1}),
        ("soft.toml", ["--top", "3"], {"top": 3, "activation": "softmax"}),
        ("soft.toml", ["--score", "margin"], {"score": "margin"}),
    ):
        told = json.loads(krypton("explain", "image.npy", "--spec", spec, "--json", *options).stdout)
        assert told == direct(**arguments)


def test_with_a_specification_a_first_argument_is_the_model_where_it_ends_in_onnx(folder):
    krypton("explain", "model.onnx", "image.npy", "--json", "--save-spec", "how.toml", *COARSE)
    np.save("other.npy", IMAGE + 1)
    told = json.loads(krypton("explain", "--spec", "how.toml", "image.npy", "other.npy", "--json").stdout)
    assert [one["source"] for one in told["maps"]] == ["image.npy", "other.npy"]
    assert json.loads(krypton("explain", "model.onnx", "image.npy", "--spec", "how.toml", "--json").stdout) == direct()
    for arguments in (["--spec", "how.toml", "--json"], ["model.onnx", "--spec", "how.toml", "--json"], ["model.onnx"]):
        assert "give the" in krypton("explain", *arguments, code=2).stderr
    usage = re.search(r"Usage: .*", krypton("explain", "--help").stdout)
    assert usage is not None and "[MODEL]" in usage[0]


# -- what is written and told ------------------------------------------------------------------------------------------


def test_a_file_is_what_its_suffix_says_and_the_report_comes_with_it(folder):
    for name in ("map.png", "map.svg", "map.pdf", "map.npz", "map.json", "map.html"):
        result = krypton("explain", "model.onnx", "image.npy", "-o", name, *COARSE)
        assert f"wrote {name}" in result.stdout
    assert kx.HeatMap.load("map.npz").to_dict() == direct()
    assert json.loads(Path("map.json").read_text())["scores"] == direct()["scores"]
    assert "<html" in Path("map.html").read_text()
    result = krypton("explain", "model.onnx", "image.npy", "--report", "report.html", *COARSE)
    assert "wrote report.html" in result.stdout and "<html" in Path("report.html").read_text()


def test_a_picture_shows_what_is_asked_for(folder):
    pictures = []
    for options in ([], ["--show", "score"], ["--show", "predicted"], ["--extremes", "1"]):
        krypton("explain", "model.onnx", "image.npy", "-o", "map.png", "--stride", "1", "--patch", "4", *options)
        pictures.append(Path("map.png").read_bytes())
    assert len(set(pictures)) == 4


def test_people_are_told_how_the_image_was_prepared_and_what_hides_it(folder):
    onnx.save(plain(), "model.onnx")
    result = krypton("explain", "model.onnx", "image.npy", "-o", "map.png", "--fill", "0.5,1", *COARSE)
    assert "image: an array of 12 x 12 px and 2 channels, taken as it is" in result.stdout
    assert "hidden by: 0.5,1 (in the model's numbers), patch 4 x 4" in result.stdout
    result = krypton("explain", "model.onnx", "image.npy", "-o", "map.png", "--fill", "mean", "--fill", "blur", *COARSE)
    assert "hidden by: mean and blur, patch 4 x 4" in result.stdout


# -- how long it will take ---------------------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def told_of(images: int, size: int, seconds_a_step: float, steps: int = 20, whole: bool = False) -> list[str]:
    """The lines of an estimate, and the second at which each came."""
    clock, lines = Clock(), []
    estimate = Estimate(lambda line: lines.append(f"{clock.now - 100:.0f}: {line}"), images, whole=whole, clock=clock)
    bar = Bar(None, "", images, estimate)
    for number in range(images):
        bar.begin(str(number))
        for step in range(1, steps + 1):
            clock.now += seconds_a_step * (3 if number == 0 and step == 1 else 1)  # the first one compiles
            bar(size * step // steps, size)
        bar.end()
    return lines


def test_a_long_run_is_foretold_once_and_soon():
    assert told_of(40, 2809, 0.9) == ["5: about 12 min: 40 images of 2,809 positions"]
    assert told_of(1, 50000, 3.0) == ["12: about 65 s: 50,000 positions"]
    assert told_of(4, 100, 1.0, whole=True) == ["22: about 90 s: 4 images of 100 positions"]


def test_a_short_run_is_not():
    assert told_of(1, 2809, 0.3) == [] and told_of(5, 100, 0.05) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (12.4, "12 s"), (43, "45 s"), (99, "100 s"), (101, "2 min"), (725, "12 min"), (3500, "58 min"),
     (3599, "1 h"), (11400, "3 h 10 min"), (86400, "24 h")],
)  # fmt: skip
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


# -- bench -------------------------------------------------------------------------------------------------------------


def test_bench_measures_and_compares(folder):
    result = krypton("bench", "model.onnx", "image.npy", "--patch", "4", "--stride", "1", "--time", "2s", "--json")
    told = json.loads(result.stdout)
    assert told["positions"] == 81 and told["frame"] == [SIZE, SIZE] and set(told["ways"]) == {"exact", "naive"}
    for mode in ("exact", "naive"):
        way = told["ways"][mode]
        assert way["seconds"] > 0 and len(way["rounds"]) == told["rounds"]
        assert way["positions_per_second"] == pytest.approx(81 / way["seconds"])
        assert way["speedup"] == pytest.approx(told["ways"]["naive"]["seconds"] / way["seconds"])
    scores = [direct_scores(mode) for mode in ("exact", "naive")]
    assert_scores_equal(*scores, probabilities=False)
    assert 0 <= told["largest_difference"] <= np.abs(scores[0] - scores[1]).max() + 1e-6


def direct_scores(mode: str) -> np.ndarray:
    return kx.OcclusionSession("model.onnx").explain(IMAGE, patch=4, stride=1, mode=mode).scores


def test_bench_needs_no_image_and_prints_a_table(folder):
    result = krypton("bench", "model.onnx", "--patch", "4", "--time", "1s")
    assert "a random image 1 x 2 x 12 x 12, patch 4 x 4, stride 4 x 4: 9 positions" in result.stdout
    assert re.search(r"naive \(full inference\) +[\d.]+ +[\d,]+ +1\.0 x", result.stdout)
    assert re.search(r"exact \(incremental\) +[\d.]+ +[\d,]+ +[\d.]+ x", result.stdout)
    assert "largest difference between exact and naive: " in result.stdout
    model = plain()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "any"
    onnx.save(model, "open.onnx")
    assert "give an image, or --input-shape image:1,3,224,224" in krypton("bench", "open.onnx", code=1).stderr
    assert "14 x 13" in krypton("bench", "open.onnx", "--input-shape", "1,2,14,13", "--patch", "4").stdout
    assert "is not a time" in krypton("bench", "model.onnx", "--time", "long", code=2).stderr


def test_bench_sees_a_wrong_map(folder, monkeypatch):
    explain = kx.OcclusionSession.explain

    def wrong(self, image, *arguments, **named):
        heat_map = explain(self, image, *arguments, **named)
        if named["mode"] == "exact":
            heat_map.scores[0, 0, 0] += 0.25
        return heat_map

    monkeypatch.setattr(kx.OcclusionSession, "explain", wrong)
    told = json.loads(krypton("bench", "model.onnx", "--patch", "4", "--time", "1s", "--json").stdout)
    assert told["largest_difference"] == pytest.approx(0.25, abs=1e-3)


def test_medians_of_a_sample_are_of_the_whole_grid():
    heat_map = kx.OcclusionSession(plain()).explain(IMAGE, patch=4, stride=4)
    ways = {"exact": Measured((1.0, 9.0, 2.0), (6.0, 5.0, 50.0)), "naive": Measured((3.0, 30.0, 2.0), ())}
    measured = Measurement(heat_map, 100, 10, ways, 0.0)
    assert measured.seconds("exact") == 6.0 and measured.seconds("naive") == 30.0 and measured.speedup("exact") == 5.0


# -- the shell ---------------------------------------------------------------------------------------------------------


def completed(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    environment = {
        **os.environ, "_KRYPTON_ONNX_COMPLETE": "complete_bash", "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    code = "import sys; sys.argv[0] = 'krypton-onnx'; from krypton_onnx.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("krypton-onnx ex", ["explain"]),
        ("krypton-onnx explain --repo", ["--report"]),
        ("krypton-onnx explain model.onnx --mode ", ["exact", "approximate", "naive"]),
        ("krypton-onnx explain model.onnx --score lo", ["logit", "log-odds"]),
        ("krypton-onnx explain --format p", ["png", "pdf"]),
        ("krypton-onnx tune --preset ima", ["imagenet"]),
        ("krypton-onnx explain model.onnx --labels labels.txt --target t", ["tabby", "tiger_cat"]),
        ("krypton-onnx explain ready.onnx image.npy --target e", ["espresso"]),
        ("krypton-onnx explain none.onnx --target e", []),
        ("krypton-onnx explain model.onnx --providers c", ["cpu"]),
        ("krypton-onnx explain mod", []),  # the shell completes files itself
    ],
)
def test_completion(folder, line, offered):
    krypton("convert", "model.onnx", "-o", "ready.onnx", "--labels", "labels.txt", "-q")
    assert completed(line) == offered


def test_bash_goes_on_with_files_where_nothing_is_offered():
    code = "import sys; sys.argv[0] = 'krypton-onnx'; from krypton_onnx.__main__ import main; main()"
    environment = {**os.environ, "_KRYPTON_ONNX_COMPLETE": "source_bash", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "complete -o default -F" in done.stdout and "krypton-onnx" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "m.onnx", "i.png", "--mode", "exakt"], "one of exact, approximate, naive; did you mean exact?"),
        (["explain", "m.onnx", "i.png", "--score", "LOGIT"], "did you mean logit?"),
        (["explain", "m.onnx", "i.png", "--format", "htlm"], "did you mean html?"),
        (["explain", "m.onnx", "i.png", "--json", "--fill", "blak"], "black"),
        (["explain", "m.onnx", "i.png", "--traget", "3"], "--target"),
        (["exlpain"], "Did you mean 'explain'?"),
        (["bench", "m.onnx", "--patches", "3"], "--patch"),
    ],
)  # fmt: skip
def test_what_may_have_been_meant_is_said(arguments, message):
    result = krypton(*arguments, code=2)
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


# -- quick -------------------------------------------------------------------------------------------------------------

HEAVY = ("numpy", "scipy", "onnx", "onnxruntime", "numba", "matplotlib", "skimage", "PIL", "pydicom", "jinja2", "torch")


@pytest.mark.parametrize(
    "code",
    [
        "import krypton_onnx",
        "from krypton_onnx.cli import app; app(['--help'], standalone_mode=False)",
        "from krypton_onnx.cli import app; app(['explain', '--help'], standalone_mode=False)",
        "from krypton_onnx.cli import app; app(['--version'], standalone_mode=False)",
    ],
)
def test_nothing_heavy_is_imported_for_help(code):
    code += f"; import sys; sys.exit(str([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", ["explain", "tune", "convert", "check", "inspect", "bench", "demo"])
def test_every_help_has_an_example(command):
    assert f"Example: krypton-onnx {command} " in " ".join(krypton(command, "--help").stdout.split())


def test_options_of_a_group_keep_their_names_and_defaults():
    from krypton_onnx.cli.groups import RunOptions

    seen = []

    def command(*, running: RunOptions) -> None:
        seen.append(running)

    grouped(command)(max_memory="1GiB", seed=3, providers=None, strict=False)
    assert seen == [RunOptions("1GiB", 3)] and seen[0].memory == 2**30
    assert seen[0].read()["max_memory"] == ("memory_budget", 2**30)


def test_a_picture_of_many_bits_is_one_line(folder):
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint16)).save("deep.png")
    result = krypton("explain", "model.onnx", "deep.png", "--json", *COARSE, code=1)
    assert len(result.stderr.splitlines()) == 1
