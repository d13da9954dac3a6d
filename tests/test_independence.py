"""What must not matter: batch size, threads, memory; and what must not change: the host's own settings."""

import gc
import subprocess
import sys

import numba
import numpy as np
import onnxruntime as ort
import pytest
from families import FAMILIES, example_image
from naive import session_of
from threadpoolctl import threadpool_info
from tiny_models import image_of, tiny

import krypton_onnx as kx
from krypton_onnx.numba_kernels import products
from krypton_onnx.runtime import budget
from krypton_onnx.tolerance import exactness_tolerance

PATCH, STRIDE = (6, 5), (5, 3)


def explained(name: str, threads: int, batch_size: int | None) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = FAMILIES[name]()
    session = kx.OcclusionSession(model.SerializeToString(), options)
    output = model.graph.output[0].name
    image = example_image(model)
    question = {"targets": range(3), "patch": PATCH, "stride": STRIDE, "output": output}
    return session.explain(image, batch_size=batch_size, **question).scores


@pytest.mark.parametrize("name", ["vgg", "resnet18_legacy", "mobilenet_v2", "inception"])
def test_scores_do_not_depend_on_batch_size_or_threads(name: str) -> None:
    reference = explained(name, 1, None)
    for threads, batch_size in ((1, 1), (3, 7), (2, 64)):
        difference = np.abs(explained(name, threads, batch_size) - reference).max()
        assert difference <= exactness_tolerance(reference), (threads, batch_size)


def settings_of_the_host() -> dict[str, object]:
    """Thread settings that other code of this process relies on."""
    return {
        "pools": [{key: pool[key] for key in ("filepath", "num_threads")} for pool in threadpool_info()],
        "numba": (numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS, numba.config.THREADING_LAYER),
        "switch interval": sys.getswitchinterval(),
    }


def test_thread_settings_of_the_host_are_as_they_were() -> None:
    model, image = tiny().SerializeToString(), image_of(1, 3, 20, 24)
    kx.OcclusionSession(model).explain(image, patch=4)  # every library is loaded from here on
    numba.set_num_threads(1)
    try:
        before = settings_of_the_host()
        session = kx.OcclusionSession(model)
        session.explain(image, patch=4, stride=2)
        session.explain(image, patch=4, stride=2, mode="naive")
        assert settings_of_the_host() == before
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    # An ordinary session with threads of its own still loads and runs: no global thread pool took over.
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    plain = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    expected = session_of(model).run(None, {plain.get_inputs()[0].name: image})[0]
    np.testing.assert_allclose(plain.run(None, {plain.get_inputs()[0].name: image})[0], expected, atol=1e-6)


def test_an_explanation_starts_no_threads_of_numba() -> None:
    text = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import numba, krypton_onnx as kx\n"
        "from tiny_models import image_of, tiny\n"
        "kx.OcclusionSession(tiny().SerializeToString()).explain(image_of(1, 3, 20, 24), patch=4)\n"
        "try:\n    print(numba.threading_layer())\nexcept ValueError:\n    print('none')\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


def test_sessions_of_one_model_share_their_prepared_weights() -> None:
    model, image = FAMILIES["vgg"]().SerializeToString(), example_image(FAMILIES["vgg"]())
    gc.collect()
    none = len(products._prepared)
    first = kx.OcclusionSession(model)
    first.explain(image, patch=PATCH, stride=16)
    alone = len(products._prepared)
    second = kx.OcclusionSession(model)
    second.explain(image, patch=PATCH, stride=16)
    assert none < alone == len(products._prepared)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_memory_budget_makes_batches_smaller_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    session = kx.OcclusionSession(tiny().SerializeToString())
    image = image_of(1, 3, 20, 24)
    reference = session.explain(image, patch=4, stride=1)
    monkeypatch.setattr(budget, "resident_bytes", lambda: 10_000_000)
    monkeypatch.setattr(budget, "LIVE_ACTIVATIONS", 200)  # so that a position of this small model takes megabytes
    sizes: dict[int, int] = {}
    for megabytes in (20, 40, 1000):
        done = [0]
        heat_map = session.explain(
            image, patch=4, stride=1, memory_budget=megabytes * 1_000_000,
            progress=lambda count, total, done=done: done.append(count),
        )  # fmt: skip
        np.testing.assert_allclose(heat_map.scores, reference.scores, atol=exactness_tolerance(reference.scores))
        sizes[megabytes] = max(np.diff(done))
    assert sizes[20] < sizes[40] < sizes[1000]


def test_a_memory_budget_that_is_too_small_says_what_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    session = kx.OcclusionSession(tiny().SerializeToString())
    monkeypatch.setattr(budget, "resident_bytes", lambda: 10_000_000)
    with pytest.raises(kx.ImageError, match=r"memory_budget of 1 MB is too small .* at least (\d+) MB") as error:
        session.explain(image_of(1, 3, 20, 24), patch=4, memory_budget=1_000_000)
    enough = int(str(error.value).split()[-2]) + 1
    assert session.explain(image_of(1, 3, 20, 24), patch=4, memory_budget=enough * 1_000_000).complete


@pytest.mark.parametrize("value", [0, -1, 2.5, "1 GB"])
def test_a_memory_budget_is_a_number_of_bytes(value: object) -> None:
    with pytest.raises(kx.ImageError, match="memory_budget must be a number of bytes"):
        kx.OcclusionSession(tiny().SerializeToString()).explain(
            image_of(1, 3, 20, 24), patch=4, memory_budget=value
        )
