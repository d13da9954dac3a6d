"""DICOM files, by pydicom: pixels, modality values, and the window that makes grey of them (PS3.3, C.11 and C.7.6.3).

Only the elements that the picture needs are read, so nothing of a patient is ever in memory here, nor in a message.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from krypton_onnx.errors import ImageError, TooManyPixels
from krypton_onnx.images.preparation import window_words, windowed

if TYPE_CHECKING:
    from PIL.Image import Image
    from pydicom import Dataset

_MODALITY = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
_PRIMARIES = ("Red", "Green", "Blue")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
_ELEMENTS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData",
    "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PaletteColorLookupTableUID",
    *(f"{one}PaletteColorLookupTableDescriptor" for one in _PRIMARIES),
    *(f"{one}PaletteColorLookupTableData" for one in _PRIMARIES),
    *(f"Segmented{one}PaletteColorLookupTableData" for one in _PRIMARIES),
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "VOILUTSequence", *_MODALITY, *_WINDOW,
)  # fmt: skip
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PALETTE = 1 << 16  # entries of a palette, at most
_GREYS = ("MONOCHROME1", "MONOCHROME2")
# Of these pydicom gives red, green and blue.
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True, eq=False)
class GreyValues:
    """How the values of a grey DICOM picture become pixel values 0 to 255.

    window : a data set of the file's first window and its function, and nothing else. table : the first value of the
    file's VOI LUT, and the pixel values 0 to 255 from there on; it counts before a window. whole : for files that have
    neither, the least and the largest value of 8 bits or fewer; None where there are more, which need a window.
    """

    window: Dataset | None
    table: tuple[int, np.ndarray] | None
    whole: tuple[float, float] | None
    inverted: bool

    def pixels(self, values: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
        """float32, 0 (black) to 255 (white). window : (centre, width) in place of the file's own."""
        if window is not None:
            grey = windowed(values, window)
        elif self.table is not None:
            first, entries = self.table
            grey = entries[np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)]
        elif self.window is not None:
            from pydicom.pixels import apply_windowing

            grey = apply_windowing(values, self.window)
        elif self.whole is not None:
            low, high = self.whole
            grey = (values.astype(np.float64) - low) * (255 / (high - low))
        else:
            raise ImageError(
                f"the DICOM file names no window, and its values run from {values.min():g} to {values.max():g}: give "
                "the centre and width of those to be seen (--window 40,400)"
            )
        grey = np.clip(grey, 0, 255)
        return (255 - grey if self.inverted else grey).astype(np.float32)

    def words(self, window: tuple[float, float] | None) -> tuple[str, ...]:
        """What `pixels` does."""
        if window is not None:
            steps = [window_words(window)]
        elif self.table is not None:
            steps = ["the file's own look-up table (VOI LUT)"]
        elif self.window is not None:
            centre, width = self.window.WindowCenter, self.window.WindowWidth
            kind = self.window.VOILUTFunction.lower().replace("_", " ")
            steps = [f"the file's own window: centre {centre:g}, width {width:g} ({kind})"]
        else:
            low, high = self.whole or (0.0, 255.0)
            whole = (low, high) == (0.0, 255.0)
            steps = [] if whole else [f"values {low:g} to {high:g}, the whole range of the file's bits"]
        return (*steps, "inverted (MONOCHROME1)") if self.inverted else tuple(steps)


def read_dicom(
    path: Path | str, most_pixels: int, content: BytesIO | None = None
) -> tuple[Image, tuple[str, ...], GreyValues | None]:
    """A grey file as a picture of mode "F" of its modality values, a coloured one of mode RGB; words; what greys mean.

    content : of the file, where `path` is but its name.

    Raises ImageError where pydicom is not installed, or the file holds no single picture that can be read.
    """
    try:
        import pydicom
    except ImportError:
        raise ImageError(
            f"{path}: is a DICOM file; to read these: pip install 'krypton-onnx[dicom]' (pydicom)"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that break a rule of DICOM; they would be shown
            # A file with the suffix of one may lack its first 132 bytes.
            data = pydicom.dcmread(path if content is None else content, force=True, specific_tags=list(_ELEMENTS))
            _require_picture(data, path, most_pixels)
            return _read(data, path)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{path}: the DICOM file does not fit into memory") from None
    except Exception as error:  # Not its text, which may quote any value of the file.
        raise ImageError(f"{path}: the DICOM file cannot be read ({type(error).__name__})") from None


def _require_picture(data: Dataset, path: Path | str, most_pixels: int) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not any(name in data for name in _PIXELS) or "Rows" not in data or "Columns" not in data:
        raise ImageError(f"{path}: holds no DICOM picture; give the file of an image")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ImageError(
            f"{path}: holds {frames} frames; save the one to explain as a file by itself"
        )
    if data.Rows * data.Columns > most_pixels:
        raise TooManyPixels(f"{path}: has {data.Columns} x {data.Rows} pixels; at most {most_pixels:,} in all are read")
    kind = data.get("PhotometricInterpretation")
    if kind not in (*_GREYS, *_COLOURS, "PALETTE COLOR"):
        raise ImageError(f"{path}: its colours are {str(kind)[:20]}, which is not read here; convert it to RGB")
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        # As pydicom takes it to be; without it no pixels are decoded.
        implicit, little = data.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = plain
    try:
        decodable = get_decoder(data.file_meta.TransferSyntaxUID).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        raise _undecodable(data, path)
    _require_honest(data, path)


def _require_honest(data: Dataset, path: Path | str) -> None:
    """Raises ImageError where what is compressed is larger than the file says: it would be made before it is seen."""
    from PIL import Image
    from pydicom.encaps import generate_frames

    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        frame = next(generate_frames(data.PixelData, number_of_frames=1))
        with contextlib.suppress(Image.UnidentifiedImageError), Image.open(BytesIO(frame)) as inside:
            if inside.size != (data.Columns, data.Rows):
                raise TooManyPixels(
                    f"{path}: says {data.Columns} x {data.Rows} pixels, and holds {inside.width} x {inside.height}"
                )
    for primary in _PRIMARIES:
        entries = _segmented_entries(data.get(f"Segmented{primary}PaletteColorLookupTableData"))
        if entries > _PALETTE:
            raise ImageError(f"{path}: its palette has more than {_PALETTE} entries, which no palette has")


def _segmented_entries(table: bytes | None) -> int:
    """Entries of a palette in segments (DICOM PS3.3 C.7.9.2), in words of 16 bits; indirect ones, which repeat others,
    count as too many."""
    words = np.frombuffer((table or b"")[: 2 * (len(table or b"") // 2)], "<u2")
    at = entries = 0
    while at + 1 < len(words) and entries <= _PALETTE:
        opcode, length = int(words[at]), int(words[at + 1])
        entries += length if opcode in (0, 1) else _PALETTE + 1
        at += 2 + (length if opcode == 0 else 1)
    return entries


def _undecodable(data: Dataset, path: Path | str) -> ImageError:
    return ImageError(
        f"{path}: its pixels are compressed ({data.file_meta.TransferSyntaxUID.name}), and nothing installed decodes "
        "them: pip install python-gdcm, or decompress the file first (gdcmconv --raw)"
    )


def _read(data: Dataset, path: Path | str) -> tuple[Image, tuple[str, ...], GreyValues | None]:
    from PIL import Image
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    _flatten_groups(data)
    try:
        stored = pixel_array(data)  # YBR becomes RGB
    except RuntimeError:
        if data.file_meta.TransferSyntaxUID.is_encapsulated:
            raise _undecodable(data, path) from None
        raise
    kind = data.PhotometricInterpretation
    words = (f"DICOM, {kind}", f"{data.get('BitsStored') or stored.dtype.itemsize * 8} bits")
    if kind in _GREYS:
        values = apply_modality_lut(stored, data)
        return Image.fromarray(values.astype(np.float32)), words, _grey_values(data, stored.dtype.kind == "f")
    bits = int(data.BitsStored)
    if kind == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)
        bits = 8 * stored.dtype.itemsize
    if bits != 8:
        stored = np.rint(stored * (255 / (2**bits - 1)))
    return Image.fromarray(stored.astype(np.uint8)), words, None


def _flatten_groups(data: Dataset) -> None:
    """What enhanced files say of their only frame in functional groups, where other files say it."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (data.get(groups) or [])[:1]:
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in (group.get(name) or [])[:1]:
                    for element in (*_MODALITY, *_WINDOW):
                        if element in item:
                            data[element] = item[element]


def _grey_values(data: Dataset, floats: bool) -> GreyValues:
    return GreyValues(
        window=_first_window(data),
        table=_voi_table(data) if data.get("VOILUTSequence") else None,
        whole=None if floats else _whole_range(data),
        inverted=data.PhotometricInterpretation == "MONOCHROME1",
    )


def _first_window(data: Dataset) -> Dataset | None:
    """A data set that makes pydicom's windowing give 0 to 255; None where the file has no window that is one."""
    from pydicom import Dataset

    centre, width = (_first(data.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return None
    function = (data.get("VOILUTFunction") or "LINEAR").upper()
    if not (np.isfinite(centre) and np.isfinite(width)) or width < (1 if function == "LINEAR" else 1e-9):
        return None
    window = Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, width, function
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 8, 0
    return window


def _first(value: Any) -> float | None:
    """Of one value or several; None where there is none."""
    values = list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    return None if not values or values[0] in (None, "") else float(values[0])


def _voi_table(data: Dataset) -> tuple[int, np.ndarray]:
    """The first value that the file's first VOI LUT maps, and what it maps it and the following to, as 0 to 255."""
    from pydicom.pixels import apply_voi

    item = data.VOILUTSequence[0]
    count, first, bits = item.LUTDescriptor
    if first >= 2**15 and _least(data) < 0:  # a signed number, which a file of implicit types does not say
        first -= 2**16
        item.LUTDescriptor = [count, first, bits]
    if bits == 8:
        item.LUTDescriptor = [count, first, 16]  # with 8, pydicom counts the entries in 8 bits
    values = np.arange(first, first + (count or 2**16))
    return int(first), apply_voi(values, data).astype(np.float64) * (255 / (2**bits - 1))


def _least(data: Dataset) -> float:
    """The least value that the file's numbers can stand for."""
    bits, signed = int(data.BitsStored), bool(data.get("PixelRepresentation"))
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    if slope is None or intercept is None:
        return float(ends[0])
    return float(min(end * slope + intercept for end in ends))


def _whole_range(data: Dataset) -> tuple[float, float] | None:
    if data.get("ModalityLUTSequence"):
        bits = int(data.ModalityLUTSequence[0].LUTDescriptor[2])
        return (0.0, 2.0**bits - 1) if bits <= 8 else None
    bits = int(data.BitsStored)
    if bits > 8:
        return None
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if data.get("PixelRepresentation") else (0, 2**bits - 1)
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    if slope is None or intercept is None:
        return float(low), float(high)
    ends = sorted((float(low * slope + intercept), float(high * slope + intercept)))
    return ends[0], ends[1]
