"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from krypton_onnx.errors import KryptonError, one_line

_RANDOM_BYTES = 6
_ABANDONED = 24 * 3600.0  # seconds; no file takes so long to write


def require_writable(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """Fail now rather than after a long computation: `path` must be a file that could be written.

    inputs : files that are read for it, and must not be replaced by it.

    Returns the path with symbolic links followed. Raises KryptonError.
    """
    try:
        target = Path(os.path.realpath(path))
        _require_place(path, target)
        for given in inputs:
            if target.exists() and os.path.exists(given) and target.samefile(given):
                raise KryptonError(f"cannot write {path}: it is what is read; name another file")
    except (OSError, ValueError, TypeError) as error:  # a name that is too long, or holds a zero byte, or is no name
        if isinstance(error, KryptonError):
            raise
        raise KryptonError(f"cannot write {str(path)[:200]}: {one_line(error)[:200]}") from None
    return target


def _require_place(path: str | os.PathLike[str], target: Path) -> None:
    folder = target.parent
    if not folder.is_dir():
        raise KryptonError(f"cannot write {path}: there is no folder {folder}")
    if target.is_dir():
        raise KryptonError(f"cannot write {path}: it is a folder; name a file in it")
    if target.exists() and not target.is_file():
        # os.replace would replace a device such as /dev/null itself.
        raise KryptonError(f"cannot write {path}: it is not a regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise KryptonError(f"cannot write {path}: the folder {folder} is not writable")
    if target.exists() and not os.access(target, os.W_OK):
        # os.replace would not ask.
        raise KryptonError(f"cannot write {path}: it is write-protected")


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, which becomes `path` when the block ends well and vanishes when not.

    The temporary path keeps the suffix, because writers choose a format by it. Where `path` is a symbolic
    link, the file that it points to is replaced. Raises KryptonError where `path` cannot be written.

    A process that is killed leaves the old file, and beside it a hidden temporary one; the next write to the same path
    removes it once it is a day old, when no other process can still be at it.
    """
    target = require_writable(path)
    _remove_abandoned(target)
    temporary = target.with_name(f".{target.stem[:100]}-{secrets.token_hex(_RANDOM_BYTES)}{target.suffix}")
    try:
        # Created here, not by the writer, so that a folder that refuses new files is told in our own words.
        temporary.touch(exist_ok=False)
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except OSError as error:
        # Whatever else the block raised goes through as it is.
        raise KryptonError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _flush(path: Path) -> None:
    """Onto the disk, before the old file gives way.

    A file system may take a rename first and the content later, so that a power failure would leave neither; and some
    (quotas, network drives) tell only now that there is no room.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(target: Path) -> None:
    """What processes that were killed left of this target."""
    pattern = re.compile(
        rf"\.{re.escape(target.stem[:100])}-[0-9a-f]{{{2 * _RANDOM_BYTES}}}{re.escape(target.suffix)}"
    )
    with suppress(OSError):
        for entry in os.scandir(target.parent):
            if pattern.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _ABANDONED:
                os.unlink(entry.path)
