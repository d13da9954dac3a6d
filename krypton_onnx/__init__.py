"""Occlusion explanations of CNNs, exact and many times faster, for any ONNX model.

    import krypton_onnx as kx
    session = kx.OcclusionSession("model.onnx")
    heat_map = session.explain(image)

Names are imported when they are first used, so that importing the package (and the command line's --help) is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from krypton_onnx import ray
    from krypton_onnx.checking import CheckReport, check
    from krypton_onnx.conversion import ConversionReport, convert
    from krypton_onnx.errors import ImageError, KryptonError, ModelError
    from krypton_onnx.explanation import Explanation
    from krypton_onnx.images import Preparation
    from krypton_onnx.inspection import Inspection, inspect
    from krypton_onnx.registration import register
    from krypton_onnx.runtime.heat_map import HeatMap
    from krypton_onnx.runtime.session import OcclusionSession
    from krypton_onnx.runtime.tuner import tune
    from krypton_onnx.runtime.tuning import Tuning
    from krypton_onnx.specification import ExplanationSpec

__version__ = "0.1.0"

_HOMES = {
    "CheckReport": "checking",
    "ConversionReport": "conversion",
    "Explanation": "explanation",
    "ExplanationSpec": "specification",
    "HeatMap": "runtime.heat_map",
    "ImageError": "errors",
    "Inspection": "inspection",
    "KryptonError": "errors",
    "ModelError": "errors",
    "OcclusionSession": "runtime.session",
    "Preparation": "images",
    "Tuning": "runtime.tuning",
    "check": "checking",
    "convert": "conversion",
    "inspect": "inspection",
    "register": "registration",
    "tune": "runtime.tuner",
}
_ROOMS = ("ray",)  # modules that are public under their own name

__all__ = [
    "CheckReport",
    "ConversionReport",
    "Explanation",
    "ExplanationSpec",
    "HeatMap",
    "ImageError",
    "Inspection",
    "KryptonError",
    "ModelError",
    "OcclusionSession",
    "Preparation",
    "Tuning",
    "check",
    "convert",
    "inspect",
    "ray",
    "register",
    "tune",
]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name == "onnxruntime":
            raise ImportError(
                "krypton-onnx needs ONNX Runtime: pip install 'krypton-onnx[cpu]' or 'krypton-onnx[gpu]', never both"
            ) from None
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_ROOMS])
