"""The shape of a patch: which pixels of its rectangle are hidden, and how far."""

from __future__ import annotations

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.fills.words import meant

SHAPES = ("rectangle", "ellipse")


def check_shape(shape: object) -> None:
    """Raises ImageError where it is neither a known word nor a mask, whatever the patch."""
    if isinstance(shape, str):
        if shape not in SHAPES:
            raise ImageError(
                f"patch_shape must be one of {', '.join(SHAPES)} or a mask of (height, width), got "
                f"{' '.join(repr(shape).split())[:80]}{meant(shape, SHAPES)}"
            )
        return
    _as_mask(shape)


def mask_of(shape: str | np.ndarray, patch: tuple[int, int]) -> np.ndarray | None:
    """float32 (h, w): 1 where the fill stands, 0 where the image stays, a blend of both between; None: 1 everywhere.

    An ellipse is the one inscribed in the patch: a pixel is hidden whole, or not at all, as its centre lies inside.
    Raises ImageError where a mask is not as large as the patch, or hides nothing.
    """
    if isinstance(shape, str):
        return None if shape == "rectangle" else _ellipse(patch)
    mask = _as_mask(shape)
    if mask.shape != patch:
        raise ImageError(
            f"patch_shape is a mask of {mask.shape[0]} x {mask.shape[1]} pixels and the patch one of {patch[0]} x "
            f"{patch[1]}: give patch=({mask.shape[0]}, {mask.shape[1]}), or a mask of the patch's size"
        )
    return None if (mask == 1).all() else mask


def _ellipse(patch: tuple[int, int]) -> np.ndarray | None:
    height, width = patch
    rows, columns = (2 * np.arange(height) + 1 - height) * width, (2 * np.arange(width) + 1 - width) * height
    mask = np.add.outer(rows**2, columns**2) <= (height * width) ** 2
    return None if mask.all() else mask.astype(np.float32)


def _as_mask(shape: object) -> np.ndarray:
    try:
        mask = np.asarray(shape)
        numbers = mask.dtype.kind in "biuf"
    except ValueError:
        numbers = False
    if not numbers or mask.ndim != 2 or not mask.size:
        got = " ".join(repr(shape).split())[:80] if not isinstance(shape, np.ndarray) else f"shape {shape.shape}"
        raise ImageError(
            f"patch_shape must be one of {', '.join(SHAPES)}, or a mask: an array of (height, width), got {got}"
        )
    mask = mask.astype(np.float32)
    if not ((mask >= 0) & (mask <= 1)).all():
        raise ImageError("patch_shape: a mask has values from 0 (visible) to 1 (hidden): divide one of bytes by 255")
    if not mask.any():
        raise ImageError("patch_shape: the mask is 0 everywhere, which hides nothing")
    return mask
