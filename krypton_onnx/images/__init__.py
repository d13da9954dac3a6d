"""From a file to the array a model takes, and back for the eye. Knows files and arrays, no model and no session.

The way of an image: `reading` (and `dicom`) open a file; `preparation` and `presets` say what the model wants;
`fitting` finds its size; `prepared` does it.
"""

from krypton_onnx.images.preparation import ChannelOrder, Layout, Preparation
from krypton_onnx.images.prepared import PreparedImage, prepare_image
from krypton_onnx.images.reading import read_image

__all__ = ["ChannelOrder", "Layout", "Preparation", "PreparedImage", "prepare_image", "read_image"]
