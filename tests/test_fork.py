"""Sessions and other processes: forked ones, at any moment, and spawned ones. A hang fails, and stays no longer."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_models import image_of, tiny

import krypton_onnx as kx
from krypton_onnx import forking

MODEL = tiny().SerializeToString()
IMAGE = image_of(1, 3, 20, 24)
QUESTION = {"targets": range(4), "patch": 5, "stride": 4}
PATIENCE = 20.0  # seconds for a child that takes one

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    # Python's own warning about what is tested here.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def threaded(workers: int = 2) -> kx.OcclusionSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = workers
    return kx.OcclusionSession(MODEL, options)


def everything(session: kx.OcclusionSession) -> list[np.ndarray]:
    """All that a session can do: exact, naive, approximate, run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = [session.explain(IMAGE, mode=mode, **QUESTION).scores for mode in ("exact", "naive", "approximate")]
    return [*maps, session.run(None, {"image": IMAGE})[0]]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for have, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(have, want, atol=1e-5)


def in_child(work: Callable[[], None]) -> int:
    """Exit status of a child by os.fork that does `work`; it is killed, and the test fails, where it hangs."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return ended(child)


def ended(child: int) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


# -- fork ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_forked_child_uses_the_session_of_its_parent(used: bool) -> None:
    expected = everything(threaded())
    session = threaded()
    if used:
        everything(session)
    assert in_child(lambda: assert_same(everything(session), expected)) == 0
    assert_same(everything(session), expected)  # and the parent goes on


def test_a_grandchild() -> None:
    session = threaded()
    expected = everything(session)

    def child() -> None:
        assert_same(everything(session), expected)
        assert in_child(lambda: assert_same(everything(session), expected)) == 0

    assert in_child(child) == 0


def test_a_child_that_ends_as_programs_do_does_not_wait_for_the_threads_of_its_parent() -> None:
    """Modules and sessions are torn down at the end of a program, but not by os._exit, which the tests here use.

    Without the telemetry of ONNX Runtime 1.31, whose own teardown hangs in every forked process that imported it.
    """
    program = (
        "import os, sys; sys.path.insert(0, 'tests')\n"
        "import test_fork as here\n"
        "session = here.threaded(); expected = here.everything(session)\n"
        "idle = here.threaded(); here.everything(idle)\n"
        "child = os.fork()\n"
        "if child:\n    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "here.assert_same(here.everything(session), expected)\n"
        "del session\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE,
        cwd=Path(__file__).parents[1], env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@contextmanager
def explaining(session: kx.OcclusionSession, callers: int, **named) -> Iterator[None]:
    """While so many threads explain, again and again."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def explain() -> None:
        try:
            while not stop.is_set():
                session.explain(IMAGE, patch=5, stride=3, **named)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=explain) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_forks_while_other_threads_explain(mode: str) -> None:
    session = threaded()
    expected = everything(session)
    with explaining(session, 4, mode=mode):
        for _ in range(4):
            assert in_child(lambda: assert_same(everything(session), expected)) == 0
    assert_same(everything(session), expected)


def test_forks_while_other_threads_make_sessions() -> None:
    expected = everything(threaded())
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set():
            kx.OcclusionSession(MODEL).explain(IMAGE, patch=5, stride=9)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert in_child(lambda: assert_same(everything(threaded()), expected)) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_fork_waits_for_native_calls_and_they_for_it() -> None:
    """What makes the tests above sure, and not just likely, to pass."""
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def native_call() -> None:
        with forking.native():
            inside.set()
            leave.wait(timeout=PATIENCE)
            order.append("call")

    thread = threading.Thread(target=native_call)
    thread.start()
    assert inside.wait(timeout=PATIENCE)
    threading.Timer(0.3, leave.set).start()
    assert in_child(lambda: order.append("fork") if order == ["call"] else os._exit(3)) == 0
    thread.join()
    with forking.native():  # open again, here and in the child
        pass
    assert order == ["call"]


def test_locks_that_another_thread_holds_are_new_in_the_child() -> None:
    session = threaded()
    expected = everything(session)
    locks = [session._lock, session._engine(IMAGE.shape)._lock, session._pool._lock]
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.acquire()
        held.set()
        leave.wait(timeout=PATIENCE)
        for lock in locks:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(timeout=PATIENCE)
        assert in_child(lambda: assert_same(everything(session), expected)) == 0
    finally:
        leave.set()
        thread.join()


def test_settings_of_blas_are_the_hosts_in_a_child_born_while_a_map_is_computed() -> None:
    from test_explain import blas_threads
    from threadpoolctl import threadpool_limits

    session = threaded()
    everything(session)
    with threadpool_limits(limits=2, user_api="blas"):

        def fork(done: int, total: int) -> None:
            statuses.append(in_child(lambda: os._exit(0 if set(blas_threads()) == {2} else 3)))

        statuses: list[int] = []
        session.explain(IMAGE, patch=5, stride=24, progress=fork)
        assert statuses and set(statuses) == {0}


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_a_child_that_a_callback_forks_cannot_go_on_with_the_map(mode: str) -> None:
    """Its workers are in the parent; it may explain, but not come back to the explanation that it was born in."""
    session = threaded()
    expected = everything(session)
    born: list[int] = []

    def progress(done: int, total: int) -> None:
        if not born:
            born.append(os.fork())

    try:
        heat_map = session.explain(IMAGE, mode=mode, batch_size=2, progress=progress, **QUESTION)
    except kx.KryptonError as error:
        if born[0]:
            raise
        status = 3
        if "forked while a map is computed" in str(error):
            assert_same(everything(session), expected)
            status = 0
        os._exit(status)
    if not born[0]:
        os._exit(4)
    assert heat_map.complete and ended(born[0]) == 0


# -- multiprocessing -------------------------------------------------------------------------------------------------

shared: kx.OcclusionSession | None = None


def of_the_parent(_: int) -> list[np.ndarray]:
    assert shared is not None
    return everything(shared)


def of_its_own(session: kx.OcclusionSession) -> list[np.ndarray]:
    return everything(session)


@pytest.fixture
def share() -> Iterator[list[np.ndarray]]:
    global shared
    shared = threaded()
    yield everything(shared)
    shared = None


@pytest.mark.parametrize("busy", [False, True], ids=["alone", "while others explain"])
def test_a_pool_of_forked_processes(share: list[np.ndarray], busy: bool) -> None:
    assert shared is not None
    with explaining(shared, 3 if busy else 0), multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map_async(of_the_parent, range(4)).get(timeout=PATIENCE):
            assert_same(found, share)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_session_is_sent_to_a_process_pool(share: list[np.ndarray], method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        if method == "fork":
            assert_same(pool.submit(of_the_parent, 0).result(timeout=PATIENCE), share)
        assert_same(pool.submit(of_its_own, shared).result(timeout=PATIENCE), share)


@pytest.mark.parametrize("form", ["path", "bytes", "ModelProto"])
def test_a_pickled_session_is_the_same_session(form: str, tmp_path: Path) -> None:
    onnx.save(tiny(), str(tmp_path / "model.onnx"))
    model = {"path": tmp_path / "model.onnx", "bytes": MODEL, "ModelProto": tiny()}[form]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = kx.OcclusionSession(model, options, providers="CPUExecutionProvider", image_input="image", strict=True)
    copy = pickle.loads(pickle.dumps(session))
    assert_same(everything(copy), everything(session))
    assert copy._settings == session._settings and copy._settings.strict and copy._settings.workers == 1
    assert copy._options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert (copy.image_input, copy.layout, copy.image_dims) == (session.image_input, session.layout, session.image_dims)
