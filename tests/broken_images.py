"""Broken and unusual images, made by code: each takes a folder and returns the path to give.

`BROKEN` must be refused in one line, `SOUND` must be explained. The model takes 3 x 24 x 20 (`for_pictures`).
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from graph_builder import Graph
from PIL import Image

Maker = Callable[[Path], Path]
BROKEN: dict[str, Maker] = {}
SOUND: dict[str, Maker] = {}

HEIGHT, WIDTH = 24, 20
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
FLOATS = np.random.default_rng(1).standard_normal((3, HEIGHT, WIDTH)).astype(np.float32)


def for_pictures() -> onnx.ModelProto:
    """Looks at the picture as a whole: 3 x 24 x 20 to 3 classes."""
    g = Graph(3, opset=17, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, HEIGHT, WIDTH]), 4, 3, pads=1)
    x = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.gemm(x, 4, 3, name="logits")
    return g.model({"logits": ["batch", 3]})


def _saved(name: str, picture: Image.Image | None = None, **options: object) -> Maker:
    def make(folder: Path) -> Path:
        (picture or Image.fromarray(PIXELS)).save(folder / name, **options)
        return folder / name

    return make


def _written(name: str, content: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _encoded(kind: str, picture: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (picture or Image.fromarray(PIXELS)).save(file, kind, **options)
    return file.getvalue()


# -- pictures that are fine ----------------------------------------------------------------------------------

_PICTURE = Image.fromarray(PIXELS)
_OPAQUE = Image.merge("RGBA", (*_PICTURE.split(), Image.new("L", _PICTURE.size, 255)))
_EXIF = Image.Exif()
_EXIF[0x0112] = 6
for _name, _maker in {
    "png": _saved("a.png"), "jpeg": _saved("a.jpg"), "gif": _saved("a.gif"), "bmp": _saved("a.bmp"),
    "tiff": _saved("a.tif"), "webp": _saved("a.webp"), "ppm": _saved("a.ppm"),
    "palette": _saved("a.png", _PICTURE.quantize(16)), "gray": _saved("a.png", _PICTURE.convert("L")),
    "one_bit": _saved("a.png", _PICTURE.convert("1")), "cmyk_jpeg": _saved("a.jpg", _PICTURE.convert("CMYK")),
    "cmyk_tiff": _saved("a.tif", _PICTURE.convert("CMYK")), "ycbcr_tiff": _saved("a.tif", _PICTURE.convert("YCbCr")),
    "lab_tiff": _saved("a.tif", _PICTURE.convert("LAB")), "opaque_alpha": _saved("a.png", _OPAQUE),
    "opaque_gray_alpha": _saved("a.png", _OPAQUE.convert("LA")), "progressive": _saved("a.jpg", progressive=True),
    "turned_by_exif": _saved("a.jpg", exif=_EXIF), "upper_case_suffix": _saved("A.PNG"),
    "jpeg_called_png": _written("a.png", _encoded("JPEG")), "no_suffix": _written("picture", _encoded("PNG")),
    "one_pixel": _saved("a.png", Image.new("RGB", (1, 1))), "one_row": _saved("a.png", Image.new("RGB", (3000, 1))),
    "larger": _saved("a.png", _PICTURE.resize((300, 200))), "one_color": _saved("a.png", Image.new("RGB", (50, 50), 7)),
    "bad_exif": _saved("a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "a_name_with_line_breaks": _saved("a\nb\x1b[31m.png"),
    "tail_behind_the_end": _written("a.png", _encoded("PNG") * 2),
}.items():  # fmt: skip
    SOUND[_name] = _maker

# -- pictures that are not -----------------------------------------------------------------------------------


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, bits: int = 8, color: int = 2, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    content = _chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + content + _chunk(b"IEND", b"")


def _deep(dtype: type, kind: str) -> bytes:
    values = np.random.default_rng(2).integers(0, 60000, (HEIGHT, WIDTH)).astype(dtype)
    return _encoded(kind, Image.fromarray(values))


def _float_tiff(value: float) -> bytes:
    values = np.zeros((HEIGHT, WIDTH), np.float32)
    values[3, 4] = value
    return _encoded("TIFF", Image.fromarray(values))


_FRAMES = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
_CLEAR = Image.merge("RGBA", (*_PICTURE.split(), Image.new("L", _PICTURE.size, 100)))
for _name, _content in {
    "empty.png": b"", "text.png": b"not a picture\n" * 9, "zeros.jpg": bytes(500),
    "every_byte.png": bytes(range(256)),
    "only_a_signature.png": b"\x89PNG\r\n\x1a\n", "only_a_header.png": _png(9, 9)[:40],
    "no_data.png": _png(30, 30), "too_little_data.png": _png(30, 30, data=bytes(50)),
    "no_width.png": _png(0, 9), "bomb.png": _png(60_000, 60_000), "bomb_of_width.png": _png(2**31 - 1, 1),
    "bomb_of_size.png": _png(2**31 - 1, 2**31 - 1), "bits.png": _png(9, 9, bits=3), "color.png": _png(9, 9, color=9),
    "sixteen_bits.png": _deep(np.uint16, "PNG"), "sixteen_bits.tif": _deep(np.uint16, "TIFF"),
    "thirty_two_bits.tif": _deep(np.int32, "TIFF"), "floats.tif": _float_tiff(0.5), "nan.tif": _float_tiff(np.nan),
    "infinity.tif": _float_tiff(np.inf), "clear.png": _encoded("PNG", _CLEAR),
    "clear_gray.png": _encoded("PNG", _CLEAR.convert("LA")),
    "clear_palette.png": _encoded("PNG", _PICTURE.quantize(16), transparency=3),
    "frames.gif": _encoded("GIF", _FRAMES[0], save_all=True, append_images=_FRAMES[1:]),
    "frames.tif": _encoded("TIFF", _FRAMES[0], save_all=True, append_images=_FRAMES[1:]),
    "frames.png": _encoded("PNG", _FRAMES[0], save_all=True, append_images=_FRAMES[1:]),
    "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    "model.png": for_pictures().SerializeToString(), "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}.items():  # fmt: skip
    BROKEN[_name] = _written(_name, _content)
for _kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "ICO", "TGA", "PCX"):
    for _share in (20, 60, 95):
        try:
            _whole = _encoded(_kind, _PICTURE.resize((120, 90)))
        except (OSError, KeyError):  # a Pillow built without this format
            continue
        BROKEN[f"{_kind}_cut_to_{_share}"] = _written(f"a.{_kind.lower()}", _whole[: len(_whole) * _share // 100])
for _kind in ("WEBP", "JPEG2000", "ICO", "TGA", "PCX"):  # some read what is there
    BROKEN.pop(f"{_kind}_cut_to_95", None)


def _place(registry: dict[str, Maker]) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        registry[make.__name__] = make
        return make

    return register


@_place(BROKEN)
def nothing(folder: Path) -> Path:
    return folder / "a.png"


@_place(BROKEN)
def a_folder(folder: Path) -> Path:
    (folder / "a.png").mkdir()
    return folder / "a.png"


@_place(BROKEN)
def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.png")
    return folder / "a.png"


@_place(BROKEN)
def a_pipe_of_an_array(folder: Path) -> Path:
    os.mkfifo(folder / "a.npy")
    return folder / "a.npy"


@_place(BROKEN)
def an_endless_device(folder: Path) -> Path:
    return Path("/dev/zero")


@_place(BROKEN)
def an_empty_device(folder: Path) -> Path:
    return Path(os.devnull)


@_place(BROKEN)
def a_link_to_itself(folder: Path) -> Path:
    (folder / "a.png").symlink_to("a.png")
    return folder / "a.png"


@_place(BROKEN)
def a_name_that_is_too_long(folder: Path) -> Path:
    return folder / ("x" * 5000 + ".png")


@_place(BROKEN)
def a_broken_name(folder: Path) -> Path:
    return folder / "no\nsuch\x1b[31m\u2028file.png"


# -- arrays --------------------------------------------------------------------------------------------------


def _array(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def _header(text: str, data: bytes = b"") -> bytes:
    padded = text.encode("latin1").ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def _with(value: float) -> np.ndarray:
    array = FLOATS.copy()
    array[1, 2, 3] = value
    return array


for _name, _array_of in {
    "floats": FLOATS, "a_batch_of_one": FLOATS[None], "float64": FLOATS.astype(np.float64),
    "float16": FLOATS.astype(np.float16), "long_double": FLOATS.astype(np.longdouble),
    "big_endian": FLOATS.astype(">f4"),
    "fortran_order": np.asfortranarray(FLOATS), "constant": np.zeros_like(FLOATS), "subnormal": _with(1e-42),
    "large_values": FLOATS * np.float32(1e6),
}.items():  # fmt: skip
    SOUND[f"array_{_name}"] = _written("a.npy", _array(_array_of))
for _name, _array_of in {
    "nan": _with(np.nan), "infinity": _with(-np.inf), "beyond_float32": FLOATS.astype(np.float64) * 1e300,
    "integers": PIXELS, "booleans": FLOATS > 0, "complex": FLOATS.astype(complex), "text": np.array([["a", "b"]]),
    "dates": np.array(["2020-01-01"], "datetime64[D]"), "records": np.zeros(3, [("x", "f4"), ("y", "f4")]),
    "rank_0": np.float32(1), "rank_1": FLOATS[0, 0], "rank_2": FLOATS[0], "rank_5": FLOATS[None, None],
    "two_images": np.stack([FLOATS, FLOATS]), "channels_last": FLOATS.transpose(1, 2, 0),
    "four_channels": FLOATS[[0, 1, 2, 2]],
    "too_small": FLOATS[:, 1:], "no_pixels": FLOATS[:, :0], "no_channels": FLOATS[:0],
    "nothing": np.empty(0, np.float32),
}.items():  # fmt: skip
    BROKEN[f"array_{_name}"] = _written("a.npy", _array(np.asarray(_array_of)))
_WHOLE = _array(FLOATS)
_FILE = io.BytesIO()
np.savez(_FILE, image=FLOATS)
for _name, _content in {
    "empty": b"", "only_a_signature": _WHOLE[:6], "only_a_header": _WHOLE[:128], "cut_short": _WHOLE[:-40],
    "an_archive": _FILE.getvalue(), "objects": _array(np.array([{}, None, FLOATS], object), allow_pickle=True),
    "a_pickle": b"\x80\x04N.", "text_in_it": b"1 2 3\n", "an_unknown_version": b"\x93NUMPY\x09\x00" + _WHOLE[8:],
    "a_huge_shape": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1099511627776, 1099511627776), }"),
    "a_large_shape": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 100000, 100000), }", bytes(99)),
    "a_negative_shape": _header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, -24, 20), }", bytes(9999)),
    "a_shape_of_words": _header("{'descr': '<f4', 'fortran_order': False, 'shape': ('a', 2), }", bytes(99)),
    "no_header": _header("{", bytes(99)), "a_header_of_brackets": _header("(" * 110),
    "no_type": _header("{'descr': 7}"),
    "code_in_the_header": _header("__import__('os').system('false')"), "an_open_string": _header("{'descr': '''"),
    "a_header_beyond_the_end": b"\x93NUMPY\x01\x00\xff\xff{", "an_unknown_type": _header(
        "{'descr': 'zz', 'fortran_order': False, 'shape': (3,), }"
    ),
}.items():  # fmt: skip
    BROKEN[f"array_file_{_name}"] = _written("a.npy", _content)
