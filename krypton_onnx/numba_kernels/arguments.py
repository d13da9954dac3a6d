"""From the arrays and attributes a node hands over to the canonical arguments the kernels are compiled for.

Numba compiles one version a combination of argument types, so every array arrives in one form only: writeable,
aligned, C-contiguous, rows flattened. A row of `width` pixels of C channels is one span of width * C floats;
most loops then run over spans, which is what makes them fast.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

_NO_ROWS = np.zeros((1, 1, 1), np.float32)
_NO_VIEW = np.zeros((1, 1), np.float32)
NO_ORIGIN = np.zeros((1, 2), np.int64)


def canonical(array: np.ndarray) -> np.ndarray:
    """The same values as a writeable, aligned, C-contiguous array (a copy only where it is not one already)."""
    flags = array.flags
    if flags.c_contiguous and flags.writeable and flags.aligned:
        return array
    return np.array(array, order="C")


class Source(NamedTuple):
    """A patch activation over its view.

    patch (N, h, w*C) and view (H, W*C) float32, rows flattened; origin (N, 2) int64: (top, left) of the patches.
    """

    patch: np.ndarray
    origin: np.ndarray
    view: np.ndarray


def source(patch: np.ndarray, origin: np.ndarray, view: np.ndarray) -> tuple[Source, int]:
    """The source made of patch (N,h,w,C), origin (N,2) and view (1,H,W,C), and C."""
    n, h, w, channels = patch.shape
    _, height, width, _ = view.shape
    rows = canonical(patch).reshape(n, h, w * channels)
    return Source(rows, canonical(origin), canonical(view).reshape(height, width * channels)), channels


class Residual(NamedTuple):
    """What is added before the activation: a source, or `present` == 0 and placeholders."""

    present: int
    patch: np.ndarray
    origin: np.ndarray
    view: np.ndarray


NO_RESIDUAL = Residual(0, _NO_ROWS, NO_ORIGIN, _NO_VIEW)


def residual(inputs: Sequence[np.ndarray | None], first: int) -> Residual:
    """The residual in inputs[first:first+3] (patch, origin, view), or NO_RESIDUAL where it is absent."""
    if len(inputs) <= first or inputs[first] is None:
        return NO_RESIDUAL
    patch, origin, view = inputs[first : first + 3]
    if patch is None or origin is None or view is None:
        raise ValueError("a residual needs its patch, its origin and its view")
    return Residual(1, *source(patch, origin, view)[0])


class Spatial(NamedTuple):
    """Geometry of a local operator: kernel, strides, begin pads and dilations, each as (y, x)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    dilations: tuple[int, int]


SPATIAL_ATTRIBUTES = {"kernel_shape": "ints", "strides": "ints", "pads": "ints", "dilations": "ints"}


def _pair(values: object, default: tuple[int, int]) -> tuple[int, int]:
    if values is None or len(values) == 0:  # type: ignore[arg-type]
        return default
    return int(values[0]), int(values[1])  # type: ignore[index]


def spatial(attributes: Mapping[str, object], kernel: tuple[int, int] = (1, 1)) -> Spatial:
    """Read kernel_shape, strides, pads and dilations; `kernel` is used where kernel_shape is not given."""
    return Spatial(
        _pair(attributes.get("kernel_shape"), kernel),
        _pair(attributes.get("strides"), (1, 1)),
        _pair(attributes.get("pads"), (0, 0)),
        _pair(attributes.get("dilations"), (1, 1)),
    )


ACTIVATION_ATTRIBUTES = {"activation": "string", "clip_min": "float", "clip_max": "float"}


def limits(attributes: Mapping[str, object]) -> tuple[float, float]:
    """The activation as a clamp (low, high): every supported one is, and "" is (-inf, inf)."""
    kind = attributes.get("activation") or ""
    if isinstance(kind, bytes):
        kind = kind.decode()
    if kind == "":
        return -np.inf, np.inf
    if kind == "Relu":
        return 0.0, np.inf
    if kind == "Clip":
        low, high = attributes.get("clip_min"), attributes.get("clip_max")
        return float(-np.inf if low is None else low), float(np.inf if high is None else high)  # type: ignore
    raise ValueError(f"activation {kind!r} is not one of '', 'Relu', 'Clip'")


def pair(extent: np.ndarray) -> tuple[int, int]:
    """(height, width) of an int64 (2,) extent."""
    height, width = extent.tolist()
    return height, width
