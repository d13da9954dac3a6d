"""Exact maps by full inference where that is faster: by the plan, or by what was measured. Times here are made up."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graph_builder import Graph
from naive import naive_map
from tiny_models import CLASSES, image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.runtime import choice
from krypton_onnx.runtime.engine import Engine
from krypton_onnx.runtime.full_inference import FullInference
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.run_size import RunSize

IMAGE = image_of(1, 3, 40, 48)
FILL = 0.3


def gated_at_once(small: int = 2) -> onnx.ModelProto:
    """The image is scaled by what its brightest pixels say; all convolutions but a small one come after."""
    g = Graph(91, opset=17, ir=8)
    image = g.input("image", ["batch", 3, 40, 48])
    x = g.conv_relu(image, small, 1)
    gated = g.node("Mul", x, g.node("Sigmoid", g.node("GlobalMaxPool", x)), channels=small)
    x = g.conv_relu(g.conv_relu(gated, 16, 3, pads=1), 16, 3, pads=1)
    g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), 16, CLASSES, gain=16, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


def gated_halfway() -> onnx.ModelProto:
    g = Graph(92, opset=17, ir=8)
    x = g.conv_relu(g.conv_relu(g.input("image", ["batch", 3, 40, 48]), 16, 3, pads=1), 16, 3, pads=1)
    x = g.node("Mul", x, g.node("Sigmoid", g.node("GlobalMaxPool", x)), channels=16)
    x = g.conv_relu(g.conv_relu(x, 16, 3, pads=1), 16, 3, pads=1)
    g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), 16, CLASSES, gain=16, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


def patches_and_products() -> onnx.ModelProto:
    """A vision transformer in short: one convolution, which cuts the image in patches, and matrix products."""
    g = Graph(93, opset=17, ir=8)
    x = g.conv(g.input("image", ["batch", 3, 40, 48]), 16, 8, stride=8)
    x = g.node("Transpose", g.node("Reshape", x, g.initializer([0, 16, -1], np.int64)), perm=[0, 2, 1])
    for _ in range(6):
        attention = g.node("Softmax", g.node("MatMul", x, g.node("Transpose", x, perm=[0, 2, 1])), axis=-1)
        x = g.node("Add", x, g.node("MatMul", g.node("MatMul", attention, x), g.weight(16, 16, fan_in=16)))
        wide = g.node("Relu", g.node("MatMul", x, g.weight(16, 512, fan_in=16)))
        x = g.node("MatMul", wide, g.weight(512, 16, fan_in=512))
    g.gemm(g.node("ReduceMean", x, axes=[1], keepdims=0), 16, CLASSES, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


def one_worker(model: onnx.ModelProto) -> kx.OcclusionSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return kx.OcclusionSession(model, sess_options=options)


def expected(model: onnx.ModelProto, heat_map: kx.HeatMap) -> np.ndarray:
    scores, _ = naive_map(model, IMAGE, heat_map.tops, heat_map.lefts, np.full((3, *heat_map.patch), FILL, np.float32))
    return scores.T.reshape(heat_map.scores.shape)


class Stage:
    """What ran: positions of both ways, and a clock that only they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, incremental: float, full: float) -> None:
        self.now = 0.0
        self.incremental = self.full = 0
        incrementally, fully = Engine.run, FullInference.__call__

        def run(engine: Engine, views, tops, *rest):
            self.incremental += len(tops)
            self.now += incremental * len(tops)
            return incrementally(engine, views, tops, *rest)

        def infer(inference: FullInference, images: np.ndarray) -> np.ndarray:
            self.full += len(images)
            self.now += full * len(images)
            return fully(inference, images)

        monkeypatch.setattr(Engine, "run", run)
        monkeypatch.setattr(FullInference, "__call__", infer)
        monkeypatch.setattr(choice, "clock", lambda: self.now)
        monkeypatch.setattr(RunSize, "best", lambda size: float("inf"))  # it has a clock of its own


@pytest.fixture
def small_work_counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models of tests are small: otherwise nothing would be measured."""
    monkeypatch.setattr(choice, "SMALL_WORK", 0)
    monkeypatch.setattr(choice, "NO_GAIN", 0.0)
    return None


# -- by the plan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [gated_at_once, patches_and_products])
def test_a_model_of_which_next_to_nothing_is_incremental(build, monkeypatch: pytest.MonkeyPatch) -> None:
    session = one_worker(build())
    monkeypatch.setattr(Engine, "_parts", lambda engine: pytest.fail("the incremental session is made for nothing"))
    heat_map = session.explain(IMAGE, range(CLASSES), patch=9, stride=5, fill=FILL)
    assert_scores_equal(heat_map.scores, expected(build(), heat_map), probabilities=False)
    assert heat_map.mode == "exact"
    assert heat_map.note.startswith("computed by full inference: ") and "it mixes all cells" in heat_map.note
    assert "% of the work is in the incremental part, which ends at " in heat_map.note


def test_products_count_as_work() -> None:
    """Those of many rows an image with the convolutions, the head's apart."""
    plan = one_worker(patches_and_products()).plan()
    assert sum(operator.products for operator in plan.operators) == 16 * CLASSES
    rows = 6 * (30 * 16 * 30 * 2 + 30 * 16 * 16 + 2 * 30 * 16 * 512)
    assert sum(operator.multiply_adds for operator in plan.operators) == 16 * 3 * 64 * 30 + rows


def test_a_clear_gain_and_a_small_map_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = kx.OcclusionSession(gated_halfway()).plan()
    grid = make_grid((40, 48), 9, 1)
    assert choice.way(plan, grid, 1) == "incremental"  # small
    monkeypatch.setattr(choice, "SMALL_WORK", 0)
    monkeypatch.setattr(choice, "NO_GAIN", 0.0)
    assert choice.way(plan, grid, 1) == "measure"
    assert choice.way(plan, make_grid((40, 48), 9, 16), 1) in ("incremental", "full")  # too few to measure
    monkeypatch.setattr(choice, "NO_GAIN", 100.0)
    assert choice.way(plan, grid, 1) == "full"
    monkeypatch.setattr(choice, "CLEAR_GAIN", 0.0)
    assert choice.way(plan, grid, 1) == "full"  # as long as half of the work is global
    monkeypatch.setattr(choice, "CLEAR_SHARE", 0.3)
    assert choice.way(plan, grid, 1) == "incremental"
    assert choice.nothing_incremental(kx.OcclusionSession(tiny()).plan()) is None


# -- by measurement ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("incremental, full", [(1.0, 2.0), (2.0, 1.0)])
def test_the_faster_way_computes_the_rest(incremental, full, small_work_counts, monkeypatch) -> None:
    session = one_worker(gated_halfway())
    stage = Stage(monkeypatch, incremental, full)
    asked = {"targets": range(CLASSES), "patch": 9, "stride": 2, "fill": FILL}
    first = session.explain(IMAGE, **asked)
    total = first.computed.size
    assert_scores_equal(first.scores, expected(gated_halfway(), first), probabilities=False)
    assert first.complete and stage.incremental > 0 and stage.full > 0
    assert stage.incremental + stage.full <= total + 1  # nothing twice
    slower = stage.full if full > incremental else stage.incremental
    assert slower < total / 2
    told = "incremental inference of this model is slower (2e+03 against 1e+03 ms a position)"
    assert (f"computed by full inference: {told}" == first.note) == (full < incremental)
    # The decision holds for this patch and stride.
    stage.incremental = stage.full = 0
    second = session.explain(IMAGE, **asked)
    assert (stage.incremental, stage.full) == ((total, 0) if incremental < full else (0, total + 1))
    assert second.note == first.note
    np.testing.assert_allclose(second.scores, first.scores, atol=1e-4)
    stage.incremental = stage.full = 0
    session.explain(IMAGE, **{**asked, "patch": 8})
    assert stage.incremental and stage.full


def test_the_fastest_run_of_full_inference_counts(small_work_counts, monkeypatch) -> None:
    """The runs that are measured are its first, and slower than what is to come."""
    session = one_worker(gated_halfway())
    Stage(monkeypatch, 1.0, 2.0)
    monkeypatch.setattr(RunSize, "best", lambda size: 0.5)
    heat_map = session.explain(IMAGE, patch=9, stride=2, fill=FILL)
    assert "is slower (1e+03 against 500 ms a position)" in heat_map.note


def test_a_memory_budget_is_not_spent_on_a_second_session(small_work_counts, monkeypatch) -> None:
    session = one_worker(gated_halfway())
    stage = Stage(monkeypatch, 2.0, 1.0)
    heat_map = session.explain(IMAGE, patch=9, stride=2, fill=FILL, memory_budget=10**11)
    assert stage.full == 0 and heat_map.note == ""


def test_a_map_cut_short_decides_nothing(small_work_counts, monkeypatch) -> None:
    session = one_worker(gated_halfway())
    Stage(monkeypatch, 2.0, 1.0)
    heat_map = session.explain(IMAGE, patch=9, stride=2, fill=FILL, time_budget=0)
    assert not heat_map.complete and heat_map.computed.any()
    assert heat_map.note.startswith("stopped early by the time budget")


@pytest.mark.parametrize("full_wins", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("positions", [400, 421, 2809])
def test_every_position_is_in_one_part(workers: int, positions: int, full_wins: bool, monkeypatch) -> None:
    assert choice._trial(9, 1) is None
    now = [0.0]
    monkeypatch.setattr(choice, "clock", lambda: now[0])
    seen: dict[str, list[np.ndarray]] = {"incremental": [], "full": []}

    def taking(name: str, seconds: float):
        def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
            now[0] += seconds * len(tops)
            seen[name].append(tops)
            return np.zeros((len(tops), 1))

        return run

    sizes: list[int] = []

    def cut(cells: np.ndarray, size: int | None) -> list[np.ndarray]:
        sizes.append(size or 0)
        return choice.cut(cells, size or 64)

    verdicts: list[choice.Verdict] = []
    slow, fast = taking("incremental", 1.0 * workers), taking("full", 0.5 if full_wins else 2.0)
    ways = choice.Ways(slow, cut, fast, workers)
    for part in choice.measured_parts(positions, ways, verdicts.append):
        assert part.workers == (1 if part.run is fast or getattr(part.run, "_run", None) is fast else workers)
        for cells in part.batches:
            part.run(cells, cells, cells)
    done = np.concatenate([np.concatenate(cells) for cells in seen.values()])
    np.testing.assert_array_equal(np.sort(done), np.arange(positions))
    assert [verdict.full_wins for verdict in verdicts] == [full_wins]
    assert verdicts[0].incremental == pytest.approx(1.0) and sizes[0] == sizes[1] >= choice.SMALLEST_BATCH
    loser = seen["incremental" if full_wins else "full"]
    assert sum(map(len, loser)) <= choice.TRIED_SHARE * positions + 1


def test_times_of_workers_at_once_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four batches of 2 s on two workers take 4 s, however they end."""
    now = [0.0]
    monkeypatch.setattr(choice, "clock", lambda: now[0])

    def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
        now[0] += 2.0
        return np.zeros((len(tops), 1))

    timed = choice._Timed(run, workers=2)
    for _ in range(4):
        timed(np.zeros(10), np.zeros(10), np.zeros(10))
    assert timed.positions == 40 and timed.seconds_a_position == pytest.approx(4.0 / 40)
