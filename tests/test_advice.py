"""Batches for where the rewritten model runs without this package: inspect --batches."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from naive import naive_map, session_of
from test_cli_many import krypton
from test_full_inference import an_if
from test_inspect import PATCH, STRIDE, count, frames_of, regions_of
from tiny_models import tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.inspection import inspect_and_advise
from krypton_onnx.rewriter import plan_of, rewrite_model
from krypton_onnx.runtime import advice
from krypton_onnx.runtime.advice import advise
from krypton_onnx.runtime.grid import make_grid

NAMES = ["vgg", "resnet18_legacy", "inception"]


def advised(name: str, batch_size: int | None = None, stride: tuple[int, int] = STRIDE) -> advice.BatchAdvice:
    return inspect_and_advise(FAMILIES[name](), PATCH, stride, None, None, batch_size)[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
def test_every_position_once_and_no_more_in_a_run(name: str, batch_size: int | None) -> None:
    found = advised(name, batch_size)
    height, width = found.image_shape[1:]
    tops = range(0, height - PATCH[0] + 1, STRIDE[0])
    lefts = range(0, width - PATCH[1] + 1, STRIDE[1])
    assert (found.rows, found.columns) == (len(tops), len(lefts))
    places = [place for run in found.batches for place in product(run.tops, run.lefts)]
    assert sorted(places) == list(product(tops, lefts))
    assert max(len(run.tops) * len(run.lefts) for run in found.batches) <= (batch_size or advice.MOST_POSITIONS)


@pytest.mark.parametrize("name", ["vgg", "mobilenet_v2"])
def test_the_ratio_counts_the_extents_of_every_run_and_its_unoccluded_pass(name: str) -> None:
    model = FAMILIES[name]()
    found = advised(name, 12)
    full, _ = count(model)
    positions = found.rows * found.columns
    frames = frames_of(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    costs = {
        node.output[0]: int(np.prod(shapes[node.input[1]])) for node in model.graph.node if node.op_type == "Conv"
    }
    work = len(found.batches) * full // positions
    for run in found.batches:
        regions = [regions_of(model, frames, top, left) for top, left in product(run.tops, run.lefts)]
        for output, cost in costs.items():
            high, wide = (max(one[output][axis][1] - one[output][axis][0] for one in regions) for axis in (0, 1))
            work += len(regions) * cost * high * wide
    assert found.redundancy_ratio == pytest.approx(full / work, rel=1e-9)


def test_they_do_less_work_than_the_batches_of_exact_mode_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few large runs, because each has its own unoccluded pass; exact mode has more and smaller ones."""
    monkeypatch.setattr(advice.schedule, "run_cost", lambda *_: 0.0)  # which rules where a model is so small
    model = FAMILIES["vgg"]()
    exact = kx.inspect(model, PATCH, (1, 1))
    found = advised("vgg", stride=(1, 1))
    positions = exact.positions
    of_exact = positions / (positions / exact.achieved_redundancy_ratio + exact.batches)
    assert len(found.batches) < exact.batches and found.redundancy_ratio > of_exact


def test_memory_bounds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(rewrite_model(FAMILIES["vgg"](), None, None))
    grid = make_grid(plan.image_shape[1:], PATCH, STRIDE)
    position = advice.schedule.patch_bytes(plan, grid, advice.GeometryTable(**plan.table()))
    monkeypatch.setattr(advice, "MOST_BYTES", 3 * position)
    assert 1 < max(len(run.tops) * len(run.lefts) for run in advise(plan, grid).batches) <= 3
    monkeypatch.setattr(advice, "MOST_BYTES", 1)
    assert {len(run.tops) * len(run.lefts) for run in advise(plan, grid).batches} == {1}


def test_what_there_is_no_rewritten_model_of_has_no_batches(tmp_path: Path) -> None:
    onnx.save(an_if(), tmp_path / "model.onnx")
    result = krypton("inspect", tmp_path / "model.onnx", "--patch", 4, "--batches", tmp_path / "b.json", code=1)
    assert "there are no batches to advise, as the model cannot be rewritten" in result.stderr
    assert not (tmp_path / "b.json").exists()


def test_the_file_is_all_that_another_language_needs(tmp_path: Path) -> None:
    """Its runs, in stock ONNX Runtime, give the map of full inference."""
    model = FAMILIES["vgg"]()
    image = example_image(model)
    kx.convert(model, tmp_path / "rewritten.onnx")
    krypton(
        "inspect", tmp_path / "rewritten.onnx", "--patch", "6,5", "--stride", "7,5", "--batches", tmp_path / "b.json"
    )
    given = json.loads((tmp_path / "b.json").read_text())
    assert given == json.loads(json.dumps(advised("vgg").to_dict()))
    session = session_of(str(tmp_path / "rewritten.onnx"))
    feeds = {
        session.get_inputs()[0].name: image,
        "occlusion_patch": np.zeros((1, given["image_shape"][0], *given["patch"]), np.float32),
        "propagation_threshold": np.ones(1, np.float32),
    }
    scores: dict[tuple[int, int], np.ndarray] = {}
    for run in given["batches"]:
        places = list(product(run["tops"], run["lefts"]))
        found = session.run(None, {**feeds, "occlusion_origin": np.array(places, np.int64)})[0]
        scores.update(zip(places, found, strict=True))
    tops, lefts = (sorted({place[axis] for place in scores}) for axis in (0, 1))
    assert (len(tops), len(lefts)) == (given["rows"], given["columns"])
    expected, _ = naive_map(model, image, tops, lefts, np.zeros((given["image_shape"][0], *PATCH), np.float32))
    actual = np.array([scores[place] for place in product(tops, lefts)])
    assert_scores_equal(actual, expected.reshape(actual.shape), probabilities=True)


def test_the_command_line(tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "model.onnx")
    out = tmp_path / "b.json"
    shown = krypton("inspect", tmp_path / "model.onnx", "--patch", 4, "--batches", out, "--batch-size", 5)
    runs = json.loads(out.read_text())["batches"]
    assert f"wrote {out}: {len(runs)} runs that do 1/" in shown.stdout
    assert max(len(run["tops"]) * len(run["lefts"]) for run in runs) <= 5
    quiet = krypton("inspect", tmp_path / "model.onnx", "--patch", 4, "--json", "--batches", out)
    assert json.loads(quiet.stdout)["patch"] == [4, 4]
    result = krypton("inspect", tmp_path / "model.onnx", "--batch-size", 5, code=2)
    assert "no meaning without --batches" in " ".join(result.stderr.split())
    result = krypton("inspect", tmp_path / "model.onnx", "--batches", tmp_path / "model.onnx", code=1)
    assert "it is what is read" in result.stderr
    result = krypton("inspect", tmp_path / "model.onnx", "--batches", tmp_path / "absent" / "b.json", code=1)
    assert "there is no folder" in result.stderr


def test_a_batch_of_nothing() -> None:
    with pytest.raises(kx.ImageError, match="a batch has at least 1 position, got 0"):
        advised("vgg", 0)
