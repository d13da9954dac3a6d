"""Small networks of eight architectures in Keras, as its own export and tf2onnx write them: ../exported/keras_*.onnx.

    python tests/exporters/from_keras.py [DIR]

Run by hand where an exporter changed; the files are kept in the repository, because the tests are about what the
exporter wrote. Written with keras 3.15.1 on tensorflow-cpu 2.21.0, tf2onnx 1.17.0, onnx 1.23.2. Each network comes
twice: keras_NAME by `model.export(format="onnx")`, of any batch, and tf2onnx_NAME_fixed by
`tf2onnx.convert.from_keras` at opset 13, batch 1. Images are channels last, HEIGHT x WIDTH; weights are seeded.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from clean import EXPORTED, cleaned
from keras import layers

HEIGHT, WIDTH, CLASSES = 48, 40, 6
LOGIT_SPREAD = 2.0
SEED = 5
Tensor = keras.KerasTensor


def conv(
    x: Tensor, outputs: int, kernel: int | tuple[int, int] = 3, stride: int = 1, activation: str | None = "relu",
    **more: object,
) -> Tensor:  # fmt: skip
    """SAME convolution, batch norm, activation. Momentum 0: the moving statistics are those of the last batch."""
    x = layers.Conv2D(outputs, kernel, stride, padding="same", use_bias=False, **more)(x)
    x = layers.BatchNormalization(momentum=0.0)(x)
    return layers.Activation(activation)(x) if activation else x


def depthwise(x: Tensor, kernel: int, stride: int, activation: str = "relu6") -> Tensor:
    """As Keras' MobileNets write it: explicit zero padding before a strided VALID convolution."""
    if stride > 1:
        x = layers.ZeroPadding2D(((0, kernel // 2), (0, kernel // 2)))(x)
    padding = "valid" if stride > 1 else "same"
    x = layers.DepthwiseConv2D(kernel, stride, padding=padding, use_bias=False)(x)
    return layers.Activation(activation)(layers.BatchNormalization(momentum=0.0)(x))


def vgg(x: Tensor) -> Tensor:
    """Convolutions with bias, max pools, Flatten and dense layers, a softmax."""
    for channels in (8, 10, 12):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    return layers.Dense(CLASSES, activation="softmax")(layers.Dropout(0.5)(x))


def residual(x: Tensor) -> Tensor:
    """ResNet 50's stem with its explicit padding, bottlenecks with stride-2 shortcuts."""
    x = layers.Conv2D(8, 7, 2)(layers.ZeroPadding2D(3)(x))
    x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(x))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for outputs, stride in ((16, 1), (16, 1), (20, 2)):
        inner = conv(conv(conv(x, 8, 1, stride), 8, 3), outputs, 1, activation=None)
        same = x.shape[-1] == outputs and stride == 1
        x = layers.Add()([inner, x if same else conv(x, outputs, 1, stride, activation=None)])
        x = layers.ReLU()(x)
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))


def mobile(x: Tensor) -> Tensor:
    """Inverted residuals; hard swish, and squeeze-and-excite in the last one. Pixels are rescaled in the graph."""
    x = layers.Rescaling(0.5, offset=0.1)(x)
    x = conv(x, 8, 3, 2, "hard_swish")
    for outputs, stride, excite in ((8, 1, False), (10, 2, False), (12, 2, True)):
        inner = conv(x, 2 * x.shape[-1], 1, activation="relu6")
        inner = depthwise(inner, 3, stride, "hard_swish")
        if excite:
            gate = layers.GlobalAveragePooling2D(keepdims=True)(inner)
            gate = layers.Conv2D(4, 1, activation="relu")(gate)
            gate = layers.Conv2D(inner.shape[-1], 1, activation="hard_sigmoid")(gate)
            inner = layers.Multiply()([inner, gate])
        inner = conv(inner, outputs, 1, activation=None)
        x = layers.Add()([x, inner]) if stride == 1 and x.shape[-1] == outputs else inner
    x = conv(x, 16, 1, activation="swish")
    return layers.Dense(CLASSES)(layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x)))


def dense(x: Tensor) -> Tensor:
    """Growing concatenations, norms first, an average-pooling transition."""
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(conv(x, 8, 3, 2)))
    for block in range(2):
        for _ in range(2):
            inner = layers.ReLU()(layers.BatchNormalization(momentum=0.0)(x))
            inner = layers.Conv2D(4, 3, padding="same", use_bias=False)(conv(inner, 8, 1))
            x = layers.Concatenate()([x, inner])
        if block == 0:
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.0)(x))
            x = layers.AveragePooling2D(2, 2)(layers.Conv2D(10, 1, use_bias=False)(x))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.0)(x))
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))


def inception(x: Tensor) -> Tensor:
    """Asymmetric kernels, a SAME average pool, strided VALID reductions, a separable convolution."""
    x = layers.Conv2D(8, 3, 2, activation="relu")(x)
    x = layers.Concatenate()([
        conv(x, 4, 1), conv(conv(conv(x, 6, 1), 6, (1, 7)), 4, (7, 1)),
        conv(layers.AveragePooling2D(3, 1, padding="same")(x), 4, 1),
    ])  # fmt: skip
    x = layers.Concatenate()([layers.Conv2D(8, 3, 2)(x), layers.MaxPooling2D(3, 2)(x)])
    x = layers.SeparableConv2D(12, 3, padding="same", activation="elu")(x)
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))


def segmentation(x: Tensor) -> Tensor:
    """Dilated branches; nearest, transposed and bilinear upsampling; channels last to the end: (N, H, W, 4)."""
    first = conv(x, 8)
    x = conv(conv(first, 10, 3, 2), 10, 3, 2)
    x = layers.Concatenate()([conv(x, 5, 3, dilation_rate=rate) for rate in (1, 2, 3)])
    x = layers.UpSampling2D(2, interpolation="nearest")(conv(x, 8, 1))
    x = layers.Conv2DTranspose(8, 3, 2, padding="same", activation="relu")(x)
    x = layers.Concatenate()([x, first])
    x = conv(layers.MaxPooling2D(2)(x), 6)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return layers.Conv2D(4, 1)(x)


def tanh_gelu(x: Tensor) -> Tensor:
    """The exact one would become TensorFlow's Erfc, which tf2onnx does not know."""
    return keras.activations.gelu(x, approximate=True)


def convnext(x: Tensor) -> Tensor:
    """A patch stem, LayerNormalization over channels, Dense on every cell, gelu, a layer scale."""
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Conv2D(10, 4, 4)(x))
    for channels in (10, 12):
        if channels != x.shape[-1]:
            x = layers.Conv2D(channels, 2, 2)(layers.LayerNormalization(epsilon=1e-6)(x))
        inner = layers.DepthwiseConv2D(7, padding="same")(x)
        inner = layers.Dense(2 * channels)(layers.LayerNormalization(epsilon=1e-6)(inner))
        inner = layers.Activation(tanh_gelu)(inner)
        x = layers.Add()([x, layers.Dense(channels)(inner) * np.full(channels, 0.7, np.float32)])
    x = layers.LayerNormalization(epsilon=1e-6)(layers.GlobalAveragePooling2D()(x))
    return layers.Dense(CLASSES)(x)


def shuffle(x: Tensor) -> Tensor:
    """ShuffleNet V2's split and shuffle by slices, Reshape and Permute, on channels last.

    No grouped convolution: Keras makes a function call of it, which tf2onnx does not know.
    """
    x = conv(conv(x, 12, 3, 2), 12, 3, 2)
    for _ in range(2):
        kept, rest = x[..., :6], x[..., 6:]
        rest = conv(depthwise(conv(rest, 8, 1), 3, 1), 6, 1)
        x = layers.Concatenate()([kept, rest])
        height, width, channels = x.shape[1:]
        x = layers.Permute((1, 2, 4, 3))(layers.Reshape((height, width, 2, channels // 2))(x))
        x = layers.Reshape((height, width, channels))(x)
    return layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))


NETWORKS: dict[str, Callable[[Tensor], Tensor]] = {
    network.__name__: network for network in (vgg, residual, mobile, dense, inception, segmentation, convnext, shuffle)
}


def seeded(name: str) -> keras.Model:
    """The network, its batch norms calibrated on noise, its last layer scaled to logits of a common size."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    image = keras.Input((HEIGHT, WIDTH, 3), name="image")
    model = keras.Model(image, NETWORKS[name](image), name=name)
    noise = np.random.default_rng(SEED).standard_normal((16, HEIGHT, WIDTH, 3)).astype(np.float32)
    model(noise, training=True)
    last = model.layers[-1]
    activation, last.activation = last.activation, keras.activations.linear
    kernel = last.kernel
    kernel.assign(kernel * (LOGIT_SPREAD / np.std(model(noise))))
    last.activation = activation
    model(noise[:1])
    return model


def own_export(model: keras.Model) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        model.export(str(path), format="onnx", verbose=False)
        return onnx.load(str(path))


def by_tf2onnx(model: keras.Model) -> onnx.ModelProto:
    signature = [tf.TensorSpec((1, HEIGHT, WIDTH, 3), tf.float32, name="image")]
    return tf2onnx.convert.from_keras(model, signature, opset=13)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, nargs="?", default=EXPORTED)
    parser.add_argument("--only", default="", help="networks, separated by commas")
    chosen = parser.parse_args()
    chosen.directory.mkdir(parents=True, exist_ok=True)
    for name in filter(None, chosen.only.split(",")) if chosen.only else NETWORKS:
        model = seeded(name)
        for file_name, write in ((f"keras_{name}", own_export), (f"tf2onnx_{name}_fixed", by_tf2onnx)):
            path = chosen.directory / f"{file_name}.onnx"
            onnx.save(cleaned(write(model)), str(path))
            print(f"{path.name}: {path.stat().st_size / 1e3:.1f} kB", flush=True)


if __name__ == "__main__":
    main()
