"""Which images are meant, for Ray Data: files, folders and patterns, on disks and in object stores."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pyarrow as pa
import ray.data
from pyarrow import fs

from krypton_onnx.cli.sources import SUFFIXES, find
from krypton_onnx.errors import ImageError, one_line
from krypton_onnx.ray.storage import resolved

PATH, FILE = "path", "file"  # columns: the image's key, and where it is read
MOST_BLOCKS = 4096  # each is an object of Ray's

@dataclass(frozen=True)
class File:
    """An image in a file. key : as it was given, below the folder that was. location : an absolute path, or a URI."""

    key: str
    location: str


Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str] | File]


def images(paths: Paths) -> ray.data.Dataset:
    """A dataset of images in files: a row each, with the columns `path` (its key) and `file` (where it is read).

    paths : files, folders (all images below them) and patterns (*, [ab], ** for any folders), each a path or the URI of
    an object store (s3://, gs://, or what else PyArrow knows). Their content is read by the workers, so every node must
    reach them; images that an earlier run explained are not read. Raises ImageError where one means no image.
    """
    return dataset_of(find_files(paths), 1)


def find_files(paths: Paths, outputs: Path | None = None) -> list[File]:
    """What `paths` mean, each image once; what was found before stays as it is. outputs : a folder below them to leave
    out. Raises ImageError as `images`."""
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found = [one for one in given if isinstance(one, File)]
    texts = [os.fspath(one) for one in given if not isinstance(one, File)]
    local = [Path(text) for text in texts if "://" not in text]
    found += [File(str(one.path), os.path.abspath(one.path)) for one in (find(local, outputs) if local else ())]
    for uri in (text for text in texts if "://" in text):
        found += _of_uri(uri)
    for one in found:
        if "://" not in one.location and not os.path.exists(one.location):
            raise ImageError(f"{one.key}: no such file or folder")
    once = list({file.location: file for file in found}.values())
    if not once:
        raise ImageError("no image is named: give files, folders or patterns")
    return once


def dataset_of(files: Sequence[File], rows: int) -> ray.data.Dataset:
    """The dataset of `images`, in blocks of so many rows, or of more where there would be very many blocks."""
    rows = max(rows, -(-len(files) // MOST_BLOCKS))
    parts = [files[start : start + rows] for start in range(0, len(files), rows)] or [[]]
    schema = pa.schema([(PATH, pa.string()), (FILE, pa.string())])
    return ray.data.from_arrow([
        pa.table([[file.key for file in part], [file.location for file in part]], schema=schema) for part in parts
    ])


def _of_uri(uri: str) -> list[File]:
    """The images that a URI means: itself, those below it, or those that its pattern matches.

    What stands behind a question mark says how to reach the store (?endpoint_override=...), and is no part of a key.
    """
    whole, mark, options = uri.partition("?")
    scheme, _, path = whole.partition("://")
    parts = PurePosixPath(path).parts
    is_pattern = any(_is_magic(part) for part in parts)
    fixed = list(takewhile(lambda part: not _is_magic(part), parts)) if is_pattern else [path.rstrip("/")]
    base = f"{scheme}://{'/'.join(fixed).replace('//', '/')}"
    system, root = resolved(base + mark + options)
    try:
        if not is_pattern and system.get_file_info(root).type == fs.FileType.File:
            return [File(whole, uri)]
        below = system.get_file_info(fs.FileSelector(root, recursive=True))
    except FileNotFoundError:
        raise ImageError(f"{whole}: no such file or folder") from None
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{whole}: cannot be listed: {one_line(error)[:300]}") from None
    names = sorted(one.path[len(root) :].lstrip("/") for one in below if one.type == fs.FileType.File)
    names = [name for name in names if not re.search(r"(^|/)\.", name)]
    if is_pattern:
        wanted = re.compile(_expression(parts[len(fixed) :]))
        names = [name for name in names if wanted.fullmatch(name)]
    if not is_pattern or _is_magic(PurePosixPath(path).suffix or "*"):
        names = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not names:
        raise ImageError(f"{whole}: means no image (PNG, JPEG, TIFF, DICOM, ..., .npy)")
    # Names as the store has them; in a URI % # ? and blanks mean something else.
    return [File(f"{base}/{name}", f"{base}/{quote(name)}{mark}{options}") for name in names]


def _is_magic(part: str) -> bool:
    return re.search(r"[*[]", part) is not None


def _expression(parts: Sequence[str]) -> str:
    """A regular expression of the parts of a pattern: ** stands for any folders, * stays inside one."""
    pieces = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            pieces.append(".*" if last else "(?:.*/)?")
            continue
        inside = re.sub(r"\\\[(.+?)\\\]", r"[\1]", re.escape(part).replace(r"\*", "[^/]*").replace(r"\-", "-"))
        pieces.append(inside if last else f"{inside}/")
    return "".join(pieces)
