"""Reading image files: pictures (whatever Pillow opens), DICOM, and .npy arrays of floats, prepared already."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from krypton_onnx.errors import ImageError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from krypton_onnx.images.dicom import GreyValues

# As Pillow's own limit of what could be a decompression bomb, which it only warns of at half.
MAX_PIXELS = 178_956_970

_NOTES = "krypton_onnx.notes"  # in Image.info, which copies, crops and conversions of the picture keep
_ORIENTATION = 0x0112  # of Exif; 1 is upright
_DICOM_SUFFIXES = (".dcm", ".dicom")


@dataclass(frozen=True, eq=False)
class Notes:
    """What a picture does not tell of itself. words : how it was read. grey : what its values mean, from DICOM."""

    words: tuple[str, ...] = ()
    grey: GreyValues | None = None


def notes_of(picture: Image) -> Notes:
    """Those that `read_image` left with a picture; empty ones of any other."""
    notes = picture.info.get(_NOTES)
    return notes if isinstance(notes, Notes) else Notes()


def read_image(path: str | os.PathLike[str]) -> Image | np.ndarray:
    """A picture as Pillow reads it (turned upright), or the float array of a .npy file as it is.

    A grey DICOM file becomes a picture of mode "F", of the values that its modality LUT or rescaling gives; its window
    is applied when it is prepared. Raises ImageError where there is no such file, it is no image, or holds several.
    Of a photograph with preview images behind it (MPO, as phones write) the photograph is read.
    """
    path = _regular_file(path)
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    try:
        if path.suffix.lower() in _DICOM_SUFFIXES or _starts_as_dicom(path):
            from krypton_onnx.images.dicom import read_dicom

            picture, words, grey = read_dicom(path, MAX_PIXELS)
            return _noted(picture, Notes(words, grey))
        return _read_picture(path)
    except OSError as error:
        raise ImageError(f"{path}: the image cannot be read: {one_line(error)}") from None


def _read_picture(path: Path) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Of metadata that it cannot read and of many pixels: what matters is raised.
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise ImageError(f"{path}: has {file.width} x {file.height} pixels; at most 13000 x 13000 are read")
                frames, words = getattr(file, "n_frames", 1), []
                if frames > 1:
                    if file.format != "MPO":
                        raise ImageError(f"{path}: holds {frames} images; save the one to explain by itself")
                    words.append(f"the first of {frames} images in the file")
                if file.getexif().get(_ORIENTATION, 1) in range(2, 9):  # gone once it is loaded, for a TIFF
                    words.append("turned upright")
                file.load()
                return _noted(ImageOps.exif_transpose(file), Notes(tuple(words)))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image in a format known here (PNG, JPEG, TIFF, DICOM, ..., .npy)") from None
    except Exception as error:  # Pillow's readers raise what comes of a broken file: struct.error, IndexError, ...
        raise ImageError(f"{path}: the image cannot be read: {one_line(error) or type(error).__name__}") from None


def upright(picture: Image) -> Image:
    """The picture as it is meant to be seen: turned as its EXIF data say, where somebody else opened it.

    Raises ImageError where these, or the picture, cannot be read.
    """
    from PIL import ImageOps

    notes = notes_of(picture)
    try:
        if picture.getexif().get(_ORIENTATION, 1) not in range(2, 9):
            return picture
        return _noted(ImageOps.exif_transpose(picture), Notes((*notes.words, "turned upright"), notes.grey))
    except Exception as error:  # Pillow's readers raise what comes of a broken file
        raise ImageError(f"the image cannot be read: {one_line(error) or type(error).__name__}") from None


def _noted(picture: Image, notes: Notes) -> Image:
    if notes.words or notes.grey is not None:
        picture.info[_NOTES] = notes
    return picture


def _starts_as_dicom(path: Path) -> bool:
    """By the magic of a DICOM file, which may have any name."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _regular_file(path: str | os.PathLike[str]) -> Path:
    """Raises ImageError where it is none: to open a pipe would wait for ever, and a device may have no end."""
    try:
        path = Path(path)
        if path.is_file():
            return path
        if path.is_dir():
            raise ImageError(f"{path}: is a folder; give the path of an image")
        if path.exists():
            raise ImageError(f"{path}: is not a regular file; give the path of an image")
    except (OSError, ValueError, TypeError) as error:  # a name that is too long, or holds a zero byte, or is no name
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{str(path)[:200]}: cannot be read: {one_line(error)[:200]}") from None
    raise ImageError(f"{path}: no such file; give the path of an image")


def _read_array(path: Path) -> np.ndarray:
    try:
        # Mapped first: a header of a few bytes can claim any size, and only then is it held against that of the file.
        with np.errstate(over="ignore"):  # of the size that it computes
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # NumPy's reader raises what comes of a broken header: SyntaxError, TokenError, ...
        raise ImageError(f"{path}: not a .npy array of numbers, or cut short, or empty") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = getattr(array, "dtype", "an archive")
        raise ImageError(f"{path}: holds {kind}; an array is taken as it is, so it must be prepared floats")
    if array.size > 3 * MAX_PIXELS:
        raise ImageError(f"{path}: has {array.size:,} values, more than any image here")
    return np.array(array)
