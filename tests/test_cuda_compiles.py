"""Every CUDA kernel compiled, without a GPU: the simulator runs Python, and finds no errors of types.

For the CPU, with a GPU's types, by Numba itself: then the tests of test_cuda_kernels.py run on them, at real sizes too.
For a GPU, where numba-cuda and two libraries of NVIDIA's compiler (wheels, too) are installed: what they make is read.
"""

import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS, target  # noqa: F401  imports the kernels
from krypton_onnx.numba_kernels.cuda.compiled import KERNELS

NAMES = [f"{kernel.function.__module__}.{kernel.function.__name__}" for kernel in KERNELS]
SUMS_IN_FLOAT64 = {name for name in NAMES if ".global_pool." in name}
ARITHMETIC = re.compile(r"\b(?:add|sub|mul|mad|fma|div|cvt)\.\S*f64")
WIDE_DIVISION = re.compile(r"\b(?:div|rem)\.[su]64")


def missing() -> str:
    """What compiling needs that is not installed; "" where all is."""
    if find_spec("numba_cuda") is None:
        return "numba-cuda"
    from cuda.pathfinder import load_nvidia_dynamic_lib

    for library in ("nvvm", "nvrtc"):
        try:
            load_nvidia_dynamic_lib(library)
        except Exception:  # its errors share no base class
            return f"NVIDIA's {library}"
    return ""


for_a_gpu = pytest.mark.skipif(
    bool(missing()), reason=f"{missing()} is not installed: pip install numba-cuda nvidia-nvvm nvidia-cuda-nvrtc"
)


@cache
def compiled() -> dict[str, str]:
    """PTX by kernel, from a process that does not run in the simulator."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    script = Path(__file__).with_name("cuda_ptx.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@for_a_gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_compiles_to_what_a_gpu_is_fast_at(name: str) -> None:
    text = compiled()[name]
    assert text.count(".visible .entry") == 1
    if name not in SUMS_IN_FLOAT64:
        assert not ARITHMETIC.search(text), "it computes in float64"
    else:
        assert ARITHMETIC.search(text)
    assert not WIDE_DIVISION.search(text), "it divides 64-bit numbers"
    assert ".local" not in text, "it keeps variables in memory instead of registers"
    assert "call" not in text, "a function that it calls was not inlined"


@for_a_gpu
def test_the_mistakes_that_are_looked_for_are_found() -> None:
    planted = compiled()["planted"]
    assert ARITHMETIC.search(planted)
    assert WIDE_DIVISION.search("div.s64 %rd1, %rd2, %rd3;") and not WIDE_DIVISION.search("div.u32 %r1, %r2, %r3;")


@pytest.mark.skipif(not target.SIMULATED, reason="these tests run compiled already")
def test_kernels_compiled_with_the_types_of_a_gpu_give_what_they_give_in_the_simulator() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    environment["KRYPTON_TEST_CUDA"] = "compiled"
    chosen = "winograd or chunks or real_size or infinite or float64 or (equals_its_body and not Relu and not Clip)"
    files = ["test_cuda_kernels.py", "cuda_real_sizes.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parent, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 45 and "skipped" not in done.stdout
