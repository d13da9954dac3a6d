"""The oracle: full inference on the original model, one occluded image after another.

Independent of all product code, and slow on purpose: nothing here is clever enough to be wrong.
"""

from collections.abc import Callable, Sequence
from os import PathLike

import numpy as np
import onnx
import onnxruntime as ort
from tolerances import assert_scores_equal

__all__ = [
    "assert_scores_equal",
    "brute_force_changed",
    "brute_force_region",
    "naive_map",
    "naive_scores",
    "occluded",
    "session_of",
]

Model = str | PathLike[str] | bytes | onnx.ModelProto
Patch = np.ndarray | Callable[[int, int], np.ndarray]
"""(C, h, w) for all positions, or patch(top, left) -> (C, h, w)."""


def session_of(model: Model) -> ort.InferenceSession:
    """A plain session on the CPU: no custom operators, one thread (the models are small)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def occluded(image: np.ndarray, patch: np.ndarray, top: int, left: int) -> np.ndarray:
    """A copy of the image (1, C, H, W) or (1, H, W, C) with the patch (C, h, w) placed at (top, left)."""
    channels, height, width = patch.shape
    copy = image.copy()
    if image.shape[1] == channels:
        target, source = copy[0, :, top : top + height, left : left + width], patch
    elif image.shape[3] == channels:
        target, source = copy[0, top : top + height, left : left + width], patch.transpose(1, 2, 0)
    else:
        raise ValueError(f"a patch of {channels} channels does not fit an image of shape {image.shape}")
    if target.shape != source.shape:
        raise ValueError(f"the patch at ({top}, {left}) leaves the image: {target.shape}, not {source.shape}")
    target[...] = source
    return copy


def naive_scores(
    model: Model,
    image: np.ndarray,
    origins: Sequence[tuple[int, int]] | np.ndarray,
    patch: Patch,
    output: int = 0,
    batch: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (P, classes) at these (top, left) origins, and the baseline (classes,) without occlusion.

    `image` is (1, ...) float32 in the model's own layout. Models of a fixed batch run at that batch (1).
    """
    session = session_of(model)
    name = session.get_inputs()[0].name
    if isinstance(session.get_inputs()[0].shape[0], int):
        batch = 1

    def run(images: list[np.ndarray]) -> np.ndarray:
        return np.asarray(session.run(None, {name: np.concatenate(images)})[output])

    baseline = run([image])[0]
    positions = [(int(top), int(left)) for top, left in origins]
    scores = np.empty((len(positions), *baseline.shape), baseline.dtype)
    for start in range(0, len(positions), batch):
        part = positions[start : start + batch]
        images = [occluded(image, patch(*o) if callable(patch) else patch, *o) for o in part]
        scores[start : start + len(part)] = run(images)
    return scores, baseline


def naive_map(
    model: Model,
    image: np.ndarray,
    tops: Sequence[int] | np.ndarray,
    lefts: Sequence[int] | np.ndarray,
    patch: Patch,
    output: int = 0,
    batch: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """naive_scores on the grid tops x lefts, row by row: P = len(tops) * len(lefts)."""
    return naive_scores(model, image, [(t, left) for t in tops for left in lefts], patch, output, batch)


def brute_force_changed(
    model: Model | ort.InferenceSession,
    frame: tuple[int, int],
    rectangle: tuple[int, int, int, int],
    channels: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """Which cells (H', W') of the model's first output change when a rectangle of its input changes.

    The model takes one (1, channels, *frame) input and gives (1, C', H', W'). `rectangle` is (top, left,
    bottom, right), half open. Every pixel of it changes by about a thousand, in both directions (a maximum
    hides a fall), so that a real change cannot be mistaken for rounding, nor rounding for a change.
    """
    session = model if isinstance(model, ort.InferenceSession) else session_of(model)
    name = session.get_inputs()[0].name
    rng = np.random.default_rng(seed)
    top, left, bottom, right = rectangle
    image = rng.standard_normal((1, channels, *frame)).astype(np.float32)
    base = np.asarray(session.run(None, {name: image})[0])
    changed = np.zeros(base.shape[2:], bool)
    for sign in (1, -1):
        perturbed = image.copy()
        inside = perturbed[:, :, top:bottom, left:right]
        inside += sign * rng.uniform(500, 1500, inside.shape).astype(np.float32)
        result = np.asarray(session.run(None, {name: perturbed})[0])
        changed |= (np.abs(result - base) > 1e-3).any(axis=(0, 1))
    return changed


def brute_force_region(
    model: Model | ort.InferenceSession,
    frame: tuple[int, int],
    rectangle: tuple[int, int, int, int],
    channels: int = 1,
    seed: int = 0,
) -> tuple[int, int, int, int] | None:
    """The smallest rectangle (top, left, bottom, right) around all cells that change; None: none does."""
    changed = brute_force_changed(model, frame, rectangle, channels, seed)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not rows.size:
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
