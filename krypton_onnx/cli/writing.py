"""The options of `explain` that say what is written, and into which files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import misuse
from krypton_onnx.cli.grouping import Options


class Format(StrEnum):
    """What can be written of a map, by the suffix."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"
    NPZ = "npz"
    JSON = "json"
    HTML = "html"


FORMATS = tuple(one.value for one in Format)


@dataclass(frozen=True)
class WrittenOptions(Options):
    """What is written and printed."""

    panel: ClassVar[str] = "What is written"

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE | FOLDER/",
            help="The map: a picture (.png, .pdf, .svg), its numbers (.npz, .json) or a report (.html). Of several "
            "images a folder, in which what is finished is not computed again.",
            show_default=False,
        ),
    ] = None
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="SUFFIX",
            help="What to write of each image into the folder: png, pdf, svg, npz, json or html; may be given several "
            "times. Default: png.",
            show_default=False,
        ),
    ] = None
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="And a page on which to look closely at the map.")
    ] = None
    show: Annotated[
        Literal["drop", "score", "predicted"],
        typer.Option(
            help="In pictures. drop: how much the score falls; score: of the hidden image; predicted: the class that "
            "the hidden image turns into."
        ),
    ] = "drop"
    extremes: Annotated[
        int, typer.Option(metavar="K", min=0, max=12, help="In pictures: how many of the largest drops to point out.")
    ] = 0
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make anew what is in the folder, finished or made otherwise.")
    ] = False
    save_spec: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save all but the images as a specification (TOML), for --spec."),
    ] = None
    json: options.Json = False
    quiet: options.Quiet = False

    @property
    def look(self) -> dict[str, Any]:
        """The keyword arguments of Explanation.save."""
        return {"show": self.show, "extremes": self.extremes}

    @property
    def files(self) -> list[Path]:
        """Those to write of one image."""
        return [Path(path) for path in (self.output, self.report) if path is not None]

    @property
    def folder(self) -> Path | None:
        """--output, where it is no file of a known kind."""
        known = self.output is None or (self._suffix in FORMATS and not Path(self.output).is_dir())
        return None if known else Path(self.output or "")

    @property
    def _suffix(self) -> str:
        return Path(self.output or "").suffix.lower().removeprefix(".")

    def for_several(self, several: bool) -> bool:
        """Whether outputs go into a folder. several : the arguments mean several images, or may.

        Exits with code 2 where the options do not fit what they mean.
        """
        output = self.output
        if not several and not (output is not None and (output.endswith(("/", "\\")) or Path(output).is_dir())):
            self._require_files()
            return False
        if self.report is not None:
            misuse("--report", "is of one image: for several give --format html")
        if output is None and not self.json:
            misuse("--output", "give a folder for the maps (-o maps/), or --json, or both")
        if output is not None and self.folder is None:
            misuse("--output", f"several images need a folder (-o maps/), and {output!r} is a file: see --format")
        if output is None and self.formats:
            misuse("--format", "needs a folder to write to (-o maps/)")
        return True

    def require_distinct(self) -> None:
        """Exits with code 2 where two files to be written are the same."""
        named = [("--output", self.output), ("--report", self.report), ("--save-spec", self.save_spec)]
        given = {option: os.path.realpath(path) for option, path in named if path is not None}
        for option, path in given.items():
            others = [other for other in given if other != option and given[other] == path]
            if others:
                misuse(option, f"names the same file as {others[0]}: give each a file of its own")

    def _require_files(self) -> None:
        if self.output is None and self.report is None and not self.json:
            misuse("--output", "give a file for the map (-o map.png), or --json, or both")
        if self.formats:
            misuse("--format", "is for a folder (-o maps/): of one file the suffix says what it is")
        if self.output is not None and self._suffix not in FORMATS:
            endings = ", ".join(f".{one}" for one in FORMATS)
            misuse("--output", f"{self.output!r} does not end in {endings}, nor in / as a folder")
        if self.report is not None and self.report.suffix.lower() != ".html":
            misuse("--report", f"{str(self.report)!r} does not end in .html")
