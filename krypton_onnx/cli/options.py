"""Options that several commands share, and the values that are more than a word or a number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from krypton_onnx.cli.console import misuse

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


# What Matplotlib writes by suffix; JPEG would smear the cells.
PICTURES = (".png", ".pdf", ".svg")


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
