"""Explanations on the grids of other libraries, whose last step, to the edge of the image, is a shorter one.

Incremental inference does not mind where origins lie, so such a grid is still one explanation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import numpy as np

from krypton_onnx.errors import ImageError
from krypton_onnx.rewriter import Source
from krypton_onnx.runtime.exact import answer_exactly, answer_naively
from krypton_onnx.runtime.fills.words import Fill
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.question import Question, check_limits
from krypton_onnx.runtime.scores import Scored
from krypton_onnx.runtime.session import OcclusionSession

Progress = Callable[[int, int], None]
MODES = ("exact", "naive")


def session_of(model: Source | OcclusionSession) -> OcclusionSession:
    """The session itself, or a new one of the model."""
    return model if isinstance(model, OcclusionSession) else OcclusionSession(model)


class _EveryClass(Question):
    """A question about all classes, of which one knows how many they are when the model has run."""

    def chosen(self, baseline: np.ndarray) -> tuple[int, ...]:
        return tuple(range(len(baseline)))


def explain_on(
    grid: Grid,
    session: OcclusionSession,
    image: np.ndarray,
    fill: Fill,
    scored: Scored,
    targets: list[int] | None,
    mode: str = "exact",
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> HeatMap:
    """As OcclusionSession.explain, on a grid whose origins need not be evenly spaced.

    image : (1, ...) in the model's layout. targets : class ids; None is all classes. mode : "exact" or "naive".
    """
    if mode not in MODES:
        raise ImageError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    check_limits(None, None, memory_budget)
    question = session.question(image, Occlusion(patch=grid.patch, stride=grid.stride, fill=fill), scored)
    refusal = question.engine.plan.refusal
    if refusal is not None and mode == "exact":
        warnings.warn(
            f"every position is computed by full inference, one image after another: {refusal}", stacklevel=4
        )
    if targets is None:
        question = _EveryClass(**{field.name: getattr(question, field.name) for field in fields(question)})
    # What hides the image depends on where its patch lies, not on the grid.
    question = replace(question, grid=grid, targets=targets, memory_budget=memory_budget, progress=progress)
    return answer_exactly(question) if mode == "exact" else answer_naively(question)


def blended(
    scores: np.ndarray, tops: np.ndarray, lefts: np.ndarray, weights: np.ndarray, frame: tuple[int, int]
) -> np.ndarray:
    """The mean over the patches that cover a pixel, float32 (T, H, W); NaN where none does.

    scores : float32 (T, rows, cols) at the origins tops, lefts; what lies beyond the frame is cut off.
    weights : (h, w), how much a patch counts at each of its pixels.
    """
    targets, _, columns = scores.shape
    height, width = weights.shape
    high, wide = max(frame[0], int(tops.max()) + height), max(frame[1], int(lefts.max()) + width)
    placed = np.zeros((columns, height, wide), np.float32)  # the weights of every patch of one row
    for column, left in enumerate(lefts):
        placed[column, :, left : left + width] = weights
    sums, counts = np.zeros((targets, high, wide), np.float32), np.zeros((high, wide), np.float32)
    for row, top in enumerate(tops):
        sums[:, top : top + height] += (scores[:, row] @ placed.reshape(columns, -1)).reshape(targets, height, wide)
        counts[top : top + height] += placed.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums /= counts  # in place: of a thousand classes they are large
    return sums[:, : frame[0], : frame[1]]


@contextmanager
def progress_bar(shown: bool, parts: int = 1) -> Iterator[Progress | None]:
    """What to hand to `parts` explanations of equal size, one after another: their progress on stderr; None: none."""
    if not shown:
        yield None
        return
    # Rich takes a while to import, and most explanations show no progress.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("occlusions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        finished = 0

        def show(done: int, total: int) -> None:
            nonlocal finished
            bar.update(task, completed=finished + done, total=parts * total)
            finished += total if done == total else 0

        yield show
