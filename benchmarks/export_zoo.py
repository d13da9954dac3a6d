"""Writes common classifiers of torchvision and timm as ONNX, with seeded random weights, for zoo.py.

    python benchmarks/export_zoo.py DIR [--only NAME,...]

Needs torch, torchvision, timm, onnx and onnxscript; not krypton-onnx, so it can run in a Python of its own. Written
with torch 2.13.0, torchvision 0.29.2, timm 1.0.31, onnxscript 0.7.2 (`pip install --no-deps timm huggingface_hub
safetensors pyyaml` beside the others). A file that is there already is not written again. Batches are dynamic. The
model's doc_string says where it is from, and which exporter wrote it: about every third comes from the newer one.

All takes 5.5 GB, and about ten minutes on two cores. Exit code 1: a model could not be exported (all others are).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from export_torchvision import SEED, SIDE, calibrate, export, import_torchvision

TORCHVISION = (
    "alexnet", "vgg11", "vgg16_bn", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d",
    "wide_resnet50_2", "densenet121", "densenet169", "densenet201", "squeezenet1_0", "squeezenet1_1", "googlenet",
    "inception_v3", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_0", "shufflenet_v2_x1_0",
    "efficientnet_b0", "efficientnet_v2_s", "regnet_x_800mf", "regnet_y_400mf", "convnext_tiny", "swin_t",
)  # fmt: skip
TIMM = (
    "resnet26d", "resnetv2_50", "seresnet50", "cspresnet50", "darknet53", "cspdarknet53", "efficientnet_lite0",
    "tf_efficientnet_lite1", "ghostnet_100", "hrnet_w18_small", "dla34", "repvgg_a0", "mobileone_s0",
    "res2net50_26w_4s", "mixnet_s", "xception41", "inception_v4", "convnextv2_atto", "convmixer_1024_20_ks9_p14",
    "fbnetc_100", "spnasnet_100", "lcnet_050", "edgenext_xx_small", "poolformer_s12", "deit_tiny_patch16_224",
    "dpn68", "selecsls42b", "hardcorenas_a", "mobilevit_xxs", "skresnet18", "rexnet_100", "ese_vovnet19b_dw",
    "vgg13_bn", "densenetblur121d",
)  # fmt: skip
SIDES = {"inception_v3": 299, "inception_v4": 299, "xception41": 299, "mobilevit_xxs": 256}  # the others: SIDE
NO_AUXILIARY_HEADS = {"googlenet": {"aux_logits": False}, "inception_v3": {"aux_logits": False}}
DYNAMO_EVERY = 3
CALIBRATION_PASSES = 1


def names() -> Iterator[tuple[str, str, bool]]:
    """(library, model, whether the newer exporter writes it)."""
    listed = [("torchvision", name) for name in TORCHVISION] + [("timm", name) for name in TIMM]
    for index, (library, name) in enumerate(listed):
        yield library, name, index % DYNAMO_EVERY == DYNAMO_EVERY - 1


def build(library: str, name: str) -> torch.nn.Module:
    """The model with its own random initialization, seeded, and every branch awake."""
    torch.manual_seed(SEED)
    if library == "torchvision":
        extra = {"init_weights": False} if name in NO_AUXILIARY_HEADS else {}  # theirs takes minutes
        model = getattr(import_torchvision(), name)(**NO_AUXILIARY_HEADS.get(name, {}), **extra)
    else:
        import_torchvision()  # timm imports torchvision, and meets the same trap
        import timm

        model = timm.create_model(name, pretrained=False)
    wake(model)
    return model


@torch.no_grad()
def wake(model: torch.nn.Module) -> None:
    """Scales that start at (nearly) zero, so that training begins with identities, to one half.

    Last norms of residual branches, layer scales, ConvNeXt V2's response norms: with those the branches would add
    nothing, and an error in them would not be seen.
    """
    for name, value in model.named_parameters():
        scale = not name.endswith("bias") and value.numel() > 0
        if scale and float(value.abs().max()) <= 1e-3 and float(value.std(unbiased=False)) < 1e-8:
            value.fill_(0.5)


def write(library: str, name: str, dynamo: bool, path: Path) -> None:
    """Build, calibrate and export one model; the file appears when it is complete."""
    side = SIDES.get(name, SIDE)
    model = build(library, name)
    calibrate(model, side, torch.Generator().manual_seed(SEED), CALIBRATION_PASSES)
    temporary = path.with_suffix(".tmp")
    export(model, temporary, dynamo, side)
    proto = onnx.load(str(temporary))
    proto.doc_string = (
        f"{library} {name}, {'dynamo' if dynamo else 'TorchScript'} exporter of torch {torch.__version__}"
    )
    onnx.save(proto, str(temporary))
    os.replace(temporary, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default="", help="names, separated by commas")
    chosen = parser.parse_args(arguments)
    wanted = set(filter(None, chosen.only.split(",")))
    unknown = wanted - {name for _, name, _ in names()}
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    chosen.directory.mkdir(parents=True, exist_ok=True)
    failed = 0
    for library, name, dynamo in names():
        path = chosen.directory / f"{name}.onnx"
        if path.exists() or (wanted and name not in wanted):
            continue
        start = time.monotonic()
        try:
            write(library, name, dynamo, path)
        except Exception as error:  # the other models are still worth having
            failed += 1
            print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr, flush=True)
            path.with_suffix(".tmp").unlink(missing_ok=True)
            continue
        megabytes = path.stat().st_size / 1e6
        print(f"{path}: {megabytes:.1f} MB, {time.monotonic() - start:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
