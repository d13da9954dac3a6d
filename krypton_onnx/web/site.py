"""A site: the built page, the rewritten model and its manifest, a sample, what a server should say; in one folder."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from krypton_onnx.conversion import ConversionReport, convert
from krypton_onnx.errors import ImageError
from krypton_onnx.images.preparation import Preparation, window_words
from krypton_onnx.rewriter import Source, load_model
from krypton_onnx.rewriter.weights import weight_bytes
from krypton_onnx.runtime.preparing import preparation_of, stored_preparation
from krypton_onnx.runtime.scores import Scored
from krypton_onnx.web import headers, sample
from krypton_onnx.web.building import STAMP, built_page
from krypton_onnx.web.folder import require_place, staged
from krypton_onnx.web.manifest import (
    FILL_WORDS,
    MODEL,
    NAME,
    Defaults,
    Manifest,
    PageFill,
    Sample,
    read_model,
    require_small,
)

PATCH = 16
STRIDE = 8
"""Twice that of `explain`: a quarter of the positions, for a browser."""


@dataclass(frozen=True)
class Site:
    """What `write_site` wrote. bytes : of all files. conversion : what came of the model."""

    path: Path
    manifest: Manifest
    conversion: ConversionReport
    bytes: int


@dataclass(frozen=True)
class Wanted:
    """What a site is to be like.

    title : None is the name of the model's file. sample : the path of a picture, None for a photograph of our own
    where the model takes colours, False for none. patch, stride : (height, width) in pixels, None for 16 (less in a
    smaller image) and 8. fill : a number, one a channel, or one of FILL_WORDS. activation : as for explain.
    """

    title: str | None = None
    sample: Path | bool | None = None
    patch: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    fill: PageFill = 0.0
    output: str | None = None
    activation: str | None = None


def write_site(
    model: Source,
    path: str | os.PathLike[str],
    wanted: Wanted | None = None,
    *,
    preparation: Preparation | str | None = None,
    labels: tuple[str, ...] | None = None,
    input_shape: tuple[int, ...] | None = None,
    image_input: str | None = None,
    check: bool = True,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
    page: Callable[[Callable[[str], None]], Path] = built_page,
) -> Site:
    """Write a static site that explains images by `model`, original or rewritten; whole or not at all.

    preparation : how pictures become the model's input; None is what is stored in the model, else pixel / 255.
    labels, input_shape, image_input, check : as for `convert`. force : as for `folder.staged`. say : told what takes
    long. page : gives the folder of the built page.

    Raises ModelError where the model cannot be on a page, ImageError where an argument does not fit it, KryptonError
    where the page cannot be built or the site not written.
    """
    require_place(path, force)
    wanted = wanted or Wanted()
    if isinstance(wanted.fill, str) and wanted.fill not in FILL_WORDS:
        raise ImageError(f"fill {wanted.fill!r} is not one of a page: give numbers, or {', '.join(FILL_WORDS)}")
    original = load_model(model)
    require_small(weight_bytes(original))
    known = _of_8_bits(preparation_of(preparation) or stored_preparation(original) or Preparation())
    with staged(path, force) as staging:
        folder = staging / "model"
        folder.mkdir()
        say("converting the model")
        report = convert(original, folder / MODEL, input_shape, image_input, check, None, known, labels)
        manifest = _described(folder, report, wanted, _title(model, wanted.title))
        (folder / NAME).write_text(manifest.to_json(), encoding="utf-8")
        shutil.copytree(page(say), staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(STAMP))
        for name, text in headers.FILES.items():
            (staging / name).write_text(text(), encoding="utf-8")
        size = sum(file.stat().st_size for file in staging.rglob("*") if file.is_file())
    return Site(Path(path), manifest, report, size)


def _of_8_bits(preparation: Preparation) -> Preparation:
    """Without a window, which is of deeper pictures than a browser reads. Warns where there was one."""
    if preparation.window is None:
        return preparation
    warnings.warn(
        f"the page takes pictures of 8 bits as they are: save scans as PNG with the {window_words(preparation.window)} "
        "before they are opened there",
        stacklevel=3,
    )
    return replace(preparation, window=None)


def _described(folder: Path, report: ConversionReport, wanted: Wanted, title: str) -> Manifest:
    """The manifest; the sample is written."""
    preparation = report.preparation
    assert preparation is not None and preparation.size is not None
    height, width = preparation.size
    patch = wanted.patch or (min(PATCH, height), min(PATCH, width))
    defaults = Defaults(patch, wanted.stride or (STRIDE, STRIDE), wanted.fill)
    manifest_sample = _write_sample(folder, wanted.sample, preparation)
    scored = Scored("output", wanted.activation, wanted.output)
    return read_model(folder / MODEL, title, scored, defaults, manifest_sample)


def _write_sample(folder: Path, wanted: Path | bool | None, preparation: Preparation) -> Sample | None:
    if wanted is False:
        return None
    # The name of the file may be a person's.
    words = Sample(sample.FILE, sample.CAPTION, "")
    if isinstance(wanted, Path):
        picture = sample.read_sample(wanted, preparation)
    else:
        words = Sample(sample.FILE, sample.OWN_CAPTION, sample.OWN_CREDIT)
        own = sample.own_sample(preparation)
        if own is None:
            return None
        picture = own
    picture.save(folder / sample.FILE, optimize=True)
    return words


def _title(model: Source, title: str | None) -> str:
    if title is not None and title.strip():
        return " ".join(title.split())
    return Path(model).stem if isinstance(model, (str, os.PathLike)) else "Model"
