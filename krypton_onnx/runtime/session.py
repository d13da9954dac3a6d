"""OcclusionSession: as onnxruntime.InferenceSession, and it explains."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.errors import ImageError, ModelError, one_line
from krypton_onnx.rewriter import Plan, Source, load_model, plan_of, rewrite_model
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.normalize import find_image_input, graph_inputs, input_dims
from krypton_onnx.rewriter.rewrite import UNOCCLUDED, image_layout
from krypton_onnx.runtime.batching import Batch
from krypton_onnx.runtime.budget import fit_memory
from krypton_onnx.runtime.engine import Engine, SessionSettings, Views
from krypton_onnx.runtime.explain import MapInProgress, RunBatch, fill_map
from krypton_onnx.runtime.grid import Fill, Grid, Patches, make_grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.images import InputSpec, as_batch, channels_first, other_feeds, split_feeds
from krypton_onnx.runtime.naive import occluded
from krypton_onnx.runtime.schedule import NAIVE_BATCH, exact_plan, naive_batches
from krypton_onnx.runtime.scores import Score, Scorer, choose_targets

MODES = ("naive", "exact", "approximate")


@dataclass(frozen=True)
class _Question:
    """One call of `explain`, checked: what is asked, of which image."""

    image: np.ndarray  # (1, ...) in the model's layout
    others: Mapping[str, np.ndarray]
    grid: Grid
    patches: Patches
    scorer: Scorer
    targets: int | Sequence[int] | None
    batch_size: int | None
    workers: int
    time_budget: float | None
    progress: Callable[[int, int], None] | None
    on_update: Callable[[HeatMap], None] | None

    def answer(
        self, mode: str, baseline: np.ndarray, batches: Sequence[Batch], run: RunBatch, workers: int
    ) -> HeatMap:
        """The map, by running every batch. baseline: float32 (classes,) of the unoccluded image."""
        chosen = choose_targets(self.targets, baseline)
        return fill_map(
            MapInProgress(self.grid, chosen, baseline, mode), batches, self.patches, run, workers,
            self.time_budget, self.progress, self.on_update,
        )  # fmt: skip


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
        mode : "naive" (full inference), "exact" (incremental; equal up to float rounding) or "approximate".
        score : "output", "logit" (before the last Softmax / Sigmoid), "margin" (logit minus the largest other), or
            callable({output: array}) -> (N, classes).
        output : its name, where the model has several.
        batch_size : most positions of one run; None chooses.
        time_budget : seconds after which no further batch starts; the map is then not complete.
        progress : callable(done, total), positions. on_update : callable(heat_map), as the map fills.
        memory_budget : bytes that the process may take while the map is computed (exact mode); batches are made as
            small as that asks for. To create the session's own parts, when the first image comes, is not counted.

        Raises ImageError where the image or an argument is at fault, ModelError where the model is.
        """
        if mode not in MODES:
            raise ImageError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if mode == "approximate":
            raise ImageError("mode='approximate' is not available in this version: use mode='exact'")
        if batch_size is not None and not (isinstance(batch_size, (int, np.integer)) and batch_size >= 1):
            raise ImageError(f"batch_size must be an integer of at least 1, got {batch_size!r}")
        if time_budget is not None and not (isinstance(time_budget, (int, float)) and time_budget >= 0):
            raise ImageError(f"time_budget must be a number of seconds, got {time_budget!r}")
        if memory_budget is not None and not (isinstance(memory_budget, (int, np.integer)) and memory_budget > 0):
            raise ImageError(f"memory_budget must be a number of bytes, got {memory_budget!r}")
        array, given = split_feeds(image, self._image_input)
        others = other_feeds(given, self._others)
        layout = self.layout
        batch = as_batch(array, self.image_dims, layout)
        frame = batch.shape[2:] if layout == "NCHW" else batch.shape[1:3]
        grid = make_grid((int(frame[0]), int(frame[1])), patch, stride, region)
        engine = self._engine(tuple(batch.shape))
        scorer = Scorer(engine.plan, score, output)
        patches = Patches(fill, np.ascontiguousarray(channels_first(batch, engine.plan.layout)), grid)
        question = _Question(
            batch, others, grid, patches, scorer, targets, batch_size, self._settings.workers,
            time_budget, progress, on_update,
        )  # fmt: skip
        return self._naive(engine, question) if mode == "naive" else self._exact(engine, question, memory_budget)

    def _exact(self, engine: Engine, question: _Question, memory_budget: int | None) -> HeatMap:
        scorer = question.scorer
        views: Views = engine.materialize(question.image, question.others)
        baseline = scorer([views.unoccluded[name] for name in scorer.tensors(base=True, unoccluded=UNOCCLUDED)])[0]
        no_cap = np.ones(1, np.float32)  # propagation threshold 1.0: exact
        names = scorer.tensors(base=False)

        def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
            return scorer(engine.run(views, tops, lefts, patches, names, no_cap))

        workers, most = question.workers, question.batch_size
        if memory_budget is not None:
            first = question.grid.tops[:1], question.grid.lefts[:1]
            run(*first, question.patches(*first)[0])  # what kernels and sessions take at their first run is there now
            workers, fitting = fit_memory(engine.plan, question.grid, memory_budget, workers)
            most = fitting if most is None else min(most, fitting)
        batches = exact_plan(engine.plan, question.grid, most, workers).batches
        return question.answer("exact", baseline, batches, run, workers)

    def _naive(self, engine: Engine, question: _Question) -> HeatMap:
        session, names = self._naive_session(engine, question.scorer)

        def infer(images: np.ndarray) -> np.ndarray:
            # The other inputs belong to one image, and only the model knows which of their axes is the batch.
            size = 1 if question.others else len(images)
            parts = [
                session.run(list(names), {self._image_input: images[n : n + size], **question.others})
                for n in range(0, len(images), size)
            ]
            return question.scorer([np.concatenate(outputs) for outputs in zip(*parts, strict=True)])

        def run(tops: np.ndarray, lefts: np.ndarray, patches: np.ndarray) -> np.ndarray:
            return infer(occluded(question.image, engine.plan.layout, tops, lefts, patches))

        batches = naive_batches(question.grid, question.batch_size or NAIVE_BATCH)
        # One worker: ONNX Runtime's own threads share the work of a full inference.
        return question.answer("naive", infer(question.image)[0], batches, run, 1)

    def _naive_session(self, engine: Engine, scorer: Scorer) -> tuple[ort.InferenceSession, tuple[str, ...]]:
        """The original model itself wherever it takes a batch and has what is scored; else its dynamic twin."""
        names = scorer.tensors(base=True)
        originals = set(engine.plan.outputs)
        if self._plan is None and not isinstance(self.image_dims[0], int) and originals.issuperset(names):
            return self._original_session(), names
        return engine.full(logits=not originals.issuperset(names)), names

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
