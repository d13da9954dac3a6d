"""A value of a dataset as an image to explain: the content of a file, where a file is, or an array."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from krypton_onnx.errors import ImageError, one_line
from krypton_onnx.images.reading import read_image_bytes
from krypton_onnx.ray.storage import resolved

if TYPE_CHECKING:
    from PIL.Image import Image

_ARRAY_MAGIC = b"\x93NUMPY"  # of a .npy file


def content_of(value: Any) -> bytes | np.ndarray:
    """The value itself, or what is in the file that it names. Raises ImageError where it is no image, or not there."""
    if isinstance(value, str):
        return _file(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value
    kind = "missing" if value is None else f"of type {type(value).__name__}"
    raise ImageError(f"the image is {kind}: give the content of a file, its path or URI, or an array")


def digest_of(content: bytes | np.ndarray) -> str:
    """SHA-256 of the file's content, or of the array's bytes in C order."""
    data = np.ascontiguousarray(content).data if isinstance(content, np.ndarray) else content
    return hashlib.sha256(data).hexdigest()


def image_of(content: bytes | np.ndarray, name: str) -> Image | np.ndarray:
    """A picture, which will be prepared, or an array of floats, which is taken as it is. name : for messages.

    An array of bytes (uint8) of (H, W), (H, W, 1) or (H, W, 3) is a picture, as ray.data.read_images gives it. Raises
    ImageError where the content of a file is no image.
    """
    if isinstance(content, np.ndarray):
        return _picture(content) if content.dtype == np.uint8 else content
    if content.startswith(_ARRAY_MAGIC):
        return _array(content)
    return read_image_bytes(content, name)


def _file(location: str) -> bytes:
    if "://" not in location:
        try:
            with open(location, "rb") as file:
                return file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise ImageError(f"cannot be read on this node: {reason}") from None
    system, path = resolved(location)
    try:
        with system.open_input_stream(path) as stream:
            return stream.read()
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"cannot be read: {one_line(error)[:300]}") from None


def _picture(values: np.ndarray) -> Image:
    from PIL import Image

    flat = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if not (flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] == 3)):
        raise ImageError(f"the image is an array of bytes of shape {values.shape}; a picture is (H, W) or (H, W, 3)")
    return Image.fromarray(np.ascontiguousarray(flat))


def _array(content: bytes) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:  # NumPy's reader raises what comes of a broken header: SyntaxError, TokenError, ...
        raise ImageError("not a .npy array of numbers, or cut short, or empty") from None
    if array.dtype.kind != "f":
        raise ImageError(f"holds {array.dtype}; an array is taken as it is, so it must be prepared floats")
    return array
