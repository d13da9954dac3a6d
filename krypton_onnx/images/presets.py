"""Preparations known by name. Each says in a line what it means, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from krypton_onnx.images.preparation import Preparation


@dataclass(frozen=True)
class Preset:
    """A preparation by name. Its size yields to a model's own (`Preparation.adapted`)."""

    preparation: Preparation
    meaning: str
    source: str


PRESETS: Mapping[str, Preset] = MappingProxyType({
    "imagenet": Preset(
        Preparation(
            (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), fit="crop", resize=256
        ),
        "ImageNet classifiers of torchvision and of most PyTorch code: 256, centre 224, mean and std a channel",
        "torchvision.transforms._presets.ImageClassification",
    ),
    "caffe": Preset(
        Preparation(mean=(104.007, 116.669, 122.679), scale=1.0, channel_order="bgr"),
        "Caffe's own networks: blue first, raw pixels minus the mean of ImageNet",
        "BVLC Caffe, data/ilsvrc12: mean of ilsvrc_2012_mean.npy",
    ),
    "vgg": Preset(
        Preparation(mean=(103.939, 116.779, 123.68), scale=1.0, channel_order="bgr"),
        "VGG as published, and VGG and ResNet of Keras: blue first, raw pixels minus the mean of ImageNet",
        "keras.applications.imagenet_utils.preprocess_input, mode 'caffe'",
    ),
    "tensorflow": Preset(
        Preparation(mean=(1.0,), scale=1 / 127.5),
        "pixel / 127.5 - 1, so -1 to 1: MobileNet, Xception, ResNetV2, NASNet of Keras",
        "keras.applications.imagenet_utils.preprocess_input, mode 'tf'",
    ),
    "inception": Preset(
        Preparation((299, 299), (1.0,), scale=1 / 127.5),
        "as tensorflow, at 299 x 299: Inception",
        "keras.applications.inception_v3",
    ),
    "clip": Preset(
        Preparation(
            (224, 224), (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711),
            fit="crop", resize=224, resample="bicubic",
        ),
        "CLIP's image encoder: 224 (bicubic), centre 224, mean and std a channel",
        "openai/CLIP, clip.clip._transform",
    ),
    "torchxrayvision": Preset(
        Preparation(
            (224, 224), (1024.0,), scale=2048 / 255, channel_order="gray", fit="crop"
        ),
        "chest X-rays, grey, -1024 to 1024, the largest centred square",
        "torchxrayvision.datasets: normalize, XRayCenterCrop, XRayResizer",
    ),
    "yolo": Preset(
        Preparation((640, 640), fit="pad", padding=114.0),
        "0 to 1, letterboxed on grey 114: YOLO detectors",
        "ultralytics.data.augment.LetterBox",
    ),
    "mnist": Preset(
        Preparation((28, 28), (0.1307,), (0.3081,), channel_order="gray"),
        "28 x 28 grey digits, white on black, mean and std of MNIST",
        "pytorch/examples, mnist/main.py",
    ),
    "unit": Preset(
        Preparation(),
        "pixel / 255, so 0 to 1",
        "torchvision.transforms.ToTensor",
    ),
    "raw": Preset(
        Preparation(scale=1.0),
        "pixels as they are, 0 to 255: models that scale them themselves",
        "keras.applications: EfficientNet, MobileNetV3",
    ),
})  # fmt: skip
