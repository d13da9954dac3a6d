"""Many images on a cluster, by Ray Data: `kx.ray.explain("scans/", "model.onnx", output="maps/")`.

Workers hold a session each; image files go in, maps come out as Parquet, and a second start goes on where one ended.
Ray and PyArrow are the extra `ray`; names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from krypton_onnx.ray.records import Result
    from krypton_onnx.ray.results import failures, read
    from krypton_onnx.ray.running import Summary, explain
    from krypton_onnx.ray.sources import images

_HOMES = {
    "Result": "records",
    "Summary": "running",
    "explain": "running",
    "failures": "results",
    "images": "sources",
    "read": "results",
}

__all__ = ["Result", "Summary", "explain", "failures", "images", "read"]

MISSING = "to explain on Ray, the packages of the extra are needed: pip install 'krypton-onnx[ray]'"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("ray", "pyarrow"):
            raise ImportError(f"{MISSING} (there is no {error.name})") from None
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
