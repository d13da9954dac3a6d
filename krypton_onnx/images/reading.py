"""Reading image files: pictures (whatever Pillow opens), DICOM, and .npy arrays of floats, prepared already."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from krypton_onnx.errors import ImageError, TooManyPixels, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from krypton_onnx.images.dicom import GreyValues

# As Pillow's own limit of what could be a decompression bomb, which it only warns of at half.
MAX_PIXELS = 178_956_970

_NOTES = "krypton_onnx.notes"  # in Image.info, which copies, crops and conversions of the picture keep
_ORIENTATION = 0x0112  # of Exif; 1 is upright
_DICOM_SUFFIXES = (".dcm", ".dicom")
_DICOM_MAGIC = 128, b"DICM"  # where a DICOM file says that it is one



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


def read_image_bytes(
    data: bytes, name: str = "the image", max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None
) -> Image:
    """The picture that the content of a file holds, as `read_image` reads it from a path.

    name : starts the message of an error. formats : those of Pillow that are tried (None: all); DICOM is read in any
    case. Raises TooManyPixels, before any is decoded, where there are more than `max_pixels`, ImageError as
    `read_image`.
    """
    start, magic = _DICOM_MAGIC
    if data[start : start + len(magic)] == magic:
        from krypton_onnx.images.dicom import read_dicom

        picture, words, grey = read_dicom(name, max_pixels, BytesIO(data))
        return _noted(picture, Notes(words, grey))
    return _read_picture(name, BytesIO(data), max_pixels, formats)


def _read_picture(
    path: Path | str,
    content: BytesIO | None = None,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
) -> Image:
    """From the file at `path`; or from `content`, and `path` is but its name."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Of metadata that it cannot read and of many pixels: what matters is raised.
            warnings.simplefilter("ignore")
            if formats is not None:
                Image.init()  # else some are not known by their names yet
            with Image.open(path if content is None else content, formats=formats) as file:
                if file.width * file.height > max_pixels:
                    most = "13000 x 13000" if max_pixels == MAX_PIXELS else f"{max_pixels:,} in all"
                    raise TooManyPixels(f"{path}: has {file.width} x {file.height} pixels; at most {most} are read")
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
    except Image.DecompressionBombError:
        raise TooManyPixels(f"{path}: has more pixels than 13000 x 13000, which are the most that are read") from None
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
    start, magic = _DICOM_MAGIC
    with path.open("rb") as file:
        return file.read(start + len(magic))[start:] == magic


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
