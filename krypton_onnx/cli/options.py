"""Options that several commands share, and the values that are more than a word or a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from krypton_onnx.cli.completion import provider_names
from krypton_onnx.cli.console import misuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from krypton_onnx.runtime.tuning import DescribedFill

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model, original or converted.")]
Patch = Annotated[
    str,
    typer.Option(metavar="N | H,W", help="Size of the hidden patch, in pixels of the model's input."),
]
Stride = Annotated[str, typer.Option(metavar="N | H,W", help="Step from one position of the patch to the next.")]
ImageInput = Annotated[
    str | None, typer.Option(metavar="NAME", help="The input that takes the image, where several could.")
]
InputShape = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:1,3,224,224",
        help="Shape of the image input, where the model leaves its height or width open.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


Fill = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X|A,B,C|WORD",
        help="What hides the pixels: a number, one a channel (0.5,0.4,0.4), or mean (the image's own colour), black, "
        "white, gray, blur, inpaint (what goes on smoothly from around), surroundings (patches beside it). "
        "Given several times, the scores are averaged. Default: 0.",
        show_default=False,
    ),
]
FillSpace = Annotated[
    Literal["model", "pixel"],
    typer.Option(help="What numbers of --fill are: those that the model sees, or pixel values (0 to 255; R,G,B)."),
]
FillSamples = Annotated[
    int, typer.Option(metavar="N", min=1, max=256, help="Of --fill surroundings: over how many patches to average.")
]
PatchShape = Annotated[
    str,
    typer.Option(
        metavar="rectangle|ellipse|MASK.png",
        help="Shape of the patch; in the grey picture of a mask white hides, and its size must be the patch's.",
    ),
]
Score = Annotated[
    Literal["output", "logit", "margin", "log-odds"],
    typer.Option(
        metavar="WORD",
        help="output: as the model gives it; logit: before its last softmax or sigmoid; "
        "margin: the logit minus the largest other; log-odds: log p/(1-p), which moves where p is nearly 1."
    ),
]
ModelOutput = Annotated[
    str | None, typer.Option(metavar="NAME", help="The output to explain, where the model has several.")
]
PREPARING = "How the model wants its image: x = (pixel * scale - mean) / std"
PresetName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Known by name: imagenet (torchvision), caffe, vgg, tensorflow, inception, clip, torchxrayvision, yolo, "
        "mnist, unit (0 to 1) or raw (0 to 255). The other options here change it.",
        autocompletion=lambda incomplete: _presets(incomplete),
        rich_help_panel=PREPARING,
    ),
]
PreparationFile = Annotated[
    Path | None,
    typer.Option(
        "--preparation",
        metavar="FILE",
        help="Or by a TOML file: size, fit, mean, ...; a saved specification is one too.",
        rich_help_panel=PREPARING,
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="N | H,W",
        help="Of the model's image, where the model leaves it open.",
        rich_help_panel=PREPARING,
    ),
]
Fit = Annotated[
    Literal["stretch", "crop", "pad"] | None,
    typer.Option(
        help="How a picture of another shape comes to the size: stretch (aspect not kept; the default), crop (the "
        "centre) or pad (letterbox, black).",
        show_default=False,
        rich_help_panel=PREPARING,
    ),
]
Resize = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Pixels of the shorter side before the crop.", rich_help_panel=PREPARING),
]
Resample = Annotated[
    Literal["nearest", "bilinear", "bicubic", "lanczos"] | None,
    typer.Option(help="Default: bilinear, antialiased.", show_default=False, rich_help_panel=PREPARING),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="CENTRE,WIDTH",
        help="Values that become pixels 0 to 255, of DICOM and of pictures of more than 8 bits (CT: 40,400). Default: "
        "the first window of the DICOM file.",
        rich_help_panel=PREPARING,
    ),
]
Scale = Annotated[str | None, typer.Option(metavar="X", help="Default: 1/255.", rich_help_panel=PREPARING)]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="X|A,B,C", help="After scaling, in the model's channel order. Default: 0.", rich_help_panel=PREPARING
    ),
]
Std = Annotated[str | None, typer.Option(metavar="X|A,B,C", help="As mean. Default: 1.", rich_help_panel=PREPARING)]
Channels = Annotated[
    Literal["rgb", "bgr", "gray"] | None,
    typer.Option(help="Default: rgb, or gray where the model takes one channel.", rich_help_panel=PREPARING),
]
COMPUTING = "How to compute"
Providers = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="ONNX Runtime's execution providers, best first, as in cuda,cpu; auto chooses, and says so. Default: cpu.",
        autocompletion=provider_names,
        rich_help_panel=COMPUTING,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Without the fast convolution that rounds a little more (Winograd).",
        rich_help_panel=COMPUTING,
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, help="Of the positions at which approximate maps are checked.", rich_help_panel=COMPUTING)
]

MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="2GiB",
        help="Memory that the process may take while maps are computed, as 2GiB or 500MB.",
        rich_help_panel=COMPUTING,
    ),
]


# What Matplotlib writes by suffix; JPEG would smear the cells.
PICTURES = (".png", ".pdf", ".svg")


FEW_IMAGES = 5  # to tune on


def size(values: tuple[int, int]) -> str:
    """(16, 24) as "16 x 24"; (16, 16) as "16"."""
    return str(values[0]) if values[0] == values[1] else f"{values[0]} x {values[1]}"


def fill_words(fill: DescribedFill) -> str:
    """A fill in short, of a specification or of what a tuning holds for: "0.5", "0.5,0.4,0.4", "black and white"."""
    if isinstance(fill, str):
        return fill
    if isinstance(fill, tuple) and any(isinstance(one, (str, tuple)) for one in fill):
        return " and ".join(fill_words(one) for one in fill)
    return ",".join(f"{value:g}" for value in (fill if isinstance(fill, tuple) else (fill,)))


def check_picture(option: str, path: Path) -> None:
    """Exit with code 2 where the suffix is not one of a picture that can be drawn."""
    if path.suffix.lower() not in PICTURES:
        misuse(option, f"{str(path)!r} does not end in {', '.join(PICTURES)}")


def pair(option: str, text: str) -> tuple[int, int]:
    """(height, width) from "16" or "16,24", both at least 1."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or min(values) < 1:
        misuse(option, f"{text!r} is neither a number of pixels (16) nor a height and width (16,24)")
    return values[0], values[-1]


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers from "0.5", "1/255" or "0.485,0.456,0.406"."""
    try:
        return tuple(_number(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        misuse(option, f"{text!r} is neither a number (0.5 or 1/255) nor one a channel (0.485,0.456,0.406)")


def filling(given: str | Sequence[str] | None) -> float | str | tuple[float | str | tuple[float, ...], ...]:
    """--fill, as often as it was given, as a specification and the API take it."""
    texts = [given] if isinstance(given, str) else list(given or ["0"])
    fills = [_fill(text) for text in texts]
    if len(fills) == 1:
        return fills[0]
    # A list of numbers alone would be one a channel.
    return tuple(one if isinstance(one, (str, tuple)) else (one,) for one in fills)


def _fill(text: str) -> float | str | tuple[float, ...]:
    from krypton_onnx.runtime.fills.words import WORDS, meant, word_list

    word = text.strip()
    if word in WORDS:
        return word
    try:
        values = tuple(_number(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        misuse(
            "--fill",
            f"{text!r} is neither a number (0.5), nor one a channel (0.5,0.4,0.4), nor {word_list()}{meant(word)}",
        )
    return values[0] if len(values) == 1 else values


def patch_and_shape(context: typer.Context, patch: str, shape: str) -> tuple[tuple[int, int], str, bool]:
    """--patch and --patch-shape as a specification holds them, and whether the picture of a mask gave the size.

    Exits with code 2 where the shape is neither a word nor can be a file, or its size is not that of --patch.
    """
    from krypton_onnx.mask_files import read_mask, read_patch_shape
    from krypton_onnx.runtime.fills.shapes import SHAPES

    size = pair("--patch", patch)
    try:
        shape = read_patch_shape(shape)
    except ValueError as error:
        misuse("--patch-shape", str(error))
    if shape in SHAPES:
        return size, shape, False
    height, width = read_mask(shape).shape
    source = context.get_parameter_source("patch")
    if source is not None and not source.name.startswith("DEFAULT") and size != (height, width):
        misuse("--patch-shape", f"{shape} has {height} x {width} pixels, and --patch is {size[0]} x {size[1]}")
    return (height, width), shape, True


def seconds(option: str, text: str) -> float:
    """Seconds from "5", "5s", "1.5m" or "500ms"."""
    for suffix, factor in (("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("", 1.0)):
        if text.endswith(suffix):
            try:
                value = float(text.removesuffix(suffix)) * factor
            except ValueError:
                break
            if 0 <= value < float("inf"):
                return value
            break
    misuse(option, f"{text!r} is not a time (5s, 500ms or 2m)")


_UNITS = {"": 1} | {
    prefix + binary: base ** (power + 1)
    for power, prefix in enumerate("kmgt")
    for binary, base in (("", 1000), ("i", 1024))
}


def memory(option: str, text: str) -> int:
    """Bytes from "2GiB", "500MB", "1.5G" or "1000000"."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?", text.strip().lower())
    size = 0 if match is None else int(float(match[1]) * _UNITS[match[2] or ""])
    if size < 1:
        misuse(option, f"{text!r} is not an amount of memory (2GiB, 500MB)")
    return size


def shape_and_input(shape: str | None, image_input: str | None) -> tuple[tuple[int, ...] | None, str | None]:
    """The shape of the image input and its name, from --input-shape "data:1,3,224,224" and --image-input.

    Either names the input; the name itself may hold colons.
    """
    if shape is None:
        return None, image_input
    name, _, sizes = shape.rpartition(":")
    try:
        values = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or min(values) < 1:
        misuse("--input-shape", f"{shape!r} is not an input's name and its four sizes (data:1,3,224,224)")
    if name and image_input and name != image_input:
        misuse("--input-shape", f"names the input {name!r}, but --image-input names {image_input!r}")
    return values, name or image_input


def _number(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    return float(numerator) / float(denominator) if slash else float(numerator)


def _presets(incomplete: str) -> list[str]:
    from krypton_onnx.images.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]
