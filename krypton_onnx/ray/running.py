"""Explaining a dataset: what is asked for is settled here, and done by the workers of a pool."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.data.dataset import MaterializedDataset

from krypton_onnx.errors import ImageError, KryptonError, ModelError
from krypton_onnx.explanation import file_digest
from krypton_onnx.images import Preparation
from krypton_onnx.labels import check_labels
from krypton_onnx.ray import cluster, ledger
from krypton_onnx.ray.records import FAILED, FATAL, OK, SKIPPED, STOPPED, Origin, Result
from krypton_onnx.ray.results import begin, begin_anew, known_images, specification_digest
from krypton_onnx.ray.sources import File, Paths, dataset_of, find_files
from krypton_onnx.ray.storage import Storage
from krypton_onnx.ray.work import Job, Worker
from krypton_onnx.rewriter.load import load_model
from krypton_onnx.rewriter.weights import as_bytes
from krypton_onnx.runtime.session import OcclusionSession
from krypton_onnx.specification import ExplanationSpec

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

MOST_A_FILE = 8  # images; what a worker that dies has to do again
SHARES = 4  # files a worker at least, so that none waits long for another at the end


@dataclass
class Summary:
    """What a run did. failed : the errors by key. skipped : images that were there. ambiguous : keys that stand for
    several images, of which one map is read back. seconds : of all, the start of Ray and of the workers included."""

    explained: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    ambiguous: tuple[str, ...] = ()
    seconds: float = 0.0


def explain(
    dataset: Dataset | Paths,
    model: str | os.PathLike[str] | None = None,
    *,
    output: str | os.PathLike[str],
    spec: ExplanationSpec | None = None,
    key: str = "path",
    image: str | None = None,
    workers: int | tuple[int, int] | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    preparation: Preparation | str | None = None,
    labels: Sequence[str] | None = None,
    images_per_file: int | None = None,
    retry_failed: bool = True,
    compare_content: bool = False,
    overwrite: bool = False,
    address: str | None = None,
    filesystem: FileSystem | None = None,
    on_start: Callable[[int], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
    **asked: Any,
) -> Summary:
    """Explain every image of a dataset on Ray, and write the maps as Parquet (docs/ray.md has the columns).

    dataset : a ray.data.Dataset; or paths, patterns and URIs as `images` takes them, of which those that are known are
        not even read.
    model : path of an ONNX model; its bytes are sent to the workers. Or spec : a specification, which names it; both:
        the specification with this model. asked : fields of ExplanationSpec (patch, stride, fill, top, mode, ...).
    output : a folder that all nodes see, or a URI (s3://, gs://). Given again, what is there is not computed again; one
        that was made by another specification is refused. filesystem : PyArrow's, where `output` is a path in it.
    key : column of the images' names, each of its own. image : column of the images, each the content of a file, its
        path or URI, or an array (float32 is taken as it is, uint8 (H, W, 3) is a picture); None is the first that is
        there of bytes, image, file, path.
    workers : processes, each with a session of its own; (fewest, most); None is as many as fit on the cluster.
    num_cpus, num_gpus : of each worker. num_cpus is the number of its threads too. num_gpus None is 1 where the
        providers name CUDA (or are "auto", and a node has a GPU), else 0.
    preparation : as for OcclusionSession. labels : names of all classes; None: those stored with the model.
    images_per_file : at most, in one Parquet file; None is 8, or fewer of few images. What a worker that dies was at
        is computed again by another; files that are written stay.
    retry_failed : try images again that failed before. compare_content : explain images anew that are known, but had
        another content (which must then be read). overwrite : delete what is in `output`, and explain all.
    address : of the Ray cluster; None: the one that is connected to, that of RAY_ADDRESS, or one on this machine.
    on_start : called with the number of images, where that is known, before the first. on_result : called with every
        Result as it comes.

    Of an image that fails its error is written, and the others go on. Raises KryptonError (ModelError, ImageError)
    where it is not an image's fault; what was written before stays.
    """
    began = time.perf_counter()
    stated, weights, names = _stated(model, spec, preparation, labels, asked)
    _check_numbers(workers, num_cpus, num_gpus, images_per_file)
    storage = Storage.of(output, filesystem)
    files = None
    if not isinstance(dataset, Dataset):
        files = find_files(dataset, Path(storage.root) if storage.is_local else None)
    if not overwrite:
        begin(storage, stated)
    origin = Origin(_new_run(), stated.model_sha256 or "", specification_digest(stated))
    there = {} if overwrite else known_images(storage, origin.specification_sha256)
    known = {name: one.image_sha256 for name, one in there.items() if one.status == OK or not retry_failed}
    summary = Summary()
    told = _Telling(summary, on_result)
    files = None if files is None else _unknown(files, known, compare_content, told)
    if files is not None and not files:
        summary.seconds = time.perf_counter() - began
        return summary
    wanted = workers[1] if isinstance(workers, tuple) else workers or 1
    with ExitStack() as stack:
        started = stack.enter_context(cluster.connected(address, num_cpus * wanted, len(weights or b"")))
        gpus = cluster.gpus_for(stated.providers) if num_gpus is None else num_gpus
        if started:  # a cluster may grow: then Ray waits for a node that has so much
            cluster.require_room(num_cpus, gpus)
        if overwrite:  # only now that there is a cluster to make them anew
            begin_anew(storage, stated)
        reading = files is None and not isinstance(dataset, MaterializedDataset)
        pool = workers or cluster.default_workers(num_cpus, gpus, reading)
        size = images_per_file or _images_per_file(None if files is None else len(files), pool)
        if files is not None:
            pool = _at_most(pool, -(-len(files) // size))
        job = Job(
            stated, None if weights is None else ray.put(weights), ray.put(known), ledger.start(), storage, origin, key,
            image, names, compare_content, max(1, int(num_cpus)),
        )  # fmt: skip
        rows = dataset if isinstance(dataset, Dataset) else dataset_of(files or [], size)
        results = rows.map_batches(
            Worker, fn_constructor_args=(job,), batch_size=size, batch_format="numpy", num_cpus=num_cpus,
            num_gpus=gpus or None, compute=_strategy(pool),
        )  # fmt: skip
        if on_start is not None and files is not None:
            on_start(len(files))
        batches: Iterable[Any] = results.iter_batches(batch_size=None, batch_format="pyarrow")
        for batch in batches:
            for row in batch.to_pylist():
                told(Result.from_row(row))
    summary.ambiguous = tuple(sorted(told.ambiguous))
    summary.seconds = time.perf_counter() - began
    return summary


class _Telling:
    """Counts what comes. Raises KryptonError of a fault beyond one image, KeyboardInterrupt where a worker had one."""

    def __init__(self, summary: Summary, on_result: Callable[[Result], None] | None) -> None:
        self._summary, self._on_result = summary, on_result
        self._seen: set[str] = set()
        self.ambiguous: set[str] = set()

    def __call__(self, result: Result) -> None:
        if result.status == FATAL:
            raise KryptonError(result.error or "a worker failed")
        if result.status == STOPPED:
            raise KeyboardInterrupt
        if result.key in self._seen:
            self.ambiguous.add(result.key)
        self._seen.add(result.key)
        if result.status == OK:
            self._summary.explained += 1
        elif result.status == SKIPPED:
            self._summary.skipped += 1
        elif result.status == FAILED:
            self._summary.failed[result.key] = result.error or ""
        if self._on_result is not None:
            self._on_result(result)


def _stated(
    model: str | os.PathLike[str] | None,
    spec: ExplanationSpec | None,
    preparation: Preparation | str | None,
    labels: Sequence[str] | None,
    asked: dict[str, Any],
) -> tuple[ExplanationSpec, bytes | None, tuple[str, ...] | None]:
    """The whole specification, the model's bytes (None where they are too many for one object), names of classes."""
    if spec is None and model is None:
        raise ImageError("model and spec are both missing: give the path of a model, or a specification")
    if model is not None and not isinstance(model, (str, os.PathLike)):
        raise ModelError(f"model is {type(model).__name__}: give the path of an ONNX model")
    if unknown := sorted(set(asked) - set(ExplanationSpec.__dataclass_fields__)):
        raise ImageError(f"{unknown[0]!r} is no argument, nor a field of ExplanationSpec")
    try:
        if spec is None:
            spec = ExplanationSpec(os.fspath(model or ""), **asked)
        else:
            changed: dict[str, Any] = {} if model is None else {"model": os.fspath(model), "model_sha256": None}
            spec = replace(spec, **changed, **asked)
    except TypeError as error:
        raise ImageError(f"the specification cannot be made: {error}") from None
    pinned = replace(spec, model_sha256=None).with_digest()
    if spec.model_sha256 not in (None, pinned.model_sha256):
        raise ModelError(f"{spec.model}: is not the model that was specified, its content differs: name it (model=)")
    proto = load_model(spec.model)
    # On the CPU, wherever the workers compute: only what is stored in the model is asked of it.
    session = OcclusionSession(
        proto, image_input=spec.image_input, preparation=preparation if preparation is not None else spec.preparation
    )
    names = labels if labels is not None else session.labels
    try:
        weights = as_bytes(proto)
    except ModelError:
        weights = None  # the workers read it where it lies
    stated = replace(pinned, preparation=session.preparation)
    return stated, weights, None if names is None else check_labels(names)


def _unknown(files: Sequence[File], known: dict[str, str | None], compare: bool, told: _Telling) -> list[File]:
    """Those that are to be read; the others are told of."""
    left = []
    for file in files:
        if file.key in known and (not compare or _is(file, known[file.key])):
            told(Result(file.key, SKIPPED))
        else:
            left.append(file)
    return left


def _is(file: File, digest: str | None) -> bool:
    """Whether it has this content, where that can be found out here; the workers read what is in an object store."""
    try:
        return "://" not in file.location and file_digest(file.location) == digest
    except KryptonError:
        return digest is None  # as unreadable as it was; else it will be told when it is explained


def _check_numbers(
    workers: int | tuple[int, int] | None, num_cpus: float, num_gpus: float | None, images_per_file: int | None
) -> None:
    least = workers if isinstance(workers, tuple) else (workers or 1, workers or 1)
    whole = all(isinstance(one, int) and not isinstance(one, bool) for one in least)
    if workers == 0 or not whole or len(least) != 2 or not 1 <= least[0] <= least[1]:
        raise ImageError(f"workers must be a number of at least 1, or (fewest, most), got {workers!r}")
    if not num_cpus > 0:
        raise ImageError(f"num_cpus must be above 0, got {num_cpus!r}")
    if num_gpus is not None and not num_gpus >= 0:
        raise ImageError(f"num_gpus must be at least 0, got {num_gpus!r}")
    if images_per_file is not None and not (isinstance(images_per_file, int) and images_per_file >= 1):
        raise ImageError(f"images_per_file must be a number of at least 1, got {images_per_file!r}")


def _strategy(workers: int | tuple[int, int]) -> Any:
    # One task at a time: what waits behind a worker that dies, or is slow, another could do.
    if isinstance(workers, tuple):
        return ActorPoolStrategy(min_size=workers[0], max_size=workers[1], max_tasks_in_flight_per_actor=1)
    return ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1)


def _at_most(workers: int | tuple[int, int], most: int) -> int | tuple[int, int]:
    """No more than have something to do."""
    return (min(workers[0], most), min(workers[1], most)) if isinstance(workers, tuple) else min(workers, most)


def _images_per_file(images: int | None, workers: int | tuple[int, int]) -> int:
    most = workers[1] if isinstance(workers, tuple) else workers
    return MOST_A_FILE if images is None else max(1, min(MOST_A_FILE, images // (SHARES * most)))


def _new_run() -> str:
    """The name of a run: one that began later is greater."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
