"""OcclusionSession: as onnxruntime.InferenceSession, and it explains."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.errors import ImageError, ModelError, one_line
from krypton_onnx.rewriter import Plan, Source, load_model, plan_of, rewrite_model
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.normalize import find_image_input, graph_inputs, input_dims
from krypton_onnx.rewriter.rewrite import image_layout
from krypton_onnx.runtime.engine import Engine, SessionSettings
from krypton_onnx.runtime.grid import Fill, Patches, make_grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.images import InputSpec, as_batch, channels_first, other_feeds, split_feeds
from krypton_onnx.runtime.question import (
    Question,
    answer_exactly,
    answer_naively,
    check_limits,
    check_min_ssim,
    check_seed,
)
from krypton_onnx.runtime.scores import Score, Scorer, warn_of_noise
from krypton_onnx.runtime.tuning import Specification, Tuning, specification, stored_tuning

MODES = ("naive", "exact", "approximate")


class OcclusionSession:
    """Occlusion explanations of one ONNX model.

    model : path, bytes or ModelProto; original or rewritten.
    sess_options, providers, provider_options : as for onnxruntime.InferenceSession; `sess_options` serves `run`,
        and its intra_op_num_threads (0: all cores) is the number of threads that `explain` uses.
    image_input : name of the image input, where several inputs could be it.
    strict : no Winograd convolution, whose rounding errors are larger: a fifth of the tolerance of exact mode
        (`krypton_onnx.tolerance`), at up to twice the time.

    Raises ModelError where the model cannot be read, understood or loaded. Safe to use from several threads.
    """

    def __init__(
        self,
        model: Source,
        sess_options: ort.SessionOptions | None = None,
        providers: Sequence | str | None = None,
        provider_options: Sequence[dict] | None = None,
        image_input: str | None = None,
        strict: bool = False,
    ) -> None:
        named = [providers] if isinstance(providers, str) else providers
        chosen = tuple(named) if named is not None else ("CPUExecutionProvider",)
        _check_providers(chosen)
        # A path is read again when it is needed, rather than its weights held twice.
        loaded = load_model(model)
        self._source: Source = loaded
        if isinstance(model, (bytes, bytearray)):
            self._source = bytes(model)
        elif not isinstance(model, onnx.ModelProto):
            self._source = os.path.abspath(model)  # still right where the working directory changes
        self._plan = plan_of(loaded)
        self._options = sess_options
        threads = sess_options.intra_op_num_threads if sess_options is not None else 0
        self._settings = SessionSettings(
            providers=chosen,
            provider_options=None if provider_options is None else tuple(provider_options),
            workers=threads if threads > 0 else available_cores(),
            strict=strict,
        )
        self._image_input = self._plan.image_input if self._plan else find_image_input(loaded, image_input)
        image = next(value for value in graph_inputs(loaded) if value.name == self._image_input)
        self._image_dims = input_dims(image)
        self._others = {
            value.name: InputSpec(_numpy_type(value), input_dims(value), self._image_dims[0])
            for value in graph_inputs(loaded)
            if value.name not in (self._image_input, ORIGIN, PATCH, THRESHOLD)
        }
        self._layout = self._plan.layout if self._plan else image_layout(loaded, self._image_input)
        self._engines: dict[tuple[int, ...], Engine] = {}
        self._original: ort.InferenceSession | None = None
        self._tuning: Tuning | None = None
        self._stored_tuning = stored_tuning(loaded)
        self._lock = threading.Lock()

    # -- the model itself --------------------------------------------------------------------------------------------

    @property
    def image_input(self) -> str:
        """Name of the image input."""
        return self._image_input

    @property
    def image_dims(self) -> tuple[int | str | None, ...]:
        """Dimensions of the image input: int where fixed."""
        return self._image_dims

    @property
    def layout(self) -> str:
        """NCHW or NHWC: how the image input is laid out."""
        return self._layout

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The original model, unchanged: as onnxruntime.InferenceSession.run."""
        if self._plan is not None:
            return self._engine(None).full(False).run(output_names, dict(feeds))
        return self._original_session().run(output_names, dict(feeds))

    def _original_session(self) -> ort.InferenceSession:
        with self._lock:
            if self._original is None:
                options = self._options or ort.SessionOptions()
                source = self._source.SerializeToString() if isinstance(self._source, onnx.ModelProto) else self._source
                try:
                    self._original = ort.InferenceSession(
                        source, options,
                        providers=list(self._settings.providers), provider_options=self._settings.provider_options,
                    )  # fmt: skip
                except Exception as error:  # ONNX Runtime's exceptions share no base class
                    raise ModelError(f"ONNX Runtime cannot load the model: {one_line(error)}") from error
            return self._original

    def plan(self, image: np.ndarray | Mapping[str, np.ndarray] | None = None) -> Plan:
        """The rewriter's plan; `image` is needed only where the model's height or width is unknown."""
        return self._engine(self._shape_of(image)).plan

    # -- explanations ------------------------------------------------------------------------------------------------

    def explain(
        self,
        image: np.ndarray | Mapping[str, np.ndarray],
        targets: int | Sequence[int] | None = None,
        patch: int | tuple[int, int] = 16,
        stride: int | tuple[int, int] = 4,
        fill: Fill = 0.0,
        region: tuple[int, int, int, int] | None = None,
        mode: str = "exact",
        min_ssim: float | None = None,
        score: Score = "output",
        output: str | None = None,
        batch_size: int | None = None,
        time_budget: float | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        on_update: Callable[[HeatMap], None] | None = None,
        memory_budget: int | None = None,
        complete_exactly: bool = True,
    ) -> HeatMap:
        """An occlusion map of one image.

        image : float32 (C, H, W), (1, C, H, W) or the model's own layout (which wins where ambiguous), in the
            model's input space; or {input: array} for models with more inputs.
        targets : class ids; None is the class predicted for the unoccluded image.
        patch, stride : pixels, int or (height, width). The grid holds every position where the patch fits.
        fill : number, per channel, (C, h, w), or callable(image, top, left, height, width) -> (C, h, w) or
            (K, C, h, w) to average the score over K fills; in the model's input space. It is called from several
            threads, in no particular order; its image is read-only.
        region : (top, left, bottom, right) to explain only there.
        mode : "naive" (full inference), "exact" (incremental; equal up to float rounding) or "approximate": many
            times faster, and its SSIM to the exact map at least `min_ssim`, by what `tune` found (docs/quality.md).
        min_ssim : of an approximate map, in (0, 1]; None is the tuned one, 0.9 where nothing was tuned.
        score : "output", "logit" (before the last Softmax / Sigmoid), "margin" (logit minus the largest other), or
            callable({output: array}) -> (N, classes).
        output : its name, where the model has several.
        batch_size : most positions of one run; None chooses.
        time_budget : seconds after which no further batch starts; the map is then not complete. Ctrl-C does the same.
        seed : of the cells at which an approximate map is checked.
        progress : callable(done, total), positions. on_update : callable(heat_map), as the map fills.
        memory_budget : bytes that the process may take while the map is computed (exact and approximate mode); batches
            are made as small as that asks for. To create the session's own parts, when the first image comes, is not
            counted.
        complete_exactly : compute an approximate map exactly where its estimated SSIM stays below min_ssim.

        Raises ImageError where the image or an argument is at fault, ModelError where the model is. Warns where an
        approximate map has no tuning to go by, and where a map's range is no more than rounding.
        """
        if mode not in MODES:
            raise ImageError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if min_ssim is not None:
            check_min_ssim(min_ssim)
            if mode != "approximate":
                raise ImageError(f"min_ssim has no meaning in mode={mode!r}: only an approximate map is judged by it")
        check_limits(batch_size, time_budget, memory_budget)
        check_seed(seed)
        question = replace(
            self.question(image, patch, stride, fill, region, score, output),
            targets=targets, batch_size=batch_size, time_budget=time_budget, memory_budget=memory_budget, seed=seed,
            progress=progress, on_update=on_update,
        )  # fmt: skip
        if mode == "naive":
            # The original model itself where it takes a batch.
            takes_batch = self._plan is None and not isinstance(self.image_dims[0], int)
            heat_map = answer_naively(question, self._image_input, self._original_session if takes_batch else None)
        elif mode == "exact":
            heat_map = answer_exactly(question)
        else:
            wanted = specification(question.frame, question.grid, fill, score, question.scorer.output)
            tuning = self._tuning_for(question.engine, wanted)
            # SciPy's filters take a while to import, and exact maps need none.
            from krypton_onnx.runtime.approximate import Promise, answer_approximately

            heat_map = answer_approximately(question, tuning, Promise(min_ssim, complete_exactly))
        warn_of_noise(heat_map, question.scorer)
        return heat_map

    def question(
        self,
        image: np.ndarray | Mapping[str, np.ndarray],
        patch: int | tuple[int, int],
        stride: int | tuple[int, int],
        fill: Fill,
        region: tuple[int, int, int, int] | None,
        score: Score,
        output: str | None,
    ) -> Question:
        """One explanation to be answered: what `explain` asks for, checked. For `tune`; raises as `explain`."""
        array, given = split_feeds(image, self._image_input)
        others = other_feeds(given, self._others)
        batch = as_batch(array, self.image_dims, self.layout)
        frame = batch.shape[2:] if self.layout == "NCHW" else batch.shape[1:3]
        grid = make_grid((int(frame[0]), int(frame[1])), patch, stride, region)
        engine = self._engine(tuple(batch.shape))
        patches = Patches(fill, np.ascontiguousarray(channels_first(batch, engine.plan.layout)), grid)
        return Question(
            engine, batch, others, grid, patches, Scorer(engine.plan, score, output), None, self._settings.workers
        )

    # -- tuning ------------------------------------------------------------------------------------------------------

    @property
    def tuning(self) -> Tuning | None:
        """What approximate maps go by: attached, or stored with the model. Raises ModelError where it is broken."""
        with self._lock:
            if self._tuning is None and self._stored_tuning is not None:
                self._tuning = Tuning.from_json(self._stored_tuning)
            return self._tuning

    @tuning.setter
    def tuning(self, tuning: Tuning | None) -> None:
        if not (tuning is None or isinstance(tuning, Tuning)):
            raise ImageError(f"a tuning is what tune returns, or None; got {type(tuning).__name__}")
        with self._lock:
            self._tuning, self._stored_tuning = tuning, None

    def _tuning_for(self, engine: Engine, wanted: Specification) -> Tuning | None:
        """The tuning, which must be one for this model and specification; None where there is none."""
        tuning = self.tuning
        if tuning is None:
            warnings.warn(
                "mode='approximate' without a tuning: the setting is chosen on this image alone, which promises less; "
                "krypton_onnx.tune (or krypton-onnx tune) chooses it on several images, once",
                stacklevel=3,
            )
            return None
        differences = tuning.specification.differences(wanted)
        if differences:
            raise ImageError(
                f"the tuning holds for {'; '.join(differences)}: tune for this, or ask for what it holds for, "
                "or for mode='exact'"
            )
        if tuning.model != engine.fingerprint:
            raise ModelError("the tuning was made for another model: tune this one (krypton-onnx tune)")
        return tuning

    # -- engines -----------------------------------------------------------------------------------------------------

    def _shape_of(self, image: np.ndarray | Mapping[str, np.ndarray] | None) -> tuple[int, ...] | None:
        if image is None:
            return None
        return tuple(as_batch(split_feeds(image, self._image_input)[0], self.image_dims, self.layout).shape)

    def _engine(self, shape: tuple[int, ...] | None) -> Engine:
        """The engine for images of this shape; one rewrite a shape."""
        dims = self.image_dims[1:]
        key = tuple(int(dim) for dim in (dims if shape is None else shape[1:]) if isinstance(dim, int))
        with self._lock:
            if key not in self._engines:
                wanted = None if shape is None else (1, *shape[1:])
                rewritten = partial(rewrite_model, self._source, self._image_input, wanted)
                self._engines[key] = Engine(rewritten, self._settings)
            return self._engines[key]


def _numpy_type(value: onnx.ValueInfoProto) -> np.dtype:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _check_providers(providers: tuple) -> None:
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    available = ort.get_available_providers()
    if not names:
        raise ModelError(f"providers is empty: name one of {', '.join(available)}")
    for name in names:
        if name not in available:
            raise ModelError(f"provider '{name}' is not available here; this onnxruntime has: {', '.join(available)}")
