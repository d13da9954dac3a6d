"""For Schemathesis: what an image is, which no schema can say. Read by its program, not imported by tests."""

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def picture(form: str, size: tuple[int, int], shade: int) -> bytes:
    """A file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 90, 200)).save(file, form)
    return file.getvalue()


def pictures(*forms: str):
    """Files of these formats."""
    return st.builds(picture, st.sampled_from(forms), st.sampled_from([(1, 1), (70, 50)]), st.integers(0, 255))


for form in ("png", "jpeg", "tiff", "webp", "gif", "bmp"):
    schemathesis.openapi.media_type(f"image/{form}", pictures(form.upper()))
schemathesis.openapi.media_type("application/dicom", pictures("PNG"))  # by its first bytes it is what it is
schemathesis.openapi.format("binary", pictures("PNG", "JPEG"))
