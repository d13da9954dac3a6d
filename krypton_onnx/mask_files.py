"""The shape of a patch in a file: a grey picture whose white hides, or a .npy array from 0 to 1."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.images import read_image
from krypton_onnx.runtime.fills.shapes import SHAPES, check_shape, meant
from krypton_onnx.values import shown


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """float32 (h, w), 0 visible, 1 hidden. Raises ImageError with one line that names the file where it is no mask."""
    source = read_image(path)
    if not isinstance(source, np.ndarray):
        if source.mode not in ("1", "L", "P", "RGB"):
            raise ImageError(f"{path}: a mask is a grey picture of 8 bits, not one of mode {source.mode}")
        source = np.asarray(source.convert("RGB"))
        if (source != source[:, :, :1]).any():
            raise ImageError(f"{path}: a mask is a grey picture, and this one has colours: white hides, black does not")
        source = source[:, :, 0].astype(np.float32) / 255
    try:
        check_shape(source)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    return np.asarray(source, np.float32)


def patch_shape(shape: str) -> str | np.ndarray:
    """What OcclusionSession.explain takes: a word as it is, and the mask in a file. Raises ImageError as read_mask."""
    return shape if shape in SHAPES else read_mask(shape)


def read_patch_shape(value: object) -> str:
    """A word, or what can be the path of a mask. Raises ValueError with what it must be."""
    what = f"must be {', '.join(SHAPES)} or the path of a mask"
    if isinstance(value, np.ndarray):
        raise ValueError(f"{what}: an array cannot be written to a file; pass it to OcclusionSession.explain")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not (isinstance(value, str) and value and "\0" not in value):
        raise ValueError(f"{what}, got {shown(value)}")
    if value not in SHAPES and Path(value).name == value and not Path(value).suffix:
        raise ValueError(f"{what} (.png, .npy), got {shown(value)}{meant(value, SHAPES)}")
    return value
