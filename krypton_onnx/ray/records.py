"""A map, or why there is none, as a row of Parquet; and back."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from krypton_onnx.labels import class_name
from krypton_onnx.runtime.heat_map import HeatMap

OK, FAILED = "ok", "failed"  # what `status` is in a file
SKIPPED, STOPPED, FATAL = "skipped", "stopped", "fatal"  # of results alone, which are not written

_FLOATS, _INTEGERS, _TEXTS = pa.list_(pa.float32()), pa.list_(pa.int64()), pa.list_(pa.string())

# docs/ray.md says what each is. All but the first six are null where the image failed.
SCHEMA = pa.schema([
    pa.field("key", pa.string(), nullable=False),
    pa.field("image_sha256", pa.string()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("warnings", _TEXTS),
    pa.field("seconds", pa.float64()),
    pa.field("targets", _INTEGERS),
    pa.field("names", _TEXTS),
    pa.field("baseline", _FLOATS),
    pa.field("score_name", pa.string()),
    pa.field("scores", _FLOATS),
    pa.field("scores_shape", _INTEGERS),
    pa.field("tops", _INTEGERS),
    pa.field("lefts", _INTEGERS),
    pa.field("patch", _INTEGERS),
    pa.field("stride", _INTEGERS),
    pa.field("mask", _FLOATS),
    pa.field("frame", _INTEGERS),
    pa.field("mode", pa.string()),
    pa.field("computed", pa.list_(pa.bool_())),
    pa.field("predicted", _INTEGERS),
    pa.field("expected_ssim", pa.float64()),
    pa.field("estimated_ssim", pa.float64()),
    pa.field("complete", pa.bool_()),
    pa.field("note", pa.string()),
    pa.field("model_sha256", pa.string(), nullable=False),
    pa.field("specification_sha256", pa.string(), nullable=False),
    pa.field("run", pa.string(), nullable=False),
    pa.field("worker", pa.string(), nullable=False),
    pa.field("made", pa.string(), nullable=False),
])  # fmt: skip

# What a worker tells of an image while a run goes on.
RESULTS = pa.schema([
    pa.field("key", pa.string()),
    pa.field("status", pa.string()),
    pa.field("error", pa.string()),
    pa.field("warnings", _TEXTS),
    pa.field("said", pa.string()),
    pa.field("seconds", pa.float64()),
    pa.field("worker", pa.string()),
    pa.field("part", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Which run a row is of, and of which specification."""

    run: str
    model_sha256: str
    specification_sha256: str


@dataclass(frozen=True)
class Result:
    """What became of one image, as `on_result` is told.

    key : of the image. status : "ok", "failed", or "skipped" where an earlier run has its map. error : one line, where
    it failed. warnings : of the session. said : the scores of the classes in words. seconds : that the map took.
    worker : host and process. part : the file with its row.
    """

    key: str
    status: str
    error: str | None = None
    warnings: tuple[str, ...] = ()
    said: str | None = None
    seconds: float | None = None
    worker: str | None = None
    part: str | None = None

    def to_row(self) -> dict[str, Any]:
        """By column of RESULTS."""
        return {name: getattr(self, name) for name in RESULTS.names}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Result:
        """From a row of RESULTS."""
        return Result(**{**row, "warnings": tuple(row["warnings"] or ())})


def row_of(
    key: str,
    digest: str | None,
    heat_map: HeatMap | None,
    error: str | None,
    warnings: Sequence[str],
    seconds: float | None,
    labels: Sequence[str] | None,
    origin: Origin,
) -> dict[str, Any]:
    """By column of SCHEMA: a map, or where there is none, the error."""
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    row |= {
        "key": key, "image_sha256": digest, "status": FAILED if heat_map is None else OK, "error": error,
        "warnings": list(warnings), "seconds": seconds, "run": origin.run, "model_sha256": origin.model_sha256,
        "specification_sha256": origin.specification_sha256, "worker": f"{socket.gethostname()}/{os.getpid()}",
        "made": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }  # fmt: skip
    return row if heat_map is None else row | _columns(heat_map, labels)


def _columns(heat_map: HeatMap, labels: Sequence[str] | None) -> dict[str, Any]:
    def flat(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else np.asarray(array).ravel()

    names = None if labels is None else [class_name(target, labels) for target in heat_map.targets]
    return {
        "targets": list(heat_map.targets), "names": names, "baseline": flat(heat_map.baseline),
        "score_name": heat_map.score_name, "scores": flat(heat_map.scores), "scores_shape": list(heat_map.scores.shape),
        "tops": flat(heat_map.tops), "lefts": flat(heat_map.lefts), "patch": list(heat_map.patch),
        "stride": list(heat_map.stride), "mask": flat(heat_map.mask),
        "frame": None if heat_map.frame is None else list(heat_map.frame), "mode": heat_map.mode,
        "computed": flat(heat_map.computed), "predicted": flat(heat_map.predicted),
        "expected_ssim": heat_map.expected_ssim, "estimated_ssim": heat_map.estimated_ssim,
        "complete": heat_map.complete, "note": heat_map.note,
    }  # fmt: skip


def heat_map_of(row: Mapping[str, Any]) -> HeatMap:
    """The map in a row of status "ok"."""

    def array(name: str, dtype: type, shape: Sequence[int]) -> np.ndarray | None:
        return None if row[name] is None else np.asarray(row[name], dtype).reshape(shape)

    def pair(name: str) -> tuple[int, int] | None:
        return None if row[name] is None else (int(row[name][0]), int(row[name][1]))

    shape = tuple(row["scores_shape"])
    arrays: dict[str, Any] = {
        "scores": array("scores", np.float32, shape), "baseline": array("baseline", np.float32, shape[:1]),
        "tops": array("tops", np.int64, shape[1:2]), "lefts": array("lefts", np.int64, shape[2:]),
        "computed": array("computed", np.bool_, shape[1:]), "predicted": array("predicted", np.int64, shape[1:]),
        "mask": array("mask", np.float32, row["patch"]),
    }  # fmt: skip
    plain = {name: row[name] for name in ("mode", "expected_ssim", "estimated_ssim", "complete", "note", "score_name")}
    pairs: dict[str, Any] = {name: pair(name) for name in ("patch", "stride", "frame")}
    return HeatMap(targets=tuple(int(target) for target in row["targets"]), **arrays, **pairs, **plain)


def result_of(row: Mapping[str, Any], part: str) -> Result:
    """What to tell of a row of SCHEMA."""
    said = None
    if row["status"] == OK:
        names = row["names"] or [class_name(target, None) for target in row["targets"]]
        scores = [f"{row['score_name']} {score:.4g}" for score in row["baseline"]]
        said = ", ".join(f"{name}: {score}" for name, score in zip(names, scores, strict=True))
    return Result(
        row["key"], row["status"], row["error"], tuple(row["warnings"] or ()), said, row["seconds"], row["worker"], part
    )
