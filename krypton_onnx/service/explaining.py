"""One open model, and the explanations that are asked of it. In a worker."""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from krypton_onnx.digest import model_digest
from krypton_onnx.errors import ImageError, ModelError, TooManyPixels
from krypton_onnx.explanation import Explanation
from krypton_onnx.images.reading import read_image_bytes
from krypton_onnx.labels import find_class
from krypton_onnx.runtime.fills.words import fills_of
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.scores import ACTIVATED
from krypton_onnx.runtime.session import OcclusionSession
from krypton_onnx.service.settings import WorkerSettings
from krypton_onnx.service.uploads import is_deflated_dicom, kind_of, webp_pixels
from krypton_onnx.specification import ExplanationSpec

# Made by solving or filtering for every position: seconds a position where a patch is large.
SLOW_FILL, MOST_PIXELS_INPAINTED, SLOW_BATCH = "inpaint", 1024, 16
_said = threading.local()


def keep_warnings() -> None:
    """From here on a warning is kept for the thread that gave it, and shown nowhere."""
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: getattr(_said, "lines", []).append(str(message))


def said() -> list[str]:
    """The warnings of this thread since it last asked, each once."""
    # Decoders mute warnings while they read, which is a setting of the process: two at once may leave it so.
    warnings.simplefilter("always")
    lines = list(dict.fromkeys(getattr(_said, "lines", [])))
    _said.lines = []
    return lines


@dataclass(frozen=True, eq=False)
class Opened:
    """A session ready to explain; spec : what holds where a request says nothing; size : of the image, pixels."""

    session: OcclusionSession
    spec: ExplanationSpec
    labels: tuple[str, ...] | None
    size: tuple[int, int]
    settings: WorkerSettings
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What a client may know of the model; its file by name alone."""
        tuning = self.session.tuning
        spec, preparation = self.spec, self.spec.preparation
        assert preparation is not None
        return {
            "name": spec.model.rpartition("/")[2], "sha256": spec.model_sha256,
            "input": self.session.image_input, "input_shape": list(self.session.image_dims),
            "height": self.size[0], "width": self.size[1], "labels": len(self.labels or ()) or None,
            "preparation": preparation.describe(), "incremental": self.session.plan(self._blank()).refusal is None,
            "defaults": {
                name: value for name, value in spec.to_dict(spec.model.rpartition("/")[0] or "/").items()
                if name in ("occlusion", "score")
            } | {"mode": spec.mode},
            "tuning": None if tuning is None else {
                "min_ssim": tuning.min_ssim, "patch": list(tuning.specification.patch),
                "stride": list(tuning.specification.stride), "score": tuning.specification.score,
            },
        }  # fmt: skip

    def warm_up(self) -> None:
        """Make the sessions and load the kernels, on a grey image. Raises as an explanation."""
        height, width = self.size
        step = max(height, width) // 4 or 1
        patch = min(self.spec.patch[0], height), min(self.spec.patch[1], width)  # type: ignore[index]
        array = self.session.prepare(Image.new("RGB", (width, height), (127, 127, 127))).array
        self.session.explain(array, patch=patch, stride=step, score=self.spec.score,
                             activation=self.spec.activation, output=self.spec.output)  # fmt: skip
        said()

    def _blank(self) -> np.ndarray:
        return self.session.prepare(Image.new("RGB", (self.size[1], self.size[0]))).array

    # -- one request -------------------------------------------------------------------------------------------------

    def explanation(
        self,
        upload: bytes,
        asked: Mapping[str, Any],
        caption: str,
        until: float,
        progress: Callable[[int, int], None],
        on_update: Callable[[HeatMap], None] | None,
    ) -> Explanation:
        """Of the picture in an upload. asked : fields of a specification, targets as words. until : time.monotonic
        after which no further batch starts.

        Raises TooManyPixels, ImageError, ModelError; and what `progress` raises, which ends it.
        """
        spec = self._specified(asked)
        picture = self._read(upload)
        prepared = self.session.prepare(picture, name="the image")
        fitting = self._bounded(spec, np.asarray(prepared.shown).shape[:2])
        explanation = replace(fitting, time_budget=max(until - time.monotonic(), 0.0)).explanation(
            prepared, self.session, self.labels, progress, on_update, source=caption
        )
        # What is replayed has no deadline.
        return replace(explanation, spec=spec, source_sha256=hashlib.sha256(upload).hexdigest())

    def _read(self, upload: bytes) -> Image.Image:
        kind = kind_of(upload)
        if kind == "WEBP" and webp_pixels(upload) > self.settings.max_pixels:
            raise TooManyPixels(f"the image: has more than {self.settings.max_pixels:,} pixels")
        if kind == "DICOM" and is_deflated_dicom(upload):
            raise ImageError("the image: a DICOM file that is compressed as a whole is not read; decompress it first")
        return read_image_bytes(upload, "the image", self.settings.max_pixels, (str(kind),))

    def _specified(self, asked: Mapping[str, Any]) -> ExplanationSpec:
        given = dict(asked)
        words = given.pop("targets", None)
        if words is not None:
            found = tuple(dict.fromkeys(find_class(word, self.labels) for word in words))
            given["targets"] = found[0] if len(found) == 1 else found
        if given.get("mode", self.spec.mode) != "approximate":
            given.setdefault("min_ssim", None)
        if given.get("score", self.spec.score) not in ACTIVATED:
            given.setdefault("activation", None)
        return replace(self.spec, **given)

    def _bounded(self, spec: ExplanationSpec, frame: Sequence[int]) -> ExplanationSpec:
        """The specification, whose work is within bounds. Raises ImageError where it is not."""
        fills = fills_of(spec.fill)
        each = sum(spec.fill_samples if one == "surroundings" else 1 for one in fills)
        height, width = spec.patch  # type: ignore[misc]
        grid = make_grid((frame[0], frame[1]), spec.patch, spec.stride, spec.region)
        if grid.positions * each > self.settings.max_positions:
            times = f" of {each} patches each" if each > 1 else ""
            raise ImageError(
                f"the grid has {grid.positions:,} positions{times}; at most {self.settings.max_positions:,} patches "
                "are computed here: ask for a larger stride, or a region"
            )
        if SLOW_FILL in fills:
            if height * width > MOST_PIXELS_INPAINTED:
                raise ImageError(
                    f"fill={SLOW_FILL} is computed here for patches of at most {MOST_PIXELS_INPAINTED} pixels"
                )
            return replace(spec, batch_size=SLOW_BATCH)  # the deadline is looked at between batches
        return spec


def opened(settings: WorkerSettings) -> Opened:
    """Raises ModelError where the model is at fault, or takes images of any size and none was given."""
    spec, preparing = settings.spec, settings.preparing
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.log_severity_level = 4  # what is wrong is raised
    session = OcclusionSession(
        spec.model, options, spec.providers, image_input=spec.image_input, strict=spec.strict
    )
    stored = session.preparation
    preparation = preparing.preparation(session, spec.preparation)
    preparing.tell_of_assumed(preparation, spec.preparation, stored)
    if preparation.size is None:
        raise ModelError(
            f"{spec.model}: takes images of any size, and a service needs one: give it by --size 224 or --size 224,320"
        )
    session.preparation = preparation
    labels = settings.labels or session.labels
    sure = replace(spec, preparation=session.preparation, model_sha256=model_digest(spec.model))
    if session.tuning is None and sure.mode == "approximate":
        raise ModelError(
            f"{spec.model}: holds no tuning, so approximate maps would promise nothing: krypton-onnx tune, or leave "
            "--mode approximate out"
        )
    ready = Opened(session, sure, labels, preparation.size, settings, tuple(said()))
    ready.warm_up()
    return ready
