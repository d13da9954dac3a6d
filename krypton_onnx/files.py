"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from krypton_onnx.errors import KryptonError


def require_writable(path: str | os.PathLike[str]) -> Path:
    """Fail now rather than after a long computation: `path` must be a file that could be written.

    Returns the path with symbolic links followed. Raises KryptonError.
    """
    target = Path(os.path.realpath(path))
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
    return target


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, which becomes `path` when the block ends well and vanishes when not.

    The temporary path keeps the suffix, because writers choose a format by it. Where `path` is a symbolic
    link, the file that it points to is replaced. Raises KryptonError where `path` cannot be written.
    """
    target = require_writable(path)
    temporary = target.with_name(f".{target.stem[:100]}-{secrets.token_hex(6)}{target.suffix}")
    try:
        # Created here, not by the writer, so that a folder that refuses new files is told in our own words.
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        # Whatever else the block raised goes through as it is.
        raise KryptonError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
