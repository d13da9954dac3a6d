"""kx.tune: exact maps of a few images, the candidate fidelities on them, and the choice."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.approximate import observe
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.fills.words import Fill
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.policy import Choice, Observation, choose, every_trial, worthwhile
from krypton_onnx.runtime.question import Question, check_limits, check_min_ssim, check_seed
from krypton_onnx.runtime.scores import Score, Scored
from krypton_onnx.runtime.session import OcclusionSession
from krypton_onnx.runtime.setting import SMALLEST_MAP
from krypton_onnx.runtime.tuning import Evidence, Specification, Tuning, specification
from krypton_onnx.tolerance import is_noise

Image = np.ndarray | Mapping[str, np.ndarray]


def tune(
    session: OcclusionSession,
    images: Iterable[Image],
    min_ssim: float = 0.9,
    patch: int | tuple[int, int] = 16,
    stride: int | tuple[int, int] = 4,
    fill: Fill = 0.0,
    score: Score = "output",
    output: str | None = None,
    seed: int = 0,
    *,
    activation: str | None = None,
    fill_space: str = "model",
    fill_samples: int = 8,
    patch_shape: str | np.ndarray = "rectangle",
    names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    memory_budget: int | None = None,
) -> Tuning:
    """Choose how to compute approximate maps of an SSIM of at least `min_ssim`, and attach it to the session.

    Computes the exact map of every image (of its predicted class) and the map at every candidate fidelity, tries every
    ladder on them, and takes the fastest that keeps the promise on images that its estimates were not fitted on. More
    and more varied images make a tighter promise; crops of one picture count as one.

    images : as `explain` takes them, all of one size. min_ssim : in (0, 1]. patch, stride, fill, score, output,
    activation, fill_space, fill_samples, patch_shape : as for `explain`; the tuning holds for these. seed : of the
    check cells and sampled fills; equal seeds give equal choices.
    names : of the images, for the record. progress : callable(done, total), maps. memory_budget : as for `explain`.

    Source: Krypton (Nakandala & Kumar, SIGMOD 2019), section 4.3, tunes its two knobs on sample images; here
    every image is also judged by itself. Raises ImageError where an image or argument is at fault, or where no image
    can be learnt from.
    """
    check_min_ssim(min_ssim)
    check_seed(seed)
    if isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise ImageError("images must be several: give a list of arrays, or of {input: array}")
    check_limits(None, None, memory_budget)
    occlusion = Occlusion(patch, stride, fill, fill_space, fill_samples, patch_shape, seed=seed)
    scored = Scored(score, activation, output)
    questions = [replace(session.question(image, occlusion, scored), memory_budget=memory_budget) for image in images]
    if not questions:
        raise ImageError("tune needs at least one image")
    first = questions[0]
    for question in questions:
        if question.frame != first.frame:
            raise ImageError(
                f"images of different sizes cannot share a tuning: {_size(first)} and {_size(question)} pixels"
            )
    if min(first.grid.shape) < SMALLEST_MAP:
        raise ImageError(
            f"a map of {first.grid.shape[0]} x {first.grid.shape[1]} positions has nothing to tune: below "
            f"{SMALLEST_MAP} x {SMALLEST_MAP} approximate maps are computed exactly"
        )
    named = [str(number) for number in range(len(questions))] if names is None else [str(name) for name in names]
    if len(named) != len(questions):
        raise ImageError(f"{len(named)} names for {len(questions)} images: give one each")
    costs = worthwhile(first.plans, first.grid)
    observations, seconds = _observe(questions, named, tuple(costs), progress)
    choice = choose(every_trial(observations, costs, seed), min_ssim)
    wanted = specification(first, occlusion, scored)
    names_used = tuple(observation.name for observation in observations)
    session.tuning = tuning = tuning_of(choice, first, wanted, min_ssim, names_used, seconds, seed)
    return tuning


def tuning_of(
    choice: Choice,
    question: Question,
    wanted: Specification,
    min_ssim: float,
    names: Sequence[str],
    seconds: float,
    seed: int = 0,
) -> Tuning:
    """A choice as it is stored. question : of any of the images; seconds : of an exact map."""
    setting = choice.trials.setting
    thresholds = tuple(
        tuple(fidelity.thresholds(question.plan(fidelity.frozen), question.grid.patch).tolist())
        for fidelity in setting.fidelities
    )
    evidence = Evidence(
        tuple(names),
        tuple(tuple(round(float(one), 5) for one in image) for image in choice.similarities),
        float(choice.trials.whole.mean() / choice.costs.mean()),
        seconds,
    )
    return Tuning(
        wanted, question.engine.fingerprint, float(min_ssim), setting, choice.relations, choice.margin, thresholds,
        evidence, int(seed),
    )  # fmt: skip


def _observe(
    questions: Sequence[Question],
    names: Sequence[str],
    fidelities: Sequence[Fidelity],
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Observation], float]:
    """Every image at every fidelity, and the seconds of an exact map, the median."""
    seconds: list[float] = []
    observations = []
    for number, (question, name) in enumerate(zip(questions, names, strict=True)):
        maps: dict[Fidelity, np.ndarray] = {}
        for done, fidelity in enumerate(fidelities, start=1):
            flat = EXACT in maps and is_noise(maps[EXACT])
            if not flat:
                maps[fidelity], spent = observe(question, fidelity)
                seconds += [spent] if fidelity.exact else []
            if progress is not None:
                progress(number * len(fidelities) + done, len(questions) * len(fidelities))
        if is_noise(maps[EXACT]):
            warnings.warn(f"image {name}: its map is rounding noise, nothing can be learnt from it", stacklevel=3)
        else:
            observations.append(Observation(name, maps))
    if not observations:
        raise ImageError("the maps of all images are rounding noise: score='logit' or 'margin' may show more")
    return observations, float(np.median(seconds))


def _size(question: Question) -> str:
    return f"{question.frame[0]} x {question.frame[1]}"
