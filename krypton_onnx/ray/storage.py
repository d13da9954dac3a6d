"""A folder of files, on a disk or in an object store, each written whole or not at all."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from krypton_onnx.errors import KryptonError, one_line
from krypton_onnx.files import atomic_write

_WHOLE_ON_CLOSE = ("s3", "gcs", "abfs")  # an object is there once all of it has arrived; nothing is to be renamed
_BACK_OFF = "give a folder that can be written, or the URI of an object store (s3://, gs://)"


@dataclass(frozen=True)
class Storage:
    """A folder: of `filesystem`, at `root`. where : as the user calls it, for messages. Can be sent to workers."""

    filesystem: fs.FileSystem
    root: str
    where: str

    @staticmethod
    def of(folder: str | os.PathLike[str], filesystem: fs.FileSystem | None = None) -> Storage:
        """From a path or URI. Raises KryptonError where no file system is known by that name."""
        where = os.fspath(folder)
        if filesystem is not None:
            return Storage(filesystem, where.rstrip("/"), where)
        if "://" not in where:
            return Storage(fs.LocalFileSystem(), os.path.abspath(where), where)
        system, root = resolved(where)
        return Storage(system, root.rstrip("/"), where)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of the node where it is used (which may be one that all nodes share)."""
        return self.filesystem.type_name == "local"

    def make(self) -> None:
        """Create the folder, where it is not there. Raises KryptonError where that is impossible."""
        if self.is_local:  # an object store has none
            try:
                Path(self.root).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise KryptonError(f"cannot write to {self.where}: {_reason(error)}; {_BACK_OFF}") from None

    def write(self, name: str, data: bytes) -> None:
        """A file, whole or not at all; folders are made as needed. Raises KryptonError where that is impossible."""
        path = f"{self.root}/{name}"
        try:
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as temporary:
                    temporary.write_bytes(data)
            elif self.filesystem.type_name in _WHOLE_ON_CLOSE:
                self._put(path, data)
            else:
                folder, _, last = path.rpartition("/")
                self.filesystem.create_dir(folder, recursive=True)
                temporary_path = f"{folder}/.{last}-{secrets.token_hex(6)}"
                self._put(temporary_path, data)
                self.filesystem.move(temporary_path, path)
        except (OSError, pa.ArrowException) as error:
            raise KryptonError(f"cannot write {self.where}/{name}: {_reason(error)}; {_BACK_OFF}") from None

    def _put(self, path: str, data: bytes) -> None:
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none. Raises KryptonError where it cannot be read."""
        try:
            with self.filesystem.open_input_stream(f"{self.root}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise KryptonError(f"{self.where}/{name}: cannot be read: {_reason(error)}") from None

    def exists(self, name: str) -> bool:
        """Whether there is such a file. Raises KryptonError where that cannot be found out."""
        try:
            return self.filesystem.get_file_info(f"{self.root}/{name}").type == fs.FileType.File
        except (OSError, pa.ArrowException) as error:
            raise KryptonError(f"{self.where}: cannot be read: {_reason(error)}") from None

    def names(self, folder: str, suffix: str) -> list[str]:
        """The files of a folder that end in `suffix`, hidden ones left out, sorted; none where there is no folder.

        Raises KryptonError where it cannot be read.
        """
        try:
            found = self.filesystem.get_file_info(fs.FileSelector(f"{self.root}/{folder}", allow_not_found=True))
        except (OSError, pa.ArrowException) as error:
            raise KryptonError(f"{self.where}/{folder}: cannot be read: {_reason(error)}") from None
        names = [one.base_name for one in found if one.type == fs.FileType.File]
        return sorted(f"{folder}/{name}" for name in names if name.endswith(suffix) and not name.startswith("."))

    def remove(self, name: str) -> None:
        """Delete a file. Raises KryptonError where that is impossible."""
        try:
            self.filesystem.delete_file(f"{self.root}/{name}")
        except (OSError, pa.ArrowException) as error:
            raise KryptonError(f"cannot delete {self.where}/{name}: {_reason(error)}") from None


def resolved(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path of a URI. Raises KryptonError where none is known."""
    try:
        return fs.FileSystem.from_uri(uri)
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise KryptonError(f"{uri}: no file system is known for it: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    return one_line(getattr(error, "strerror", None) or error)[:300]
