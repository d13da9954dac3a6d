"""The picture that a site comes with: for everybody to see, so nothing goes along that only its owner should have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from krypton_onnx.errors import ImageError
from krypton_onnx.images import Preparation, prepare_image, read_image
from krypton_onnx.images.prepared import DEEP_MODES

FILE = "sample.png"
LONGEST = 1024  # pixels of the longer side; a larger one is made smaller, to be loaded in no time
GREY = ("1", "L", "LA")


def read_sample(path: Path, preparation: Preparation) -> Image.Image:
    """A picture as uint8 grey or RGB, without its file's metadata (place, time, patient, profile), not too large.

    Raises ImageError where it cannot be read, does not fit the model, or has pixels that a browser would not have.
    """
    source = read_image(path)
    if isinstance(source, np.ndarray):
        raise ImageError(f"{path}: is an array, and a page explains pictures: give a PNG or JPEG as the sample")
    if source.mode in DEEP_MODES:
        raise ImageError(
            f"{path}: has more than 8 bits a pixel, and a browser reads 8: save it as an 8-bit PNG, with the window "
            "that the model wants, and give that as the sample"
        )
    prepare_image(source, preparation, None, str(path))
    picture = Image.fromarray(np.asarray(source.convert("L" if source.mode in GREY else "RGB")))
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return picture


def own_sample(preparation: Preparation) -> Image.Image | None:
    """A photograph that comes with a dependency; None where a model wants no photographs but grey pictures."""
    if preparation.channel_order == "gray":
        return None
    from skimage.data import coffee

    return Image.fromarray(coffee())


OWN_CAPTION = "A cup of espresso"
OWN_CREDIT = "Rachel Michetti, from scikit-image (CC0)"
CAPTION = "Sample image"
