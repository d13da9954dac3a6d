"""Which execution provider a session runs on, and the seam to a GPU: pointers and streams, where there is no GPU."""

import sys
from ctypes import c_void_p
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
from tiny_models import tiny
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app
from krypton_onnx.rewriter import ort_sessions
from krypton_onnx.runtime import providers
from krypton_onnx.runtime.cuda import device
from krypton_onnx.runtime.cuda.target import Target
from krypton_onnx.runtime.providers import AUTO, CPU, CUDA, choose_providers

needs_no_cuda = pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this onnxruntime has CUDA")


# -- asked for by name ---------------------------------------------------------------------------------------


@needs_no_cuda
def test_cuda_that_is_not_there_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(kx.ModelError, match=f"provider '{CUDA}' is not available here; this onnxruntime has: .*{CPU}"):
        kx.OcclusionSession(tiny(), providers=[CUDA])
    (tmp_path / "model.onnx").write_bytes(tiny().SerializeToString())
    np.save(tmp_path / "image.npy", np.zeros((3, 20, 24), np.float32))
    asked = ["explain", str(tmp_path / "model.onnx"), str(tmp_path / "image.npy"), "-o", str(tmp_path / "map.png")]
    result = CliRunner().invoke(app, [*asked, "--providers", "cuda"])
    assert result.exit_code == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "provider 'cuda' is not available here" in result.stderr
    assert not (tmp_path / "map.png").exists()


def test_a_provider_that_does_not_start_is_no_silent_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime leaves out one whose libraries are missing, and goes on with the next."""
    made = SimpleNamespace(get_providers=lambda: [CPU])
    monkeypatch.setattr(ort_sessions.ort, "InferenceSession", lambda *given, **named: made)
    options = ort.SessionOptions()
    with pytest.raises(kx.ModelError, match=f"provider '{CUDA}' does not start here.*would run on: {CPU}"):
        ort_sessions.open_session(b"", options, [(CUDA, {"device_id": 0}), CPU])
    assert ort_sessions.open_session(b"", options, [CPU]) is made


def test_empty_and_unknown_providers() -> None:
    with pytest.raises(kx.ModelError, match="providers is empty"):
        choose_providers([], None)
    with pytest.raises(kx.ModelError, match="provider 'NoProvider' is not available"):
        choose_providers(["NoProvider"], None)


# -- chosen --------------------------------------------------------------------------------------------------


@needs_no_cuda
def test_auto_without_cuda_is_the_cpu_and_says_so(tmp_path) -> None:
    session = kx.OcclusionSession(tiny(), providers=AUTO)
    assert session.get_providers() == [CPU]
    assert session.provider_note == f"providers: the CPU, since this onnxruntime has no {CUDA}"
    assert kx.OcclusionSession(tiny()).provider_note == ""
    (tmp_path / "model.onnx").write_bytes(tiny().SerializeToString())
    np.save(tmp_path / "image.npy", np.zeros((3, 20, 24), np.float32))
    asked = ["explain", str(tmp_path / "model.onnx"), str(tmp_path / "image.npy"), "-o", str(tmp_path / "map.npz")]
    result = CliRunner().invoke(app, [*asked, "--providers", "auto"])
    assert result.exit_code == 0 and session.provider_note in result.stderr
    quiet = CliRunner().invoke(app, [*asked, "--providers", "auto", "--quiet"])
    assert quiet.exit_code == 0 and session.provider_note not in quiet.stderr


def test_auto_takes_cuda_where_it_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(providers, "cuda_target", lambda chosen: None)
    found = choose_providers(AUTO, None)
    assert found.first == CUDA and found.names[1] == CPU and found.note == f"providers: {CUDA}"


def test_auto_says_why_cuda_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable(chosen: object) -> None:
        raise kx.ModelError("no GPU")

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(providers, "cuda_target", unusable)
    found = choose_providers(AUTO, None)
    assert found.names == (CPU,) and found.note == "providers: the CPU, since no GPU"
    with pytest.raises(kx.ModelError, match="provider_options belong to providers that are named"):
        choose_providers(AUTO, [{}])


@pytest.mark.parametrize(
    ("asked", "options", "expected"),
    [
        ([CUDA, CPU], None, ((CUDA, {"use_tf32": "0"}), CPU)),
        ([(CUDA, {"device_id": 1})], None, ((CUDA, {"use_tf32": "0", "device_id": 1}),)),
        ([(CUDA, {"use_tf32": "1"})], None, ((CUDA, {"use_tf32": "1"}),)),
        ([CPU], None, (CPU,)),
    ],
)
def test_tf32_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch, asked, options, expected) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    assert choose_providers(asked, options).names == expected


def test_tf32_is_off_in_options_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    found = choose_providers([CUDA, CPU], [{"device_id": 1}, {}])
    assert found.names == (CUDA, CPU) and found.options == ({"use_tf32": "0", "device_id": 1}, {})


# -- the seam to the device ----------------------------------------------------------------------------------


class FakeCuda:
    """As much of numba.cuda as the seam calls; every call is kept."""

    implementation = "NVIDIA"

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = [None] * gpus
        self.selected: list[int] = []

    def select_device(self, number: int) -> None:
        self.selected.append(number)

    def synchronize(self) -> None:
        self.selected.append(-1)

    def external_stream(self, pointer: int) -> tuple[str, int]:
        return "external", pointer

    def default_stream(self) -> str:
        return "default"

    def as_cuda_array(self, pointer: object, sync: bool) -> SimpleNamespace:
        assert not sync, "to wait for a stream is what must not happen"
        return SimpleNamespace(interface=pointer.__cuda_array_interface__)

    def device_array(self, shape: tuple[int, ...], dtype: np.dtype) -> str:
        return f"empty {shape}"

    def to_device(self, values: np.ndarray) -> np.ndarray:
        return values


def fake_device(copies: list | None = None, number: int = 0) -> device.CudaDevice:
    def copy(to: int, source: int, size: int, kind: int) -> None:
        (copies if copies is not None else []).append((to, source, size, kind))

    runtime = SimpleNamespace(memcpy=copy, memGetInfo=lambda: (7, 9))
    current = SimpleNamespace(use=lambda: None)
    cuda = SimpleNamespace(runtime=runtime, Device=lambda number: current)
    return device.CudaDevice(number, FakeCuda(), SimpleNamespace(cuda=cuda))


def api_with_stream(handle: int) -> SimpleNamespace:
    """Answers KernelContext_GetGPUComputeStream as ONNX Runtime does: into an address."""

    def answer(context: int, out: int) -> None:
        assert context == 55
        c_void_p.from_address(out).value = handle

    return SimpleNamespace(KernelContext_GetGPUComputeStream=answer, check=lambda status: None)


def test_kernels_get_onnx_runtimes_own_stream() -> None:
    gpu = fake_device()
    assert gpu.stream(api_with_stream(0x1234), 55) == ("external", 0x1234)
    assert gpu.stream(api_with_stream(0x1234), 55) is gpu.stream(api_with_stream(0x1234), 55)
    assert gpu.stream(api_with_stream(0x5678), 55) == ("external", 0x5678)
    assert gpu.stream(api_with_stream(0), 55) == "default"


def test_pointers_become_arrays_without_a_copy() -> None:
    copies: list = []
    gpu = fake_device(copies)
    array = gpu.array(0xABC0, (2, 3), np.dtype(np.float32))
    assert array.interface == {
        "shape": (2, 3), "typestr": "<f4", "data": (0xABC0, False), "version": 3, "strides": None, "stream": None
    }  # fmt: skip
    assert gpu.array(0xABC0, (2, 3), np.dtype(np.float32)) is array
    assert gpu.array(0xABC0, (3, 2), np.dtype(np.float32)) is not array
    assert gpu.array(0xABC0, (2, 3), np.dtype(np.int64)).interface["typestr"] == "<i8"
    assert gpu.array(0, (0, 3), np.dtype(np.float32)) == "empty (0, 3)"
    assert copies == []


def test_wrapped_pointers_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_KEPT_ARRAYS", 3)
    gpu = fake_device()
    for address in range(1, 20):
        assert gpu.array(address, (1,), np.dtype(np.float32)).interface["data"] == (address, False)
        assert len(gpu._arrays) <= 3


def test_constants_come_from_either_memory() -> None:
    copies: list = []
    values = fake_device(copies).download(0xABC0, (2, 3), np.dtype(np.float32))
    assert values.shape == (2, 3) and values.dtype == np.float32
    assert copies == [(values.ctypes.data, 0xABC0, 24, 4)]  # 4: cudaMemcpyDefault
    assert fake_device(copies).download(0, (0,), np.dtype(np.int64)).shape == (0,) and len(copies) == 1


def test_incremental_sessions_search_no_algorithm_for_every_shape() -> None:
    """Regions have many shapes; who says how to search is heard."""

    def target(names: tuple, options: tuple | None = None) -> Target:
        return Target(fake_device(), (), names, options, "cuda", 0, lambda: 0)

    rule = {"cudnn_conv_algo_search": "HEURISTIC"}
    own = {"cudnn_conv_algo_search": "EXHAUSTIVE"}
    assert target((CUDA, CPU)).search() == (((CUDA, rule), CPU), None)
    assert target(((CUDA, {"device_id": 1}),)).search() == (((CUDA, {**rule, "device_id": 1}),), None)
    assert target(((CUDA, own),)).search() == (((CUDA, own),), None)
    assert target((CUDA, CPU), ({}, {})).search() == ((CUDA, CPU), (rule, {}))
    assert target((CPU,)).search() == ((CPU,), None)


def test_the_gpu_is_made_current_once_a_thread() -> None:
    gpu = fake_device(number=2)
    for _ in range(3):
        gpu.stream(api_with_stream(1), 55)
    assert gpu._cuda.selected == [2] and gpu.free_bytes() == 7
    gpu.wait()
    assert gpu._cuda.selected == [2, -1]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"numba.cuda": object()}, "needs numba-cuda; Numba's own CUDA target is too old: pip install 'krypton-onnx"),
        ({"cupy": None, "numba.cuda": FakeCuda()}, "needs CuPy for its matrix products .*pip install 'krypton-onnx"),
        ({"cupy": SimpleNamespace(), "numba.cuda": FakeCuda(0)}, "device_id is 0, but there are 0 GPUs"),
    ],
)
def test_what_is_missing_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, modules: dict, message: str) -> None:
    import numba

    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        if name == "numba.cuda":
            monkeypatch.setattr(numba, "cuda", module, raising=False)
    device.cuda_device.cache_clear()
    with pytest.raises(kx.ModelError, match=message) as raised:
        device.cuda_device(0)
    assert "\n" not in str(raised.value)


def test_a_driver_that_is_missing_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    class NoDriver:
        implementation = "NVIDIA"

        @property
        def gpus(self) -> list:
            raise RuntimeError("CUDA driver library cannot be found.\nIf you are sure...")

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "numba.cuda", NoDriver())
    monkeypatch.setattr(numba, "cuda", NoDriver(), raising=False)
    device.cuda_device.cache_clear()
    with pytest.raises(kx.ModelError, match=r"finds no GPU that it can use: CUDA driver library cannot be found\. If"):
        device.cuda_device(0)


def test_a_gpu_is_not_used_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = fake_device()
    monkeypatch.setattr(device, "generation", lambda: 1)
    with pytest.raises(kx.ModelError, match="cannot be used in a forked process"):
        gpu.free_bytes()


@pytest.mark.parametrize("number", ["first", "-1", "1.5"])
def test_a_device_id_that_is_no_number_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    with pytest.raises(kx.ModelError, match=f"device_id must be the number of a GPU, counted from 0, got '{number}'"):
        kx.OcclusionSession(tiny(), providers=[(CUDA, {"device_id": number})])
