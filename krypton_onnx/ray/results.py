"""A folder of results: the specification they were made by, and the maps as Parquet files, several images a file."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from krypton_onnx.errors import KryptonError, one_line
from krypton_onnx.ray.records import OK, SCHEMA, heat_map_of
from krypton_onnx.ray.storage import Storage
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.specification import ExplanationSpec

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SPECIFICATION = "specification.toml"
MAPS = "maps"  # a folder of its own, so that whatever reads Parquet can be given it
_SUFFIX = ".parquet"
_NO_MATTER = ("model", "memory_budget", "batch_size")  # fields that change no map; the model may have moved
_ANEW = "give another folder, or overwrite=True (--overwrite) to make all of them anew"
_INDEX = ["key", "run", "status", "image_sha256", "specification_sha256"]


@dataclass(frozen=True)
class Known:
    """The newest row of an image."""

    run: str
    status: str
    image_sha256: str | None


def specification_digest(spec: ExplanationSpec) -> str:
    """SHA-256 of all that a map depends on but the image: of specifications that give the same maps the same."""
    tables = replace(spec.with_digest(), model="model.onnx", memory_budget=None, batch_size=None).to_dict()
    tables["model"].pop("path")
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def begin(storage: Storage, spec: ExplanationSpec) -> None:
    """Make the folder, or go on in it. Raises KryptonError where its maps were made by another specification."""
    storage.make()
    text = storage.read(SPECIFICATION)
    parts = storage.names(MAPS, _SUFFIX)
    if text is not None:
        _require_same(storage, text, spec)
    elif parts:
        raise KryptonError(f"{storage.where}/{parts[0]} is there, and was not written by this: {_ANEW}")
    storage.write(SPECIFICATION, spec.to_toml().encode())


def begin_anew(storage: Storage, spec: ExplanationSpec) -> None:
    """The same without the maps that are there."""
    storage.make()
    for part in storage.names(MAPS, _SUFFIX):
        storage.remove(part)
    storage.write(SPECIFICATION, spec.to_toml().encode())


def _require_same(storage: Storage, text: bytes, spec: ExplanationSpec) -> None:
    where = f"{storage.where}/{SPECIFICATION}"
    try:
        stored = ExplanationSpec.from_toml(text.decode("utf-8"), where)
    except UnicodeDecodeError:
        raise KryptonError(f"{where}: not a specification (it is no UTF-8 text); {_ANEW}") from None
    except KryptonError as error:
        raise KryptonError(f"{one_line(error)}; {_ANEW}") from None
    names = [one.name for one in fields(spec) if one.name not in _NO_MATTER]
    changed = [name for name in names if getattr(stored, name) != getattr(spec, name)]
    if changed:
        listed = ", ".join("model" if name == "model_sha256" else name for name in changed)
        raise KryptonError(f"{storage.where}: its maps were made by another specification ({listed}): {_ANEW}")


# -- parts -------------------------------------------------------------------------------------------------------------


def part_name(run: str, keys: list[str]) -> str:
    """Of the rows of these images, the same whenever they are tried again in the same run."""
    return f"{MAPS}/{run}-{hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:20]}{_SUFFIX}"


def write_part(storage: Storage, part: str, rows: list[dict[str, Any]]) -> None:
    """Rows of SCHEMA as one file. Raises KryptonError where it cannot be written."""
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer, compression="zstd")
    storage.write(part, buffer.getvalue())


def read_part(storage: Storage, part: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a file. Raises KryptonError where it holds something else."""
    wanted = columns or SCHEMA.names
    try:
        with parquet.ParquetFile(f"{storage.root}/{part}", filesystem=storage.filesystem) as file:
            missing = set(wanted) - set(file.schema_arrow.names)
            if missing:
                raise KeyError(f"it has no column {min(missing)}")
            return file.read(wanted).to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise KryptonError(
            f"{storage.where}/{part}: is not a file of maps: {one_line(error)[:200]}; move it elsewhere"
        ) from None


def known_images(storage: Storage, specification_sha256: str | None = None) -> dict[str, Known]:
    """The newest row of every image, by its key; of one specification, or (None) of any."""
    known: dict[str, Known] = {}
    for part in storage.names(MAPS, _SUFFIX):
        for row in read_part(storage, part, _INDEX):
            if specification_sha256 not in (None, row["specification_sha256"]):
                continue
            before = known.get(row["key"])
            if before is None or row["run"] > before.run:
                known[row["key"]] = Known(row["run"], row["status"], row["image_sha256"])
    return known


# -- reading -----------------------------------------------------------------------------------------------------------


def read(
    output: str | os.PathLike[str], filesystem: FileSystem | None = None
) -> Iterator[tuple[str, HeatMap]]:
    """(key, map) of every image that has one, in the order in which they were written; one file in memory at a time.

    output, filesystem : as for `explain`. Of an image that was explained again the newest is read, and nothing where
    that failed. Raises KryptonError where `output` is no folder of results.
    """
    for _, row in _newest(output, filesystem, None):
        if row["status"] == OK:
            yield row["key"], heat_map_of(row)


def failures(output: str | os.PathLike[str], filesystem: FileSystem | None = None) -> dict[str, str]:
    """The error of every image that failed when it was last tried, by its key. Raises as `read`."""
    columns = ["key", "run", "status", "error"]
    return {key: row["error"] for key, row in _newest(output, filesystem, columns) if row["status"] != OK}


def _newest(
    output: str | os.PathLike[str], filesystem: FileSystem | None, columns: list[str] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    storage = Storage.of(output, filesystem)
    if not storage.exists(SPECIFICATION):
        raise KryptonError(f"{storage.where}: no folder of results: it has no {SPECIFICATION}")
    newest = known_images(storage)
    for part in storage.names(MAPS, _SUFFIX):
        for row in read_part(storage, part, columns):
            known = newest.get(row["key"])
            if known is not None and known.run == row["run"]:
                del newest[row["key"]]  # a key that stands for two images of a run is told once
                yield row["key"], row
