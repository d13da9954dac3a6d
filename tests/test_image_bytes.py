"""Images from memory: as from a file, and refused before anything is decoded."""

import io

import doc_files
import numpy as np
import pytest
from PIL import Image

import krypton_onnx as kx
from krypton_onnx.errors import TooManyPixels
from krypton_onnx.images.reading import notes_of, read_image, read_image_bytes


@pytest.mark.parametrize("name", ["photo.jpg", "turned.png", "scan.dcm"])
def test_as_from_a_file(tmp_path, name):
    path = tmp_path / name
    if name == "scan.dcm":
        pytest.importorskip("pydicom", reason="pydicom is not installed (the extra dicom)")
        doc_files.write_scan(path, 0)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        doc_files.scene(0).save(path, exif=exif)
    want, have = read_image(path), read_image_bytes(path.read_bytes())
    np.testing.assert_array_equal(np.asarray(have), np.asarray(want))
    assert have.mode == want.mode and notes_of(have).words == notes_of(want).words


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    file = io.BytesIO()
    Image.new("L", (100, 50)).save(file, "PNG")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(TooManyPixels, match="upload: has 100 x 50 pixels; at most 4,999 in all are read"):
        read_image_bytes(file.getvalue(), "upload", 4999)
    assert issubclass(TooManyPixels, kx.ImageError)


def test_too_many_pixels_of_a_scan(tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed (the extra dicom)")
    doc_files.write_scan(tmp_path / "scan.dcm", 0)
    with pytest.raises(TooManyPixels, match="has 144 x 128 pixels"):
        read_image_bytes((tmp_path / "scan.dcm").read_bytes(), max_pixels=1000)


def test_other_formats_than_those_named_are_not_tried():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "TIFF")
    assert read_image_bytes(file.getvalue(), formats=("TIFF",)).size == (8, 8)
    for formats in (("PNG",), ("JPEG", "GIF")):
        with pytest.raises(kx.ImageError, match="upload: not an image in a format known here"):
            read_image_bytes(file.getvalue(), "upload", formats=formats)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + bytes(50), bytes(128) + b"DICM"])
def test_what_is_no_image_is_told_by_its_name(data):
    with pytest.raises(kx.ImageError, match=r"^upload: "):
        read_image_bytes(data, "upload")
