"""OcclusionSession: as onnxruntime.InferenceSession, and it explains."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.errors import ImageError, ModelError, NotRewritable
from krypton_onnx.forking import abandon, forget_in_children
from krypton_onnx.images.preparation import Preparation
from krypton_onnx.rewriter import Plan, Source, load_model, plan_of, rewrite_model
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.normalize import find_image_input, graph_inputs, input_dims
from krypton_onnx.rewriter.ort_sessions import open_session, open_with
from krypton_onnx.rewriter.rewrite import image_layout
from krypton_onnx.rewriter.unrewritten import unrewritten_plan
from krypton_onnx.rewriter.weights import as_bytes
from krypton_onnx.runtime.costs import GPU, HOST, costs_of
from krypton_onnx.runtime.engine import Engine, SessionSettings
from krypton_onnx.runtime.exact import answer_exactly, answer_naively
from krypton_onnx.runtime.fills.words import Fill, needs_preparation
from krypton_onnx.runtime.full_inference import FullInference, Unrewritten
from krypton_onnx.runtime.grid import make_grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.images import InputSpec, as_batch, as_type, channels_first, other_feeds, split_feeds
from krypton_onnx.runtime.memory import CPU_ARENA
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.patches import Patches
from krypton_onnx.runtime.pool import Pool
from krypton_onnx.runtime.preparing import AnyImage, Pictured
from krypton_onnx.runtime.providers import choose_providers, cuda_target
from krypton_onnx.runtime.question import (
    Question,
    check_callbacks,
    check_limits,
    check_min_ssim,
    check_seed,
    check_top,
)
from krypton_onnx.runtime.run_size import RunSize
from krypton_onnx.runtime.scores import Score, Scored, Scorer, warn_of_noise
from krypton_onnx.runtime.stand_in import StandIn
from krypton_onnx.runtime.transport import packed, unpacked
from krypton_onnx.runtime.tuning import Specification, Tuning, specification, stored_tuning

CANNOT_LOAD = "ONNX Runtime cannot load the model"  # so begin errors of loading
MODES = ("naive", "exact", "approximate")
MOST_ENGINES = 4  # of images of different sizes; each holds sessions and kernels' weights
DEFAULT_OCCLUSION, DEFAULT_SCORED = Occlusion(), Scored()


class OcclusionSession(StandIn, Pictured):
    """Occlusion explanations of one ONNX model.

    model : path, bytes or ModelProto; original or rewritten.
    sess_options, providers, provider_options : as for onnxruntime.InferenceSession; `sess_options` serves `run`,
        and its intra_op_num_threads (0: all cores) is the number of threads that `explain` uses. providers="auto" is
        CUDA where it can be used, else the CPU, and `provider_note` says which; CUDA that is asked for by name and
        cannot be used is an error. On CUDA, TF32 is off unless provider option use_tf32 says otherwise.
    image_input : name of the image input, where several inputs could be it.
    strict : no Winograd convolution, whose rounding errors are larger: a fifth of the tolerance of exact mode
        (`krypton_onnx.tolerance`), at up to twice the time.
    preparation : how pictures become the model's input: a Preparation, or the name of a preset
        (`krypton_onnx.images.presets`); None is the one stored with the model, if any. Arrays need none.

    Raises ModelError where the model cannot be read, understood or loaded. Safe to use from several threads, which
    share its threads, and in forked processes. It can be pickled, with what can be read of `sess_options`: entries,
    dimensions and libraries that were added to these stay behind.
    """

    def __init__(
        self,
        model: Source,
        sess_options: ort.SessionOptions | None = None,
        providers: Sequence | str | None = None,
        provider_options: Sequence[dict] | None = None,
        image_input: str | None = None,
        strict: bool = False,
        preparation: Preparation | str | None = None,
    ) -> None:
        chosen = choose_providers(providers, provider_options)
        target = cuda_target(chosen)
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
            providers=chosen.names,
            provider_options=chosen.options,
            workers=1 if target is not None else threads if threads > 0 else available_cores(),
            strict=strict,
            target=target,
        )
        self._provider_note = chosen.note
        self._image_input = self._plan.image_input if self._plan else find_image_input(loaded, image_input)
        image = next(value for value in graph_inputs(loaded) if value.name == self._image_input)
        self._image_dims, self._image_dtype = input_dims(image), _numpy_type(image)
        self._others = {
            value.name: InputSpec(_numpy_type(value), input_dims(value), self._image_dims[0])
            for value in graph_inputs(loaded)
            if value.name != self._image_input and not (self._plan and value.name in (ORIGIN, PATCH, THRESHOLD))
        }
        self._layout = self._plan.layout if self._plan else image_layout(loaded, self._image_input)
        self._engines: dict[tuple[int, ...], Engine | Unrewritten] = {}
        self._warned = False
        self._original: ort.InferenceSession | None = None
        self._tuning: Tuning | None = None
        self._stored_tuning = stored_tuning(loaded)
        self._remember(loaded, preparation)
        self._lock = threading.Lock()
        self._pool = Pool(self._settings.workers)
        self._run_size = RunSize((HOST if target is None else GPU).full_sizes)
        forget_in_children(self)

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

    @property
    def provider_note(self) -> str:
        """Which execution provider was chosen, and why; empty where it was asked for by its name."""
        return self._provider_note

    @property
    def rewritten(self) -> bool:
        """Whether the model is one that `convert` wrote, not an original."""
        return self._plan is not None

    def _inference_session(self) -> ort.InferenceSession:
        return self._engine(None).full(False) if self._plan is not None else self._original_session()

    def _original_session(self) -> ort.InferenceSession:
        with self._lock:
            if self._original is None:
                self._original = self._open(self._source)
            return self._original

    def _open(self, source: Source) -> ort.InferenceSession:
        """A session of a model as it is, by the options given."""
        options = self._options
        if options is None:
            options = ort.SessionOptions()
            options.log_severity_level = 4  # what is wrong is raised
        settings = self._settings
        if isinstance(source, onnx.ModelProto):
            return open_with(source, options, settings.providers, settings.provider_options)
        given = source if isinstance(source, bytes) else os.fspath(source)
        return open_session(given, options, settings.providers, settings.provider_options)

    def plan(self, image: np.ndarray | Mapping[str, np.ndarray] | None = None) -> Plan:
        """The rewriter's plan; `image` is needed only where the model's height or width is unknown.

        Its `refusal` says why nothing is incremental, where the model is not rewritten.
        """
        return self._engine(self._shape_of(image)).plan

    # -- explanations ------------------------------------------------------------------------------------------------

    def explain(
        self,
        image: AnyImage,
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
        *,
        activation: str | None = None,
        top: int | None = None,
        fill_space: str = "model",
        fill_samples: int = 8,
        patch_shape: str | np.ndarray = "rectangle",
    ) -> HeatMap:
        """An occlusion map of one image.

        image : float32 (C, H, W), (1, C, H, W) or the model's own layout (which wins where ambiguous), in the
            model's input space; or {input: array} for models with more inputs. Where the session has a preparation, a
            picture instead: the path of a file (PNG, JPEG, TIFF, DICOM, ...) or a Pillow image.
        targets : class ids; None is the class predicted for the unoccluded image. top : or the so many best classes of
            the unoccluded image, for the price of one.
        patch, stride : pixels, int or (height, width). The grid holds every position where the patch fits.
        fill : what hides the pixels: a number, one a channel, (C, h, w), or a word: "mean" (the mean of every channel
            of this image), "black", "white", "gray" (pixel values 0, 255, 127.5; need a preparation), "blur" (the image
            blurred by a Gaussian with sigma half the patch's height and width), "inpaint" (what goes on smoothly from
            the pixels around, as scikit-image's inpaint_biharmonic has it), "surroundings" (patches of the image that
            touch the hidden one); or callable(image, top, left, height, width) -> (C, h, w) or (K, C, h, w) to average
            the score over K fills; it is called from several threads, in no particular order; its image is read-only.
            A list with a word, a function or a list in it is several fills: the score is the mean over them.
        fill_space : "model" (numbers of fill are the model's own, after the preparation) or "pixel" (pixel values, 0 to
            255, one or red, green and blue; needs a preparation). fill_samples : patches that "surroundings" averages
            over, drawn by (seed, top, left); a map takes as many times as long.
        patch_shape : "rectangle", "ellipse" (the one inscribed in the patch; pixels whose centre it covers), or a mask
            (h, w) from 0 to 1: mask * fill + (1 - mask) * image stands in the patch's place.
        region : (top, left, bottom, right) to explain only there.
        mode : "naive" (full inference), "exact" (incremental; equal up to float rounding) or "approximate": many
            times faster, and its SSIM to the exact map at least `min_ssim`, by what `tune` found (docs/quality.md).
            Where nothing of the model is incremental, or full inference turns out to be faster, exact maps are computed
            by it, and their note says so.
        min_ssim : of an approximate map, in (0, 1]; None is the tuned one, 0.9 where nothing was tuned.
        score : "output" (as the model gives it), "logit" (before the last Softmax / Sigmoid), "margin" (logit minus the
            largest other), "log-odds" (log p / (1 - p), from the logits: it moves where a probability is saturated), or
            callable({output: array}) -> (N, classes). A model that is not rewritten runs one image at a time: the
            callable then gets the outputs of one, of whatever shape, and N is 1.
        activation : "softmax" or "sigmoid", of an output of raw logits: its probabilities are the score "output", and
            theirs the log-odds. Never guessed.
        output : its name, where the model has several.
        batch_size : most positions of one run; None chooses.
        time_budget : seconds after which no further batch starts; the map is then not complete. Ctrl-C does the same.
        seed : of the cells at which an approximate map is checked, and of what fill="surroundings" draws.
        progress : callable(done, total), positions. on_update : callable(heat_map), as the map fills.
        memory_budget : bytes that the process may take while the map is computed; batches are made as small as that
            asks for, and ImageError is raised, before views are made, where not one position fits. To create the
            session's own parts, when the first image comes, is not counted.
        complete_exactly : compute an approximate map exactly where its estimated SSIM stays below min_ssim.

        Raises ImageError where the image or an argument is at fault, ModelError where the model is. Warns where an
        approximate map has no tuning to go by, where a map's range is no more than rounding, where a fill looks like a
        pixel value and is not said to be one, and once a session where the model is not rewritten.
        """
        if mode not in MODES:
            raise ImageError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if min_ssim is not None:
            check_min_ssim(min_ssim)
            if mode != "approximate":
                raise ImageError(f"min_ssim has no meaning in mode={mode!r}: only an approximate map is judged by it")
        check_limits(batch_size, time_budget, memory_budget)
        check_seed(seed)
        check_top(top)
        check_callbacks(progress=progress, on_update=on_update)
        occlusion = Occlusion(patch, stride, fill, fill_space, fill_samples, patch_shape, region, seed)
        scored = Scored(score, activation, output)
        question = replace(
            self.question(image, occlusion, scored),
            targets=targets, top=top, batch_size=batch_size, time_budget=time_budget, memory_budget=memory_budget,
            seed=seed, progress=progress, on_update=on_update,
        )  # fmt: skip
        self._tell_of_refusal(question.engine.plan, mode)
        if mode == "naive":
            heat_map = answer_naively(question)
        elif mode == "exact":
            heat_map = answer_exactly(question)
        else:
            wanted = specification(question, occlusion, scored)
            tuning = self._tuning_for(question.engine, wanted)
            # SciPy's filters take a while to import, and exact maps need none.
            from krypton_onnx.runtime.approximate import Promise, answer_approximately

            heat_map = answer_approximately(question, tuning, Promise(min_ssim, complete_exactly))
        warn_of_noise(heat_map, question.scorer)
        return heat_map

    def question(
        self,
        image: AnyImage,
        occlusion: Occlusion = DEFAULT_OCCLUSION,
        scored: Scored = DEFAULT_SCORED,
    ) -> Question:
        """One explanation to be answered: what `explain` asks for, checked. For `tune`; raises as `explain`."""
        array, given = split_feeds(self._arrays(image), self._image_input)
        others = other_feeds(given, self._others)
        batch = as_batch(array, self.image_dims, self.layout)
        frame = batch.shape[2:] if self.layout == "NCHW" else batch.shape[1:3]
        grid = make_grid((int(frame[0]), int(frame[1])), *occlusion.where)
        engine = self._engine(tuple(batch.shape))
        first = np.ascontiguousarray(channels_first(batch, engine.plan.layout))
        pixels = self.preparation if needs_preparation(occlusion.fill, occlusion.fill_space) else None
        patches = Patches(occlusion, first, grid, pixels)
        scorer = Scorer(engine.plan, scored)
        full = self._full_inference(engine, scorer, others)
        typed = as_type(batch, self._image_dtype)
        workers, costs = self._settings.workers, costs_of(self._settings.target)
        return Question(engine, full, typed, others, grid, patches, scorer, None, workers, pool=self._pool, costs=costs)

    def _full_inference(
        self, engine: Engine | Unrewritten, scorer: Scorer, others: Mapping[str, np.ndarray]
    ) -> FullInference:
        """By the original model itself where it takes a batch, or is not rewritten, and has what is scored; else by its
        twin of a dynamic batch."""
        batch, plan = self.image_dims[0], engine.plan
        lacking = not set(plan.outputs).issuperset(scorer.tensors(base=True))
        original = self._plan is None and not isinstance(batch, int) and not lacking
        session = self._original_session if original else partial(engine.full, lacking)
        # The other inputs belong to one image, and only the model knows which of their axes is the batch.
        alone = plan.refusal is not None or bool(others)
        copies = batch if plan.refusal is not None and isinstance(batch, int) else 1
        target = self._settings.target
        arena = CPU_ARENA if target is None or target.memory == "cpu" else f"gpu:{target.number}"
        return FullInference(
            session, scorer, self._image_input, plan.layout, others, alone, copies, self._run_size, arena
        )

    def _tell_of_refusal(self, plan: Plan, mode: str) -> None:
        """Warn, once, where a map is asked for that is not computed as one expects it."""
        if plan.refusal is None or mode == "naive" or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"every position is computed by full inference, one image after another: {plan.refusal}", stacklevel=3
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

    def _tuning_for(self, engine: Engine | Unrewritten, wanted: Specification) -> Tuning | None:
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

    # -- other processes ---------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In a forked child: the session of the parent waits for threads that are no more."""
        abandon(self._original)
        self._original, self._lock = None, threading.Lock()
        self._run_size = RunSize((HOST if self._settings.target is None else GPU).full_sizes)

    def __getstate__(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "model": as_bytes(self._source) if isinstance(self._source, onnx.ModelProto) else self._source,
            "sess_options": packed(self._options),
            "providers": settings.providers,
            "provider_options": settings.provider_options,
            "image_input": self._image_input,
            "strict": settings.strict,
            "preparation": self._given_preparation,
            "tuning": (self._tuning, self._stored_tuning),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        tuning = state.pop("tuning")
        self.__init__(**{**state, "sess_options": unpacked(state["sess_options"])})  # type: ignore[misc]
        self._tuning, self._stored_tuning = tuning

    # -- engines -----------------------------------------------------------------------------------------------------

    def _shape_of(self, image: np.ndarray | Mapping[str, np.ndarray] | None) -> tuple[int, ...] | None:
        if image is None:
            return None
        return tuple(as_batch(split_feeds(image, self._image_input)[0], self.image_dims, self.layout).shape)

    def _engine(self, shape: tuple[int, ...] | None) -> Engine | Unrewritten:
        """The engine for images of this shape, one rewrite a shape; Unrewritten where nothing is incremental."""
        dims = self.image_dims[1:]
        key = tuple(int(dim) for dim in (dims if shape is None else shape[1:]) if isinstance(dim, int))
        with self._lock:
            engine = self._engines.pop(key, None)
            if engine is None:
                engine = self._new_engine(None if shape is None else (1, *shape[1:]))
            self._engines[key] = engine  # the last one used last
            for oldest in list(self._engines)[:-MOST_ENGINES]:  # who still computes with it holds it
                del self._engines[oldest]
            return engine

    def _new_engine(self, shape: tuple[int, ...] | None) -> Engine | Unrewritten:
        try:
            return Engine(partial(rewrite_model, self._source, self._image_input, shape), self._settings)
        except ModelError as error:
            refusal = str(error)
            if not isinstance(error, NotRewritable):
                # The options given may register operators, which the rewriter does not know.
                if self._options is None or not refusal.startswith(CANNOT_LOAD):
                    raise
                if self._original is None:  # the lock is held
                    self._original = self._open(self._source)
        plan = unrewritten_plan(load_model(self._source), self._image_input, refusal, shape)
        return Unrewritten(plan, partial(load_model, self._source), self._open, self._original_session)


def _numpy_type(value: onnx.ValueInfoProto) -> np.dtype:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
