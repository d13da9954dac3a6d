"""Many threads and one session, many sessions and one process: right answers, and no more threads than asked for."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tiny_models import image_of, tiny

import krypton_onnx as kx
from krypton_onnx.tolerance import exactness_tolerance

CALLERS, EXPLANATIONS, WORKERS = 24, 100, 2
MODEL = tiny(3, 64, 64).SerializeToString()
QUESTION = {"patch": 16, "stride": 8}  # 7 x 7 positions


def session_of(workers: int = WORKERS) -> kx.OcclusionSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = workers
    return kx.OcclusionSession(MODEL, options)


def threads_of_this_process() -> int:
    """All of the operating system's, those of ONNX Runtime included."""
    return len(os.listdir("/proc/self/task"))


class Watch:
    """The most threads that there were while the block ran."""

    def __enter__(self) -> "Watch":
        self.most, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            self.most = max(self.most, threads_of_this_process())


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads by /proc")


@needs_proc
def test_24_threads_of_100_explanations_each() -> None:
    images = [image_of(1, 3, 64, 64, seed=seed) for seed in range(6)]
    session = session_of()
    alone = [session.explain(image, **QUESTION).scores for image in images]
    assert alone[0].shape == (1, 7, 7)
    before = threads_of_this_process()

    def caller(number: int) -> float:
        worst = 0.0
        for turn in range(EXPLANATIONS):
            index = (number + turn) % len(images)
            scores = session.explain(images[index], **QUESTION).scores
            worst = max(worst, float(np.abs(scores - alone[index]).max()))
        return worst

    with Watch() as watch, ThreadPoolExecutor(CALLERS) as callers:
        worst = max(callers.map(caller, range(CALLERS)))
    # Equal to the last bit: no sum depends on which thread makes it.
    assert worst == 0.0
    # The callers, the thread that watches, and the workers: more than once where some end as others start, and BLAS
    # has its own. Workers for every caller would be 24 times as many.
    assert before + CALLERS <= watch.most <= before + CALLERS + 1 + 4 * WORKERS


@needs_proc
@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_the_threads_of_one_session(mode: str) -> None:
    """Made and used: the workers, and those that ONNX Runtime keeps for the base pass and full inference."""
    image = image_of(1, 3, 64, 64)
    before = threads_of_this_process()
    with Watch() as watch:
        session = session_of(3)
        session.explain(image, mode=mode, **QUESTION)
        session.run(None, {"image": image})
    # ONNX Runtime counts the calling thread: two more each of the base pass, full inference and run.
    assert watch.most <= before + 1 + 3 + 3 * 2


def test_many_sessions_in_one_process() -> None:
    """Made, used and dropped by several threads at once."""
    models = {seed: tiny(channels=seed, height=24, width=20).SerializeToString() for seed in (1, 3, 4)}
    images = {seed: image_of(1, seed, 24, 20, seed=seed) for seed in models}
    question = {"targets": range(4), "patch": 6, "stride": 5}
    expected = {seed: kx.OcclusionSession(models[seed]).explain(images[seed], **question).scores for seed in models}

    def use(number: int) -> None:
        seed = list(models)[number % len(models)]
        session = kx.OcclusionSession(models[seed])
        for mode in ("exact", "naive"):
            scores = session.explain(images[seed], mode=mode, **question).scores
            assert np.abs(scores - expected[seed]).max() <= exactness_tolerance(expected[seed])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, range(12)))


def test_all_modes_at_once_on_one_session() -> None:
    image = image_of(1, 3, 64, 64)
    session = session_of()
    expected = {mode: session.explain(image, mode=mode, **QUESTION).scores for mode in ("exact", "naive")}
    plain = session.run(None, {"image": image})[0]
    with ThreadPoolExecutor(8) as pool:
        for turn in [pool.submit(session.explain, image, mode=mode, **QUESTION) for mode in list(expected) * 8]:
            found = turn.result(timeout=60)
            tolerance = exactness_tolerance(expected["naive"])
            assert np.abs(found.scores - expected[found.mode]).max() <= tolerance
        for turn in [pool.submit(session.run, None, {"image": image}) for _ in range(16)]:
            np.testing.assert_allclose(turn.result(timeout=60)[0], plain, atol=1e-5)


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_a_fill_may_explain_on_the_same_session(mode: str) -> None:
    """It runs in a worker, which must not wait for a worker."""
    image = image_of(1, 3, 64, 64)
    session = session_of(1)
    expected = session.explain(image, mode=mode, patch=16, stride=24)

    def fill(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
        inner = session.explain(image, mode=mode, patch=32, stride=32)
        return np.full((3, height, width), 0.0 if inner.complete else np.nan)

    done: list[kx.HeatMap] = []
    thread = threading.Thread(
        target=lambda: done.append(session.explain(image, mode=mode, patch=16, stride=24, fill=fill)), daemon=True
    )
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive(), "an explanation waits for itself"
    np.testing.assert_allclose(done[0].scores, expected.scores, atol=1e-5)


def test_a_batch_that_waited_too_long_for_a_worker_does_not_start() -> None:
    """One explanation has all workers; of another, whose time ends meanwhile, nothing runs but its first batch."""
    image, session = image_of(1, 3, 64, 64), session_of(1)
    session.explain(image, **QUESTION)
    calls: list[str] = []
    held = threading.Event()

    def slow(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
        held.wait(timeout=0.05)
        return np.zeros((3, height, width))

    def counted(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
        calls.append("fill")
        return np.zeros((3, height, width))

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(session.explain, image, patch=16, stride=16, batch_size=1, fill=slow)
        heat_map = session.explain(image, batch_size=1, fill=counted, time_budget=0.01, **QUESTION)
        assert other.result(timeout=60).complete
    assert not heat_map.complete and len(calls) == heat_map.computed.sum() <= 2
