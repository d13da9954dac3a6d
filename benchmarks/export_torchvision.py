"""Writes the torchvision models of the benchmark as ONNX, with seeded random weights.

    python benchmarks/export_torchvision.py DIR [--only NAME,...]

Needs torch, torchvision, onnx and (for the dynamo exporter) onnxscript; not krypton-onnx, so it can run in a
Python of its own. `NAME.onnx` comes from the TorchScript exporter (`dynamo=False`); `resnet18_dynamo.onnx` holds
the same weights, written by the newer exporter, whose graphs look different. `inception_v3.onnx` is written only
when it is asked for: it stands in where the trained one is not at hand.

Weights are random because only their shapes matter for speed; but then the batch norm must be calibrated, or
activations explode or vanish with depth and every occlusion would get the same score.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SEED = 0
SIDE = 224
SIDES = {"inception_v3": 299}  # the others: SIDE
ON_REQUEST = ("inception_v3",)
CALIBRATION_PASSES, CALIBRATION_BATCH = 4, 8
LOGIT_SPREAD = 2.0
CLASSES = 1000


def import_torchvision() -> Any:
    """torchvision.models, also where torch is the CPU build and torchvision is not.

    A torchvision that was built for CUDA cannot load its compiled operators beside a CPU torch, and then fails on
    import, where it attaches shape functions to operators that nobody declared ("operator torchvision::nms does
    not exist"). No classification model calls them, so declaring their signatures is enough. Where the compiled
    operators do load, a second declaration would be the error: hence only after a failure.
    """
    try:
        from torchvision import models
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        global _declared  # the declarations last as long as this object
        _declared = torch.library.Library("torchvision", "DEF")
        _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import models
    return models


def builders() -> dict[str, Callable[[], torch.nn.Module]]:
    """Model by file name. Inception: without the heads for training, and without a slow initialization."""
    models = import_torchvision()
    return {
        "resnet18": models.resnet18,
        "resnet50": models.resnet50,
        "mobilenet_v2": models.mobilenet_v2,
        "densenet121": models.densenet121,
        "googlenet": lambda: models.googlenet(aux_logits=False, init_weights=False),
        "inception_v3": lambda: models.inception_v3(aux_logits=False, init_weights=False),
    }


def noise(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """float32 (count, 3, side, side): about as various as normalized photographs.

    Coarse and fine noise in a mixture, contrast and colour that differ from image to image. Were the images all
    alike, a photograph would lie far outside what the batch norms have seen.
    """
    total = 0.7 * torch.randn(count, 3, 1, 1, generator=generator).repeat(1, 1, side, side)
    for cells in (3, 8, 24, 72, side):
        plane = torch.randn(count, 1, cells, cells, generator=generator)
        plane = plane + 0.3 * torch.randn(count, 3, cells, cells, generator=generator)
        plane = torch.nn.functional.interpolate(plane, side, mode="bilinear")
        total += plane * 0.8 * torch.rand(count, 1, 1, 1, generator=generator)
    return total


@torch.no_grad()
def calibrate(
    model: torch.nn.Module, side: int, generator: torch.Generator, passes: int = CALIBRATION_PASSES
) -> None:
    """Set the statistics of every batch norm from noise, then the scale of the last layer.

    Logits get the size that trained ones have (a standard deviation of 2 over the classes), as the tolerance of
    exactness is absolute for scores of that size.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the passes
        norm.train()
    for _ in range(passes):
        model(noise(CALIBRATION_BATCH, side, generator))
    model.eval()
    layers = (torch.nn.Linear, torch.nn.Conv2d)
    last = [module for module in model.modules() if isinstance(module, layers) and len(module.weight) == CLASSES][-1]
    last.bias.zero_()
    logits = model(noise(CALIBRATION_BATCH, side, generator))
    last.weight.mul_(LOGIT_SPREAD / logits.std(dim=1).mean())


def export(model: torch.nn.Module, path: Path, dynamo: bool, side: int = SIDE) -> None:
    """`input` float32 (batch, 3, side, side) to `output` float32 (batch, 1000) logits."""
    example = torch.zeros(2, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters announce their own future at length
        if dynamo:
            torch.onnx.export(
                model, (example,), path, input_names=["input"], output_names=["output"], opset_version=18,
                dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
            )  # fmt: skip
        else:
            torch.onnx.export(
                model, (example,), path, input_names=["input"], output_names=["output"], opset_version=17,
                dynamo=False, dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default="", help="names, separated by commas")
    arguments = parser.parse_args()
    available = builders()
    wanted = arguments.only.split(",") if arguments.only else [name for name in available if name not in ON_REQUEST]
    unknown = sorted(set(wanted) - set(available))
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(available)}")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        torch.manual_seed(SEED)
        model = available[name]()
        side = SIDES.get(name, SIDE)
        calibrate(model, side, torch.Generator().manual_seed(SEED))
        kinds = [(name, False)] + ([(f"{name}_dynamo", True)] if name == "resnet18" else [])
        for file_name, dynamo in kinds:
            path = arguments.directory / f"{file_name}.onnx"
            export(model, path, dynamo, side)
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
