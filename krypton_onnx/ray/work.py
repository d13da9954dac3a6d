"""A worker: one process of Ray's with one session, which explains batch after batch and writes each as one file."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from krypton_onnx.errors import KryptonError, one_line
from krypton_onnx.ray.content import content_of, digest_of, image_of
from krypton_onnx.ray.ledger import MOST_DEATHS
from krypton_onnx.ray.records import FATAL, RESULTS, SKIPPED, STOPPED, Origin, Result, result_of, row_of
from krypton_onnx.ray.results import SPECIFICATION, part_name, read_part, write_part
from krypton_onnx.ray.storage import Storage

if TYPE_CHECKING:
    from krypton_onnx.runtime.heat_map import HeatMap
    from krypton_onnx.runtime.session import OcclusionSession
    from krypton_onnx.specification import ExplanationSpec

_CONTENT = ("bytes", "image", "file", "path")  # columns that may hold the image, the first that is there


@dataclass(frozen=True)
class Job:
    """What every worker is given.

    model : an object of Ray's store, the bytes of the model; None: it is read at the specification's path. known :
    another, {key: SHA-256 of the image} of what needs no work. key, image : columns; image None: the first of _CONTENT.
    compare : an image of another content than the known one is explained anew. threads : of the session.
    """

    spec: ExplanationSpec
    model: Any
    known: Any
    ledger: Any
    storage: Storage
    origin: Origin
    key: str
    image: str | None
    labels: tuple[str, ...] | None
    compare: bool
    threads: int


class Stopped(Exception):
    """Ctrl-C came to this process: what it computes is not whole."""


class Worker:
    """For Dataset.map_batches, as a class: made once in each process of the pool.

    What is at fault beyond one image becomes a result of status "fatal" rather than an error, which Ray Data would
    wrap into pages of its own."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._fault: str | None = None
        self._session: OcclusionSession | None = None
        self._known: dict[str, str | None] = {}
        try:
            self._require_folder()
            self._known = ray.get(job.known)
            self._session = _session(job.spec, None if job.model is None else ray.get(job.model), job.threads)
        except Exception as error:
            self._fault = one_line(error) if isinstance(error, (KryptonError, ImportError)) else _unexpected(error)

    def _require_folder(self) -> None:
        """A folder on a disk must be the same one on every node."""
        storage = self._job.storage
        if not storage.exists(SPECIFICATION):
            raise KryptonError(
                f"{storage.where}: a worker's node does not see this folder: give one that all nodes share, or the URI "
                "of an object store (s3://, gs://)"
            )

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """A row of RESULTS for each image of the batch."""
        try:
            if self._fault is not None:
                raise KryptonError(self._fault)
            results = self._explained(*self._columns(batch))
        except Stopped:
            results = [Result("", STOPPED)]
        except KryptonError as error:  # of writing, or of all images
            results = [Result("", FATAL, str(error))]
        return pa.Table.from_pylist([result.to_row() for result in results], RESULTS)

    def _columns(self, batch: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
        """The keys and the images. Raises KryptonError where the dataset has no such columns."""
        job = self._job
        image = job.image or next((name for name in _CONTENT if name in batch), None)
        for name, argument in ((job.key, "key"), (image, "image")):
            if name is None or name not in batch:
                have = ", ".join(batch)
                raise KryptonError(f"{argument}={name!r} is no column of the dataset, which has: {have}; name one")
        return [str(key) for key in batch[job.key]], batch[image or ""]

    def _explained(self, keys: list[str], values: Iterable[Any]) -> list[Result]:
        """Explain what is not known, write it, and tell of all."""
        job = self._job
        contents = [self._content(key, value) for key, value in zip(keys, values, strict=True)]
        left = [one for one in contents if one is not None]
        done = [Result(key, SKIPPED) for key, one in zip(keys, contents, strict=True) if one is None]
        if not left:
            return done
        part = part_name(job.origin.run, [key for key, _ in left])
        if job.storage.exists(part):  # a process that died later has written it, in this run
            return done + [result_of(row, part) for row in read_part(job.storage, part)]
        rows = []
        for key, content in left:
            deaths = ray.get(job.ledger.begin.remote(key))
            rows.append(self._row(key, content, deaths))
            job.ledger.end.remote(key)
        write_part(job.storage, part, rows)
        return done + [result_of(row, part) for row in rows]

    def _content(self, key: str, value: Any) -> tuple[str, bytes | np.ndarray | KryptonError] | None:
        """What is to be explained, or why there is nothing; None where it is known."""
        known = self._known
        if key in known and not self._job.compare:
            return None
        try:
            content = content_of(value)
        except KryptonError as error:
            return None if key in known and known[key] is None else (key, error)  # as unreadable as it was
        return None if key in known and known[key] == digest_of(content) else (key, content)

    def _row(self, key: str, content: bytes | np.ndarray | KryptonError, deaths: int) -> dict[str, Any]:
        """One image, explained; whatever is wrong with it stands in its row. Raises Stopped after Ctrl-C."""
        heat_map: HeatMap | None = None
        digest: str | None = None
        failure: str | None = None
        seconds: float | None = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                if isinstance(content, KryptonError):
                    raise content
                digest = digest_of(content)
                if deaths >= MOST_DEATHS:
                    raise KryptonError(
                        f"the worker died {deaths} times at this image (is there too little memory?); not tried again"
                    )
                image = image_of(content, key)
                began = time.perf_counter()
                heat_map = self._job.spec.explain(image, self._session)
                seconds = time.perf_counter() - began
            except KeyboardInterrupt:
                raise Stopped from None
            except KryptonError as error:
                failure = str(error).removeprefix(f"{key}: ")
            except Exception as error:  # of this image: the others may be sound
                failure = _unexpected(error)
        if heat_map is not None and "Ctrl-C" in heat_map.note:
            raise Stopped
        told = list(dict.fromkeys(str(one.message) for one in caught))
        return row_of(key, digest, heat_map, failure, told, seconds, self._job.labels, self._job.origin)


def _session(spec: ExplanationSpec, model: bytes | None, threads: int) -> OcclusionSession:
    import onnxruntime as ort

    from krypton_onnx.runtime.session import OcclusionSession

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised
    options.intra_op_num_threads = threads
    return OcclusionSession(
        spec.model if model is None else bytes(model), options, spec.providers, image_input=spec.image_input,
        strict=spec.strict, preparation=spec.preparation,
    )  # fmt: skip


def _unexpected(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"there is not enough memory {f'({one_line(error)})' if str(error) else ''}".rstrip()
    return f"an error of krypton-onnx itself ({type(error).__name__}: {one_line(error)[:300]}); please report it"
