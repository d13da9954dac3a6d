"""examples/node, as a reader would run it: from a clean folder, against the exact map of Python."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import krypton_onnx as kx
from krypton_onnx.demo import PREPARATION, label, photograph, squeezenet
from krypton_onnx.images import Preparation
from krypton_onnx.tolerance import exactness_tolerance

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import doc_files  # noqa: E402
from families import FAMILIES, example_image, is_nhwc  # noqa: E402

EXAMPLE = ROOT / "examples" / "node"
NODE = shutil.which("node")
OLDEST = (20, 9)  # that sharp runs on


def missing() -> str | None:
    """Why the example cannot run here."""
    if NODE is None or shutil.which("npm") is None:
        return "Node and npm are not installed"
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    found = tuple(int(number) for number in version.removeprefix("v").split(".")[:2])
    return None if found >= OLDEST else f"Node {version} is older than {'.'.join(map(str, OLDEST))}"


pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as it is cloned, its packages installed; SqueezeNet, rewritten, and the photograph beside it."""
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=300)
    onnx.save(squeezenet(), folder / "squeezenet.onnx")
    names = [label(index) or f"class {index}" for index in range(1000)]
    kx.convert(folder / "squeezenet.onnx", folder / "rewritten.onnx", preparation=PREPARATION, labels=names)
    Image.fromarray(photograph()).save(folder / "coffee.png")
    return folder


def explain(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [NODE, "explain.mjs", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def assert_is_the_exact_map(found: dict, heat_map: kx.HeatMap) -> None:
    tolerance = exactness_tolerance(heat_map.scores)
    np.testing.assert_allclose(found["scores"], heat_map.scores, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found["baseline"], heat_map.baseline, rtol=0, atol=tolerance)
    same = heat_map.to_dict()
    assert {name: found[name] for name in ("targets", "tops", "lefts", "patch", "stride", "mode")} == {
        name: same[name] for name in ("targets", "tops", "lefts", "patch", "stride", "mode")
    }


def test_the_map_is_that_of_python(folder):
    done = explain(folder, "rewritten.onnx", "coffee.png", "--json", "map.json", "--png", "map.png", "--stride", 8)
    assert done.returncode == 0, done.stderr
    session = kx.OcclusionSession(folder / "rewritten.onnx")
    heat_map = session.explain(folder / "coffee.png", patch=16, stride=8)
    found = json.loads((folder / "map.json").read_text())
    assert_is_the_exact_map(found, heat_map)
    assert np.ptp(heat_map.scores) > 0.1  # so that there is something to compare
    assert found["labels"] == [label(heat_map.targets[0])] and done.stdout.startswith(f"{label(heat_map.targets[0])}: ")
    with Image.open(folder / "map.png") as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (227, 227), "RGB")
        pixels = np.asarray(picture, float)
    redness = pixels[..., 0] - pixels[..., 2]
    row, column = np.unravel_index(heat_map.drop[0].argmax(), heat_map.drop[0].shape)
    top, left = heat_map.tops[row] + 8, heat_map.lefts[column] + 8  # the centre of the patch
    assert redness[top, left] == redness.max() > 100
    assert not list(folder.glob("*.part"))


def test_the_batches_that_inspect_advises(folder):
    command = [sys.executable, "-m", "krypton_onnx", "inspect", "rewritten.onnx", "--patch", "24", "--stride", "12"]
    subprocess.run([*command, "--batches", "batches.json"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    grid = ("--patch", 24, "--stride", 12, "--target", 968)
    done = explain(folder, "rewritten.onnx", "coffee.png", *grid, "--batches", "batches.json", "--json", "advised.json")
    assert done.returncode == 0, done.stderr
    heat_map = kx.OcclusionSession(folder / "rewritten.onnx").explain(
        folder / "coffee.png", targets=968, patch=24, stride=12
    )
    assert_is_the_exact_map(json.loads((folder / "advised.json").read_text()), heat_map)
    other = explain(folder, "rewritten.onnx", "coffee.png", "--batches", "batches.json")
    assert other.returncode == 1 and "batches.json: is not for this model, patch and stride" in other.stderr


def test_the_factor_over_full_inference(folder):
    question = ("--stride", 32, "--naive", "squeezenet.onnx", "--positions", 8)
    done = explain(folder, "rewritten.onnx", "coffee.png", *question)
    assert done.returncode == 0, done.stderr
    naive, batch, ours, factor, difference = re.search(
        r"full inference ([\d.]+) ms a position \((\d+) a run\), rewritten ([\d.]+) ms: ([\d.]+) times as fast; "
        r"largest difference (\S+)\n",
        done.stdout,
    ).groups()
    assert float(factor) == pytest.approx(float(naive) / float(ours), rel=0.05) and int(batch) in (1, 4, 8, 16, 32)
    assert 0 < float(difference) <= 1e-5  # not 0: the maps are computed in different ways


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
        Preparation(fit="crop", resize=70, channel_order="bgr"),
        Preparation(fit="crop", resample="bicubic"),
        Preparation(fit="pad", padding=128, resample="lanczos"),
    ],
    ids=lambda preparation: preparation.describe(),
)
def test_a_photograph_is_prepared_as_in_python(folder, preparation):
    """Up to what two libraries differ by in resizing, which is a grey level or two."""
    onnx.save(doc_files.classifier(), folder / "small.onnx")
    kx.convert(folder / "small.onnx", folder / "small.rewritten.onnx", preparation=preparation)
    doc_files.scene(3).save(folder / "scene.png")
    done = explain(folder, "small.rewritten.onnx", "scene.png", "--json", "small.json", "--stride", 8)
    assert done.returncode == 0, done.stderr
    heat_map = kx.OcclusionSession(folder / "small.rewritten.onnx").explain(folder / "scene.png", patch=16, stride=8)
    found = json.loads((folder / "small.json").read_text())
    assert found["targets"] == list(heat_map.targets)
    assert np.abs(np.array(found["scores"]) - heat_map.scores).max() < 0.1 * np.ptp(heat_map.scores)


@pytest.mark.parametrize("name", ["resnet18_legacy", "vgg_nhwc"])
def test_models_of_other_sides_and_layouts(folder, name):
    """A picture of the model's own size is not resized, so that the maps are equal."""
    model = FAMILIES[name]()
    onnx.save(model, folder / "family.onnx")
    preparation = Preparation(mean=(0.5,), std=(0.25,))
    kx.convert(folder / "family.onnx", folder / "family.rewritten.onnx", preparation=preparation)
    height, width = example_image(model).shape[1:3] if is_nhwc(model) else example_image(model).shape[2:]
    assert height != width
    doc_files.scene(4, (width, height)).save(folder / "family.png")
    done = explain(
        folder, "family.rewritten.onnx", "family.png", "--json", "family.json", "--patch", 6, "--stride", 5,
        "--batch", 10, "--png", "family.map.png", "--naive", "family.onnx", "--positions", 8,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    heat_map = kx.OcclusionSession(folder / "family.rewritten.onnx").explain(
        folder / "family.png", patch=6, stride=5, output=model.graph.output[0].name
    )
    assert_is_the_exact_map(json.loads((folder / "family.json").read_text()), heat_map)
    with Image.open(folder / "family.map.png") as picture:
        assert picture.size == (width, height)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give a model and a picture"),
        (("rewritten.onnx", "coffee.png", "--size", "3"), 2, "Unknown option '--size'"),
        (("rewritten.onnx", "coffee.png", "--patch", "0"), 2, "--patch 0: is not a number of at least 1"),
        (("rewritten.onnx", "coffee.png", "--patch", "228"), 1, "--patch 228: the model's image has 227 x 227 pixels"),
        (("rewritten.onnx", "coffee.png", "--target", "1000"), 1, "class 1000: the model has 1000, from 0"),
        (("absent.onnx", "coffee.png"), 1, "absent.onnx"),
        (("squeezenet.onnx", "coffee.png"), 1, "squeezenet.onnx: is not a rewritten model"),
        (("coffee.png", "coffee.png"), 1, "coffee.png: is not a rewritten model"),
        (("package.json", "coffee.png"), 1, "package.json: is not an ONNX model"),
        (("rewritten.onnx", "absent.png"), 1, "absent.png"),
        (("rewritten.onnx", "package.json"), 1, "package.json: "),
        (("rewritten.onnx", "clear.png"), 1, "clear.png: has transparent pixels"),
        (("rewritten.onnx", "cut.png"), 1, "cut.png: "),
        (("rewritten.onnx", "coffee.png", "--batches", "explain.mjs"), 1, "explain.mjs: is not JSON"),
        (("rewritten.onnx", "coffee.png", "--batches", "package.json"), 1, "package.json: is not for this model"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(folder, arguments, code, message):
    Image.new("RGBA", (9, 9), (1, 2, 3, 4)).save(folder / "clear.png")
    (folder / "cut.png").write_bytes((folder / "coffee.png").read_bytes()[:20_000])
    before = {path.name for path in folder.iterdir()}
    done = explain(folder, *arguments, "--json", "none.json", "--png", "none.png")
    assert done.returncode == code and done.stdout == ""
    assert message in done.stderr.splitlines()[0] and done.stderr.startswith("explain.mjs: ")
    assert len(done.stderr.splitlines()) == (1 if code == 1 else 3)  # and how it is used
    assert {path.name for path in folder.iterdir()} == before


def test_the_lock_file_names_the_registry_of_npm_only():
    lock = json.loads((EXAMPLE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages and all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert {package["resolved"].split("/")[2] for package in packages.values()} == {"registry.npmjs.org"}
