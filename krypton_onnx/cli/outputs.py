"""A folder of outputs, one or more an image: which are there already, and whether they were made in the same way."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krypton_onnx.cli.sources import Source
from krypton_onnx.errors import KryptonError, one_line
from krypton_onnx.explanation import file_digest

if TYPE_CHECKING:
    from krypton_onnx import Explanation, ExplanationSpec

SPECIFICATION = "specification.toml"
RECORD = "finished.jsonl"  # a line for each image that is done: what was read, and which files were written
_NO_MATTER = ("memory_budget", "batch_size")  # fields that change how long it takes, and no map
_ANEW = "give another folder, or --overwrite to make all of them anew"


class OutputFolder:
    """Outputs of images in a folder, each written whole or not at all, and recorded once it is.

    formats : suffixes without their dots, the outputs of every image. look : how pictures are drawn.
    """

    def __init__(self, folder: Path, formats: Sequence[str], look: Mapping[str, Any]) -> None:
        self._folder, self._formats, self._look = folder, tuple(dict.fromkeys(formats)), dict(look)
        self._labels: str | None = None  # digest of the names of the classes, which the outputs show
        self._digests: dict[str, str] = {}  # of the images, by the output that was made of them

    def require_possible(self, sources: Sequence[Source], read: Iterable[Path], overwrite: bool) -> None:
        """Before anything is computed. read : what must not be replaced, beside the images.

        Raises KryptonError where the folder cannot be one, holds files of these names that were not made here, or an
        output would replace what is read.
        """
        folder = self._folder
        if folder.exists() and not folder.is_dir():
            raise KryptonError(f"cannot write to {folder}: it is no folder, and several images need one")
        inputs = {os.path.realpath(path) for path in (*read, *(source.path for source in sources))}
        outputs = [path for source in sources for path in self.outputs(source)]
        for path in (*outputs, folder / SPECIFICATION, folder / RECORD):
            if os.path.realpath(path) in inputs:
                raise KryptonError(f"cannot write {path}: it is what is read; give another folder")
        if overwrite or (folder / SPECIFICATION).exists():
            return
        foreign = next((path for path in outputs if path.exists()), None)
        if foreign is not None:
            raise KryptonError(f"{foreign} is there, and was not written by this command: {_ANEW}")

    def begin(self, spec: ExplanationSpec, labels: Sequence[str] | None, overwrite: bool) -> None:
        """Make the folder, or go on in it. Raises KryptonError where its outputs were made in another way."""
        folder = self._folder
        if labels is not None:
            self._labels = hashlib.sha256("\n".join(labels).encode("utf-8", "surrogatepass")).hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if overwrite:
                (folder / RECORD).unlink(missing_ok=True)
        except OSError as error:
            raise KryptonError(f"cannot write to {folder}: {error.strerror or error}") from None
        if (folder / SPECIFICATION).exists() and not overwrite:
            spec = self._continued(spec)
        spec.save(folder / SPECIFICATION)
        self._digests = self._recorded()

    def outputs(self, source: Source) -> list[Path]:
        """The files to be written of an image."""
        whole = self._folder / source.name
        return [whole.with_name(f"{whole.name}.{suffix}") for suffix in self._formats]

    def finished(self, source: Source) -> bool:
        """Whether all its outputs are there, made of this very image."""
        outputs = self.outputs(source)
        known = {self._digests.get(self._key(path)) for path in outputs}
        if len(known) != 1 or None in known or not all(path.exists() for path in outputs):
            return False
        try:
            return file_digest(source.path) in known
        except KryptonError:  # will be told when it is explained
            return False

    def write(self, source: Source, explanation: Explanation) -> list[Path]:
        """Its outputs; recorded when all are there. Raises KryptonError where one cannot be written."""
        outputs = self.outputs(source)
        try:
            outputs[0].parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KryptonError(f"cannot write to {outputs[0].parent}: {error.strerror or error}") from None
        for path in outputs:
            explanation.save(path, **self._look)
        line = {
            "image": str(source.path),
            "sha256": explanation.source_sha256,
            "outputs": [self._key(path) for path in outputs],
            "look": self._look,
            "labels": self._labels,
        }
        self._append(json.dumps(line, ensure_ascii=False))
        return outputs

    def _key(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _append(self, line: str) -> None:
        path = self._folder / RECORD
        try:
            with path.open("a+b") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                torn = file.read(1) not in (b"", b"\n")  # by a process that was killed while it wrote
                file.write(b"\n" * torn + line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError as error:
            raise KryptonError(f"cannot write {path}: {error.strerror or error}") from None

    def _recorded(self) -> dict[str, str]:
        """The digest of the image behind every output. Raises KryptonError where pictures were drawn in another way."""
        path = self._folder / RECORD
        digests: dict[str, str] = {}
        try:
            lines = path.read_bytes().splitlines() if path.exists() else []
        except OSError as error:
            raise KryptonError(f"{path}: cannot be read: {error.strerror or error}") from None
        for line in lines:
            try:
                entry = json.loads(line.decode("utf-8", "surrogateescape"))
                look, sha256, outputs = entry["look"], str(entry["sha256"]), [str(one) for one in entry["outputs"]]
            except (ValueError, TypeError, KeyError):
                continue  # torn: its image is explained again
            if look != self._look:
                changed = [name for name in self._look if look.get(name) != self._look[name]]
                raise KryptonError(
                    f"{self._folder}: its pictures were drawn with another --{' and --'.join(changed)}: {_ANEW}"
                )
            if entry.get("labels") != self._labels:
                raise KryptonError(f"{self._folder}: its outputs name the classes by other --labels: {_ANEW}")
            digests |= dict.fromkeys(outputs, sha256)
        return digests

    def _continued(self, spec: ExplanationSpec) -> ExplanationSpec:
        """The specification to go on by. Raises KryptonError where the one in the folder is another."""
        from krypton_onnx import ExplanationSpec

        path = self._folder / SPECIFICATION
        try:
            stored = ExplanationSpec.load(path)
        except KryptonError as error:
            raise KryptonError(f"{one_line(error)}; {_ANEW}") from None
        # The model may have moved. An image that is an array needs no preparation, so there may be none yet.
        wanted = replace(spec.with_digest(), model=stored.model)
        if stored.preparation is None or wanted.preparation is None:
            known = stored.preparation or wanted.preparation
            stored, wanted = replace(stored, preparation=known), replace(wanted, preparation=known)
        names = [one.name for one in fields(wanted) if one.name not in _NO_MATTER]
        changed = [name for name in names if getattr(stored, name) != getattr(wanted, name)]
        if changed:
            listed = ", ".join("model" if name == "model_sha256" else name for name in changed)
            raise KryptonError(f"{self._folder}: its outputs were made by another specification ({listed}): {_ANEW}")
        return replace(wanted, model=spec.model)
