"""A folder written whole or not at all: made beside its place, and put there when it is complete."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from krypton_onnx.errors import KryptonError

PAGE = "index.html"
MANIFEST = "model/manifest.json"
CERTAIN = (PAGE, "model", "assets")  # in every site

_ABANDONED = 24 * 3600.0  # seconds; no site takes so long to write
_STAGING = re.compile(r"\.krypton-web-[0-9a-f]{12}")


def is_site(folder: Path) -> bool:
    """Whether it is a site of ours: it has a page, and a manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"format", "model", "origin_input"} <= set(manifest) and (
        folder / PAGE
    ).is_file()


def require_place(path: str | os.PathLike[str], force: bool = False) -> Path:
    """Fail now rather than after a long conversion: a site could be written to `path`.

    force : also among what is in a folder that is no site. Returns the path with links followed. Raises KryptonError.
    """
    target = Path(os.path.realpath(path))
    parent = target if target.is_dir() else target.parent
    if target.exists() and not target.is_dir():
        raise KryptonError(f"cannot write to {path}: it is a file, and a site is a folder")
    if not parent.is_dir():
        raise KryptonError(f"cannot write to {path}: there is no folder {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise KryptonError(f"cannot write to {path}: the folder {parent} is not writable")
    if parent == target and not force and not is_site(target) and any(_content(target)):
        raise KryptonError(
            f"cannot write to {path}: it is not empty and no site of krypton-onnx; give another folder, or --force to "
            "write the site among what is in it"
        )
    if target.is_dir():
        _require_ours(target, CERTAIN)  # before the model is converted, for minutes; the others when they are there
    return target


@contextmanager
def staged(path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """A folder to write a site into; what is in it is at `path` when the block ends well, and gone when not.

    Where there is no such folder it appears whole. In an existing one every file and folder of the site takes the place
    of the one of its name, the page last, and what else is in it stays; where one cannot, all are as before. Raises
    KryptonError where it cannot be written.
    """
    target = require_place(path, force)
    inside = target.is_dir()
    _remove_abandoned(target if inside else target.parent)
    staging = (target if inside else target.parent) / f".krypton-web-{secrets.token_hex(6)}"
    try:
        staging.mkdir()  # not by tempfile, whose folders a web server may not read
        yield staging
        _flush(staging)
        if inside:
            _exchange(staging, target)
        else:
            os.rename(staging, target)
    except OSError as error:
        raise KryptonError(f"cannot write to {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _exchange(staging: Path, target: Path) -> None:
    """Every entry of `staging` into `target`; the old ones stay in `staging`, under another name. All, or none."""
    names = sorted((path.name for path in staging.iterdir()), key=lambda name: name == PAGE)
    old = staging / ".old"
    old.mkdir()
    _require_ours(target, names)
    begun = []
    try:
        for name in names:
            begun.append(name)
            if os.path.lexists(target / name):
                os.rename(target / name, old / name)
            os.rename(staging / name, target / name)
    except BaseException:
        for name in reversed(begun):
            if not os.path.lexists(staging / name):
                os.rename(target / name, staging / name)
            if os.path.lexists(old / name):
                os.rename(old / name, target / name)
        raise


def _require_ours(target: Path, names: Iterable[str]) -> None:
    """Raises KryptonError where a folder or file that is no part of a site would give way to one that is."""
    if is_site(target):
        return
    taken = [name for name in names if os.path.lexists(target / name)]
    if taken:
        raise KryptonError(
            f"cannot write to {target}: {taken[0]} in it is not of a site of krypton-onnx and would be replaced; give "
            "another folder"
        )


def _flush(folder: Path) -> None:
    """Onto the disk, before anything gives way: some file systems tell only now that there is no room."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _content(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not _STAGING.fullmatch(path.name))


def _remove_abandoned(folder: Path) -> None:
    """What processes that were killed left there."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if _STAGING.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _ABANDONED:
                shutil.rmtree(entry.path, ignore_errors=True)
