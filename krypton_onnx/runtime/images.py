"""The image as the model wants it: one float32 array of batch 1 in the model's own layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from krypton_onnx.errors import ImageError


@dataclass(frozen=True)
class InputSpec:
    """An input beside the image. batch: what the image's first dimension is called; one image is explained, so 1."""

    dtype: np.dtype
    dims: tuple[int | str | None, ...]
    batch: int | str | None

    @property
    def sizes(self) -> tuple[int | None, ...]:
        return tuple(dim if isinstance(dim, int) else 1 if dim and dim == self.batch else None for dim in self.dims)


def split_feeds(image: np.ndarray | Mapping[str, np.ndarray], image_input: str) -> tuple[np.ndarray, dict]:
    """The image and the other inputs, from an array or {input: array}. Raises ImageError without the image."""
    if not isinstance(image, Mapping):
        return _as_array(image), {}
    if image_input not in image:
        raise ImageError(f"the feeds have no '{image_input}', the image input; they have: {', '.join(image)}")
    return _as_array(image[image_input]), {name: value for name, value in image.items() if name != image_input}


def other_feeds(others: Mapping[str, object], wanted: Mapping[str, InputSpec]) -> dict[str, np.ndarray]:
    """The inputs beside the image, as the model wants them.

    Raises ImageError where one is missing, unknown, or of another shape or type.
    """
    for name in others:
        if name not in wanted:
            have = ", ".join(wanted) or "none"
            raise ImageError(f"the model has no input '{name}'; its inputs beside the image are: {have}")
    feeds = {}
    for name, spec in wanted.items():
        if name not in others:
            raise ImageError(f"the model also needs the input '{name}': pass {{input: array}} with every input")
        array = np.asarray(others[name])
        if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
            raise ImageError(f"input '{name}' has dtype {array.dtype}; the model wants {spec.dtype}")
        if array.ndim != len(spec.dims) or not _fits(array.shape, spec.sizes):
            text = " x ".join("any" if size is None else str(size) for size in spec.sizes) or "a single number"
            raise ImageError(f"input '{name}' has shape {array.shape}; the model wants {text}")
        feeds[name] = np.asarray(array, spec.dtype, order="C")
    return feeds


def as_batch(image: np.ndarray, dims: tuple[int | str | None, ...], layout: str) -> np.ndarray:
    """float32 (1, ...) in the model's layout.

    image : (C, H, W), (1, C, H, W), or the model's own layout, which wins where both fit.
    dims : the model's dimensions of the image input; int where they are fixed.
    Raises ImageError where the image does not fit.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "fiub":
        raise ImageError(f"the image has dtype {array.dtype}; expected float32 in the model's input space")
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[0] != 1:
        raise ImageError(f"the image has shape {np.shape(image)}; expected (C, H, W) or (1, C, H, W)")
    wanted = tuple(dim if isinstance(dim, int) else None for dim in dims[1:])
    if _fits(array.shape[1:], wanted):
        own = array
    elif layout == "NHWC" and _fits(array.transpose(0, 2, 3, 1).shape[1:], wanted):
        own = array.transpose(0, 2, 3, 1)
    else:
        raise ImageError(_mismatch(np.shape(image), wanted, layout))
    with np.errstate(over="ignore"):  # reported below
        batch = np.ascontiguousarray(own, dtype=np.float32)
    if not np.isfinite(batch).all():
        raise ImageError("the image has values that are not finite (NaN or infinity): replace them")
    return batch


def as_type(batch: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The batch in the type of the model's image input. Raises ImageError where that type cannot hold its values."""
    with np.errstate(over="ignore", invalid="ignore"):
        typed = batch.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(typed, batch):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        raise ImageError(f"the model's image is {dtype}: give whole numbers from {low} to {high}")
    if dtype.kind == "f" and not np.isfinite(typed).all():
        raise ImageError(f"the model's image is {dtype}, which cannot hold values as large as {np.abs(batch).max():g}")
    return typed


def _as_array(image: object) -> np.ndarray:
    try:
        return np.asarray(image)
    except ValueError:
        raise ImageError("the image is not an array: its rows differ in length") from None


def channels_first(batch: np.ndarray, layout: str) -> np.ndarray:
    """(C, H, W) of a batch of 1 in the model's layout."""
    return batch[0] if layout == "NCHW" else batch[0].transpose(2, 0, 1)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return all(want is None or have == want for have, want in zip(shape, wanted, strict=True))


def _mismatch(shape: tuple[int, ...], wanted: tuple[int | None, ...], layout: str) -> str:
    channel = 0 if layout == "NCHW" else 2
    names = "channels, height, width" if layout == "NCHW" else "height, width, channels"
    text = " x ".join("any" if want is None else str(want) for want in wanted)
    counts = {shape[-3], shape[-1]}
    if wanted[channel] is not None and wanted[channel] not in counts:
        return f"the image has shape {shape}, but the model wants {wanted[channel]} channels ({names}: {text})"
    return f"the image has shape {shape}, but the model wants {text} ({names}): resize it"
