"""Which images are meant: files, folders and patterns on the command line, and what their outputs are called."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from krypton_onnx.errors import ImageError

# Of files that are looked for in folders; a file that is named may end in anything.
SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".avif", ".jp2", ".ppm",
    ".pgm", ".pnm", ".dcm", ".dicom", ".npy",
})  # fmt: skip
MAGIC = 128, b"DICM"  # where a DICOM file says that it is one; many have no suffix


@dataclass(frozen=True)
class Source:
    """An image. name : of its outputs in their folder, without a suffix; subfolders as the images have them."""

    path: Path
    name: Path


def are_several(given: Sequence[Path]) -> bool:
    """Whether the arguments may mean many images, also where a folder or pattern happens to hold one."""
    return len(given) > 1 or any(path.is_dir() or _is_pattern(path) for path in given)


def find(given: Sequence[Path], outputs: Path | None = None) -> tuple[Source, ...]:
    """What the arguments mean: files as they are, folders with all below them, patterns (*, ?, [ab], ** any folders).

    outputs : a folder inside those that are searched, which is left out. Hidden files and folders are left out too.
    Each image once. Raises ImageError where one is none of these, holds no image, or is the folder of the outputs.
    """
    found: list[Source] = []
    for argument in given:
        if argument.is_dir():
            base, paths = argument, _below(argument)
        elif _is_pattern(argument):
            base, paths = _base(argument), _matches(argument)
        else:
            found.append(Source(argument, Path(_stem(argument))))
            continue
        if outputs is not None and os.path.realpath(outputs) == os.path.realpath(base):
            raise ImageError(f"{argument}: the maps would lie among the images and be taken for some: name another one")
        images = [path for path in paths if not _is_below(path, outputs, base)]
        if not images:
            raise ImageError(f"{argument}: {_nothing(argument)}")
        found += [Source(path, path.relative_to(base).parent / _stem(path)) for path in images]
    if are_several(given):
        missing = [source.path for source in found if not source.path.exists()]
        if missing:
            others = f" (and {len(missing) - 1} more that are not there)" if len(missing) > 1 else ""
            raise ImageError(f"{missing[0]}: no such file or folder{others}; quote a pattern of names ('scans/*.dcm')")
    first = {os.path.realpath(source.path): source for source in reversed(found)}
    once = [source for source in found if first[os.path.realpath(source.path)] is source]
    return tuple(_distinct(once))


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _below(folder: Path) -> list[Path]:
    """The images in a folder and all below it, in the order of their names."""
    paths = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
    return [path for path in paths if _is_image(path)]


def _matches(pattern: Path) -> list[Path]:
    """The images that a pattern names, and those in folders that it names."""
    suffix = pattern.suffix  # asked for by name, it is taken for an image's
    asked = bool(suffix) and not glob.has_magic(suffix)
    paths: list[Path] = []
    base = _base(pattern)
    # Not by the module glob, whose ** follows links, also those that lead back up.
    inside = pattern.relative_to(base)
    for path in sorted(base.glob(str(inside / "*" if inside.name == "**" else inside))):
        if any(part.startswith(".") for part in path.relative_to(base).parts):
            continue
        if path.is_dir():
            paths += [] if "**" in pattern.parts else _below(path)
        elif asked or _is_image(path):
            paths.append(path)
    return list(dict.fromkeys(paths))


def _base(pattern: Path) -> Path:
    """The folder above the first part of a pattern that is one."""
    fixed: list[str] = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _nothing(argument: Path) -> str:
    if argument.is_dir():
        return "a folder without images (PNG, JPEG, TIFF, DICOM, ..., .npy)"
    return "no image is called so" if _base(argument).is_dir() else f"there is no folder {_base(argument)}"


def _is_image(path: Path) -> bool:
    if not path.is_file():  # to open a pipe would wait for ever
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    start, word = MAGIC
    try:
        with path.open("rb") as file:
            return file.read(start + len(word))[start:] == word
    except OSError:
        return False


def _is_below(path: Path, folder: Path | None, base: Path) -> bool:
    """Whether it is in `folder`, where that is inside `base`: the outputs of an earlier run are no images."""
    if folder is None:
        return False
    real = Path(os.path.realpath(folder))
    inside = real.is_relative_to(os.path.realpath(base)) and real != Path(os.path.realpath(base))
    return inside and Path(os.path.realpath(path)).is_relative_to(real)


def _stem(path: Path) -> str:
    """The name without the suffix of an image; numbers behind dots, as DICOM files have, are no suffix."""
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return stem if stem.strip(".") else path.name  # "..png" must not become a name for the folder above


# -- names without collisions ------------------------------------------------------------------------------------------


def _distinct(sources: Sequence[Source]) -> list[Source]:
    """The same with names of their own: where two would be alike, with their suffixes, then with their folders.

    Upper and lower case count as alike, as they do on other systems. Raises ImageError where nothing helps.
    """
    named = _renamed(sources, lambda alike: [one.name.with_name(one.path.name) for one in alike])
    named = _renamed(named, _with_folders)
    for alike in _alike(named):
        first, second = (str(source.path) for source in alike[:2])
        raise ImageError(f"{first} and {second} would be written to the same file: explain them one after the other")
    return named


def _renamed(sources: Sequence[Source], names: Callable[[list[Source]], list[Path]]) -> list[Source]:
    new = {
        source: name for alike in _alike(sources) for source, name in zip(alike, names(alike), strict=True)
    }
    return [replace(source, name=new[source]) if source in new else source for source in sources]


def _with_folders(alike: list[Source]) -> list[Path]:
    paths = [Path(os.path.abspath(source.path)) for source in alike]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common) for path in paths]


def _alike(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Those that share a name."""
    by_name: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        by_name[str(source.name).casefold()].append(source)
    return (group for group in by_name.values() if len(group) > 1)
