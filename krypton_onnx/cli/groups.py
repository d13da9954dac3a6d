"""The groups of options that `explain`, `tune` and `bench` share, and what they mean for a specification."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.completion import class_names
from krypton_onnx.cli.console import misuse
from krypton_onnx.cli.grouping import Options

if TYPE_CHECKING:
    from krypton_onnx.cli.preparing import PreparingOptions

Values = dict[str, tuple[str, Any]]  # by parameter: the field of a specification, and its value


@dataclass(frozen=True)
class OcclusionOptions(Options):
    """What hides the image, and where."""

    panel: ClassVar[str] = "What hides the image"

    patch: options.Patch = "16"
    stride: options.Stride = "4"
    patch_shape: options.PatchShape = "rectangle"
    fill: options.Fill = None
    fill_space: options.FillSpace = "model"
    fill_samples: options.FillSamples = 8

    @property
    def mask(self) -> Path | None:
        """The file of a patch shape that is no word."""
        from krypton_onnx.runtime.fills.shapes import SHAPES

        return None if self.patch_shape in SHAPES else Path(self.patch_shape)

    def read(self, context: typer.Context) -> tuple[Values, bool]:
        """As a specification has them, and whether the picture of a mask gave the size of the patch.

        Exits with code 2 where a value cannot be right.
        """
        size, shape, by_mask = options.patch_and_shape(context, self.patch, self.patch_shape)
        return {
            "patch": ("patch", size),
            "stride": ("stride", options.pair("--stride", self.stride)),
            "patch_shape": ("patch_shape", shape),
            "fill": ("fill", options.filling(self.fill)),
            "fill_space": ("fill_space", self.fill_space),
            "fill_samples": ("fill_samples", self.fill_samples),
        }, by_mask


@dataclass(frozen=True)
class ScoreOptions(Options):
    """Which number of a class is mapped."""

    panel: ClassVar[str] = "Which number of a class"

    score: options.Score = "output"
    activation: Annotated[
        Literal["softmax", "sigmoid"] | None,
        typer.Option(
            help="Of a model that ends in raw logits: what makes probabilities of them. Never guessed.",
            show_default=False,
        ),
    ] = None
    model_output: options.ModelOutput = None

    def read(self) -> Values:
        """As a specification has them; exits with code 2 where they contradict each other."""
        if self.activation is not None and self.score not in ("output", "log-odds"):
            misuse("--activation", f"has no meaning with --score {self.score}: leave it out")
        return {
            "score": ("score", self.score),
            "activation": ("activation", self.activation),
            "model_output": ("output", self.model_output),
        }


@dataclass(frozen=True)
class TargetOptions(Options):
    """Of which classes, and where."""

    panel: ClassVar[str] = "Of which classes, and where"

    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="A class to explain, by number or by name; may be given several times, for the price of one. "
            "Default: the predicted one.",
            autocompletion=class_names,
            show_default=False,
        ),
    ] = None
    top: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Explain the K classes of the largest scores instead.")
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the classes: text, one a line from class 0 on, or JSON. Default: as stored in the model.",
            show_default=False,
        ),
    ] = None
    region: Annotated[
        str | None,
        typer.Option(
            metavar="TOP,LEFT,BOTTOM,RIGHT", help="Explain only there, in pixels of the model's input."
        ),
    ] = None

    def read(self) -> Values:
        """Those that need no model; exits with code 2 where one cannot be right."""
        if self.target and self.top is not None:
            misuse("--top", "and --target both say which classes: give one of them")
        if any(not word.strip() for word in self.target or ()):
            misuse("--target", "is empty: give the number or the name of a class")
        return {"top": ("top", self.top), "region": ("region", None if self.region is None else _region(self.region))}


@dataclass(frozen=True)
class PreparationOptions(Options):
    """How a picture becomes what the model takes."""

    panel: ClassVar[str] = options.PREPARING

    preset: options.PresetName = None
    preparation_file: options.PreparationFile = None
    image_size: options.ImageSize = None
    fit: options.Fit = None
    resize: options.Resize = None
    resample: options.Resample = None
    window: options.Window = None
    scale: options.Scale = None
    mean: options.Mean = None
    std: options.Std = None
    channel_order: options.Channels = None
    image_input: options.ImageInput = None
    input_shape: options.InputShape = None

    def read(self) -> PreparingOptions:
        """The values, understood; exits with code 2 where one cannot be."""
        from krypton_onnx.cli.preparing import PreparingOptions

        return PreparingOptions.parse(**asdict(self))


@dataclass(frozen=True)
class ModeOptions(Options):
    """How good a map is to be, and what it may cost."""

    panel: ClassVar[str] = options.COMPUTING

    mode: Annotated[
        Literal["exact", "approximate", "naive"],
        typer.Option(
            help="exact: by incremental inference; approximate: many times faster, of a quality that was tuned and is "
            "checked (krypton-onnx tune); naive: by full inference, much slower and the same as exact."
        ),
    ] = "exact"
    min_ssim: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="SSIM of an approximate map to the exact one. Default: as tuned."),
    ] = None
    complete_exactly: Annotated[
        bool, typer.Option(help="Compute an approximate map exactly where its estimated SSIM is too low.")
    ] = True
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="5s", help="Stop after so long and keep the map as far as it is, as Ctrl-C does."),
    ] = None

    def read(self) -> Values:
        budget = None if self.time_budget is None else options.seconds("--time-budget", self.time_budget)
        return {
            "mode": ("mode", self.mode),
            "min_ssim": ("min_ssim", self.min_ssim),
            "complete_exactly": ("complete_exactly", self.complete_exactly),
            "time_budget": ("time_budget", budget),
        }


@dataclass(frozen=True)
class RunOptions(Options):
    """On what, and within what."""

    panel: ClassVar[str] = options.COMPUTING

    max_memory: options.MaxMemory = None
    seed: options.Seed = 0
    providers: options.Providers = None
    strict: options.Strict = False

    @property
    def memory(self) -> int | None:
        """Bytes."""
        return None if self.max_memory is None else options.memory("--max-memory", self.max_memory)

    def read(self) -> Values:
        return {
            "max_memory": ("memory_budget", self.memory),
            "seed": ("seed", self.seed),
            "strict": ("strict", self.strict),
        }


def _region(text: str) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) from "10,20,110,220"."""
    edges = [int(part) for part in text.split(",")] if re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*){3}", text) else []
    if len(edges) != 4 or edges[0] >= edges[2] or edges[1] >= edges[3]:
        misuse("--region", f"{text!r} is not TOP,LEFT,BOTTOM,RIGHT with TOP < BOTTOM and LEFT < RIGHT (10,20,110,220)")
    top, left, bottom, right = edges
    return top, left, bottom, right
