"""Finding and loading the C shim (shim.c); it is built with the package, where there is a C compiler."""

import ctypes
from functools import cache
from pathlib import Path


def shim_path() -> Path | None:
    """The shim, or None where the package was installed without a C compiler."""
    path = Path(__file__).with_name("_shim.so")
    return path if path.is_file() else None


@cache
def load_shim(path: Path) -> ctypes.CDLL:
    """The loaded shim, the same image that ONNX Runtime opens by this path. OSError if it does not load."""
    return ctypes.CDLL(str(path))
