"""explain: the grid, batches, threads, progress, time budget, and what happens when something raises."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from naive import naive_map
from threadpoolctl import threadpool_info, threadpool_limits
from tiny_models import image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.runtime import engine
from krypton_onnx.runtime.custom_ops import shim_path
from krypton_onnx.runtime.session import MOST_ENGINES, available_cores

IMAGE = image_of(1, 3, 20, 24)
MODEL = tiny().SerializeToString()
needs_shim = pytest.mark.skipif(shim_path() is None, reason="installed without a C compiler")


@pytest.fixture(scope="module")
def session() -> kx.OcclusionSession:
    return kx.OcclusionSession(MODEL)


def threaded(workers: int) -> kx.OcclusionSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = workers
    return kx.OcclusionSession(MODEL, sess_options=options)


def expected_map(heat_map: kx.HeatMap, fill: float = 0.0) -> np.ndarray:
    patch = np.full((3, *heat_map.patch), fill, np.float32)
    scores, _ = naive_map(MODEL, IMAGE, heat_map.tops, heat_map.lefts, patch)
    return scores[:, list(heat_map.targets)].T.reshape(heat_map.scores.shape)


# -- the grid ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize(
    "patch, stride, tops, lefts",
    [
        (5, 5, [0, 5, 10, 15], [0, 5, 10, 15]),  # in the frame's 24 columns one more would not fit at 20
        ((6, 3), (7, 10), [0, 7, 14], [0, 10, 20]),  # the last row and column end with the image
        ((6, 3), (7, 21), [0, 7, 14], [0, 21]),
        (1, (19, 23), [0, 19], [0, 23]),
        ((20, 24), 1, [0], [0]),  # the whole image
        ((20, 1), 12, [0], [0, 12]),
        (7, 1000, [0], [0]),  # a stride larger than the image
        (7, 2**62, [0], [0]),
        (np.array([6, 3]), (np.int64(7), 10.0), [0, 7, 14], [0, 10, 20]),
    ],
)
def test_the_grid_holds_every_position_where_the_patch_fits(
    session, patch, stride, tops, lefts, mode
) -> None:
    heat_map = session.explain(IMAGE, targets=range(4), patch=patch, stride=stride, mode=mode)
    np.testing.assert_array_equal(heat_map.tops, tops)
    np.testing.assert_array_equal(heat_map.lefts, lefts)
    assert heat_map.patch == (patch, patch) if isinstance(patch, int) else tuple(patch)
    assert_scores_equal(heat_map.scores, expected_map(heat_map), probabilities=False)
    assert heat_map.complete and heat_map.computed.all() and heat_map.mode == mode


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize(
    "region, patch, tops, lefts",
    [
        ((3, 2, 12, 24), 5, [3, 6], [2, 5, 8, 11, 14, 17]),
        ((0, 0, 20, 24), 19, [0], [0, 3]),
        ((19, 23, 20, 24), 1, [19], [23]),  # one pixel, in the corner
        ((7, 0, 12, 5), 5, [7], [0]),
    ],
)
def test_a_region_restricts_the_grid(session, region, patch, tops, lefts, mode) -> None:
    heat_map = session.explain(IMAGE, targets=[0, 3], patch=patch, stride=3, region=region, mode=mode)
    np.testing.assert_array_equal(heat_map.tops, tops)
    np.testing.assert_array_equal(heat_map.lefts, lefts)
    assert_scores_equal(heat_map.scores, expected_map(heat_map), probabilities=False)


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 63, 64, 10**9, np.int64(5)])
def test_the_batch_size_does_not_change_the_map(session, batch_size, mode) -> None:
    heat_map = session.explain(IMAGE, targets=range(4), patch=4, stride=3, mode=mode, batch_size=batch_size)
    assert_scores_equal(heat_map.scores, expected_map(heat_map), probabilities=False)


@needs_shim
@pytest.mark.parametrize("strict", [False, True])
def test_strict_reaches_the_kernels(monkeypatch: pytest.MonkeyPatch, strict: bool) -> None:
    made = []

    def spying(kernel):
        def make(attributes, constants, strict):
            made.append((kernel.op_type, strict))
            return kernel.make(attributes, constants, strict)

        return replace(kernel, make=make)

    monkeypatch.setattr(engine, "CPU_KERNELS", [spying(kernel) for kernel in CPU_KERNELS])
    heat_map = kx.OcclusionSession(MODEL, strict=strict).explain(IMAGE, targets=range(4), patch=4, stride=3)
    assert_scores_equal(heat_map.scores, expected_map(heat_map), probabilities=False)
    assert "IncrementalMaxPool" in {name for name, _ in made} and {flag for _, flag in made} == {strict}


# -- progress, updates, time ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_progress_only_grows_and_ends_at_the_total(session, mode) -> None:
    calls: list[tuple[int, int]] = []
    heat_map = session.explain(
        IMAGE, patch=4, stride=3, mode=mode, batch_size=5, progress=lambda *call: calls.append(call)
    )
    done, totals = zip(*calls, strict=True)
    assert set(totals) == {heat_map.computed.size} and done[-1] == heat_map.computed.size
    assert len(calls) >= heat_map.computed.size // 5
    assert (np.diff(done) > 0).all() and done[0] > 0


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_updates_only_add_and_the_last_is_the_result(session, mode) -> None:
    updates: list[kx.HeatMap] = []
    result = session.explain(
        IMAGE, targets=[1, 2], patch=4, stride=3, mode=mode, batch_size=5, on_update=updates.append
    )
    assert len(updates) > 2 and not updates[0].complete and updates[-1].complete
    for earlier, later in zip(updates, [*updates[1:], result], strict=True):
        assert (later.computed | ~earlier.computed).all() and later.mode == mode
        np.testing.assert_array_equal(later.scores[:, earlier.computed], earlier.scores[:, earlier.computed])
    for update in updates:
        np.testing.assert_array_equal(np.isnan(update.scores), ~np.stack([update.computed] * 2))
        assert update.complete == update.computed.all()
    np.testing.assert_array_equal(updates[-1].scores, result.scores)
    np.testing.assert_array_equal(updates[-1].baseline, result.baseline)


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_a_spent_time_budget_leaves_the_rest_out(mode) -> None:
    session = threaded(2)
    heat_map = session.explain(
        IMAGE, targets=[0, 1], patch=4, stride=2, mode=mode, batch_size=3, time_budget=0
    )
    # Something is always computed: at most one batch a thread.
    assert not heat_map.complete and 1 <= heat_map.computed.sum() <= 6
    assert np.isnan(heat_map.scores[:, ~heat_map.computed]).all()
    expected = expected_map(heat_map)[:, heat_map.computed]
    assert_scores_equal(heat_map.scores[:, heat_map.computed], expected, probabilities=False)


def test_no_batch_starts_after_the_time_budget() -> None:
    def slow(image, top, left, height, width):
        time.sleep(0.02)
        return np.zeros((3, height, width))

    start = time.monotonic()
    heat_map = threaded(1).explain(IMAGE, patch=4, stride=1, batch_size=1, fill=slow, time_budget=0.2)
    assert 2 <= heat_map.computed.sum() <= 10 and not heat_map.complete
    assert time.monotonic() - start < 5  # all 357 would take 7


def test_a_large_time_budget_changes_nothing(session) -> None:
    assert session.explain(IMAGE, patch=4, stride=3, time_budget=1e6).complete


# -- threads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_batches_at_once_as_the_session_options_say(workers: int) -> None:
    together = threading.Barrier(workers)  # fills wait for each other: passes only if that many run at once
    running, most = 0, 0
    lock = threading.Lock()

    def fill(image, top, left, height, width):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(timeout=20)
        with lock:
            running -= 1
        return np.zeros((3, height, width))

    # Six positions, a multiple of the workers, one a batch.
    heat_map = threaded(workers).explain(IMAGE, patch=4, stride=(8, 20), batch_size=1, fill=fill)
    assert heat_map.computed.size == 6 and heat_map.complete
    assert most == workers


@pytest.mark.parametrize("workers", [-1, 0])
def test_without_a_number_of_threads_every_core_works(workers: int) -> None:
    assert threaded(workers)._settings.workers == available_cores() >= 1
    assert threaded(workers).explain(IMAGE, patch=4, stride=9).complete


def test_two_threads_explain_different_images_at_once(session) -> None:
    images = [image_of(1, 3, 20, 24, seed=seed) for seed in (1, 2)]
    question = {"targets": range(4), "patch": 4, "stride": 1, "batch_size": 8}
    alone = [session.explain(image, **question).scores for image in images]
    together = threading.Barrier(2)
    found: list = [None, None]

    def explain(index: int) -> None:
        together.wait()
        found[index] = [session.explain(images[index], **question).scores for _ in range(3)]

    threads = [threading.Thread(target=explain, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        for scores in found[index]:
            np.testing.assert_allclose(scores, alone[index], rtol=1e-5, atol=1e-5)


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_runs_one_thread_a_worker_and_is_restored(session) -> None:
    inside: list[list[int]] = []
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        session.explain(IMAGE, patch=4, progress=lambda done, total: inside.append(blas_threads()))
        assert blas_threads() == before and set(before) == {2}
    assert inside and all(set(threads) == {1} for threads in inside)


# -- what raises ---------------------------------------------------------------------------------------------


def boom(*_):
    raise ZeroDivisionError("boom")


@pytest.mark.parametrize("mode", ["exact", "naive"])
@pytest.mark.parametrize("where", ["progress", "on_update", "fill", "score"])
def test_an_exception_of_the_caller_comes_back_and_nothing_stays_behind(
    session, where: str, mode: str
) -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        threads = set(threading.enumerate())
        with pytest.raises(ZeroDivisionError, match="boom"):
            session.explain(IMAGE, patch=4, stride=1, batch_size=4, mode=mode, **{where: boom})
        assert set(threading.enumerate()) == threads
        assert blas_threads() == before
    assert session.explain(IMAGE, patch=4, stride=5, mode=mode).complete  # and the session still works


def test_an_exception_stops_the_work_that_has_not_started() -> None:
    filled = []

    def fill(image, top, left, height, width):
        filled.append((top, left))
        return np.zeros((3, height, width))

    with pytest.raises(ZeroDivisionError):
        threaded(2).explain(IMAGE, patch=4, stride=1, batch_size=1, fill=fill, progress=boom)
    assert len(filled) <= 4  # of 357


def failing(where: str) -> Callable:
    """`make` of a kernel that raises when it is made, or when it runs."""
    return boom if where == "make" else lambda attributes, constants, strict: boom


@needs_shim
@pytest.mark.parametrize("where", ["make", "compute"])
def test_an_exception_in_a_kernel_names_the_node(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    kernels = [
        replace(kernel, make=failing(where)) if kernel.op_type == "IncrementalMaxPool" else kernel
        for kernel in CPU_KERNELS
    ]
    monkeypatch.setattr(engine, "CPU_KERNELS", kernels)
    session = kx.OcclusionSession(MODEL)
    before = blas_threads()
    with pytest.raises(Exception, match="ZeroDivisionError: boom") as raised:
        session.explain(IMAGE, patch=4, stride=5)
    assert "krypton/node_MaxPool" in str(raised.value) and "IncrementalMaxPool" in str(raised.value)
    assert blas_threads() == before


def test_a_session_keeps_what_it_made_for_the_sizes_used_last_only():
    """A folder of pictures of many sizes must not fill the memory; an earlier size is made anew, and the same."""
    session = kx.OcclusionSession(tiny(height="height", width="width"))
    images = [image_of(1, 3, 20, 24 + size) for size in range(MOST_ENGINES + 3)]
    first = [session.explain(image, patch=6, stride=6).scores for image in images]
    assert len(session._engines) == MOST_ENGINES
    np.testing.assert_array_equal(session.explain(images[0], patch=6, stride=6).scores, first[0])
    latest = session._engine((1, 3, 20, 24))
    for image in images[1:MOST_ENGINES]:
        session.explain(image, patch=6, stride=6)
    assert session._engine((1, 3, 20, 24)) is latest
