"""Which GPU there is, what is installed for it, and what of that can be used."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np

from krypton_onnx.errors import one_line
from krypton_onnx.runtime import custom_ops
from krypton_onnx.runtime.session import available_cores

CUDA = "CUDAExecutionProvider"
PACKAGES = (
    "krypton-onnx", "onnxruntime-gpu", "onnxruntime", "onnx", "numba", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x",
    "cupy", "torch", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "nvidia-cublas", "nvidia-cublas-cu12",
)  # fmt: skip
TF32 = (
    "TF32 is off: use_tf32=0 in ONNX Runtime (ours and naive), CUBLAS_COMPUTE_32F in our products, allow_tf32=False in "
    "PyTorch"
)


@dataclass(frozen=True)
class GpuPlace:
    """Where it is measured. memory_gb: of the GPU. missing: of "onnxruntime", "numba", "cupy", "torch" and
    "library" (our native one) those that cannot be used, and why. GPU details are "" where nothing tells them."""

    gpu: str
    driver: str
    memory_gb: float
    capability: str
    versions: dict[str, str]
    providers: tuple[str, ...]
    missing: dict[str, str]
    tf32: str
    cpu: str
    cores: int
    date: str

    @property
    def sessions(self) -> bool:
        """Whether sessions can run on CUDA: what part (b) needs."""
        return not {"onnxruntime", "numba", "cupy", "library"} & set(self.missing)

    @property
    def kernels(self) -> bool:
        """Whether kernels can run on it: what part (c) needs."""
        return not {"numba", "cupy"} & set(self.missing)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GpuPlace:
        return cls(**{**values, "providers": tuple(values["providers"])})


def find() -> GpuPlace:
    """This machine."""
    import onnxruntime as ort

    gpu, driver, memory, capability = _from_driver()
    checks: dict[str, Callable[[], None]] = {
        "onnxruntime": _use_onnxruntime, "numba": _use_numba, "cupy": _use_cupy, "torch": _use_torch,
        "library": _use_library,
    }  # fmt: skip
    missing = {}
    for name, use in checks.items():
        try:
            use()
        except Exception as error:  # libraries of CUDA fail in ways of their own
            missing[name] = one_line(error) or type(error).__name__
    override = os.environ.get("NVIDIA_TF32_OVERRIDE")
    return GpuPlace(
        gpu, driver, memory, capability, _versions(), tuple(ort.get_available_providers()), missing,
        TF32 + (f"; NVIDIA_TF32_OVERRIDE={override}" if override else ""), _cpu(), available_cores(),
        datetime.date.today().isoformat(),
    )  # fmt: skip


def _from_driver() -> tuple[str, str, float, str]:
    """Name, driver, gigabytes and compute capability of the first GPU, as nvidia-smi tells them."""
    query = "name,driver_version,memory.total,compute_cap"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        name, driver, memory, capability = (word.strip() for word in done.stdout.splitlines()[0].split(","))
        return name, driver, float(memory) / 1024, capability
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return "", "", 0.0, ""


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    from machine import cpu_model

    return cpu_model()


def preload() -> None:
    """Load CUDA's libraries from the wheels that hold them, where ONNX Runtime would not look by itself."""
    import onnxruntime as ort

    if CUDA in ort.get_available_providers() and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def _use_onnxruntime() -> None:
    import onnxruntime as ort
    from onnx import parser

    if CUDA not in ort.get_available_providers():
        raise RuntimeError(f"onnxruntime {ort.__version__} has no {CUDA}: pip install onnxruntime-gpu in its place")
    preload()
    model = parser.parse_model('<ir_version: 8, opset_import: ["": 18]> g (float[2] x) => (float[2] y) { y = Neg (x) }')
    session = ort.InferenceSession(model.SerializeToString(), providers=[CUDA])
    if CUDA not in session.get_providers():
        raise RuntimeError(f"{CUDA} does not start: libraries of CUDA or cuDNN are missing or of another version")
    session.run(None, {"x": np.ones(2, np.float32)})


def _use_numba() -> None:
    from krypton_onnx.numba_kernels.cuda.target import SIMULATED, cuda, require_numba_cuda

    if SIMULATED:
        raise RuntimeError("Numba's simulator is chosen (NUMBA_ENABLE_CUDASIM)")
    require_numba_cuda()
    if not len(cuda.gpus):
        raise RuntimeError("Numba finds no GPU")


def _use_cupy() -> None:
    import cupy

    if not cupy.cuda.runtime.getDeviceCount():
        raise RuntimeError("CuPy finds no GPU")
    cupy.cuda.device.get_cublas_handle()


def _use_library() -> None:
    if custom_ops.shim_path() is None:
        raise RuntimeError("krypton-onnx was installed without a C compiler")


def _use_torch() -> None:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no GPU")
