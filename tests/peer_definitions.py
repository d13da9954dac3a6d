"""What Captum's Occlusion and MONAI's OcclusionSensitivity compute, by brute force: the definitions, in NumPy.

One occluded image after another, no product code, neither library. That they are these libraries' definitions is tested
where the libraries are installed (test_adapters.py).
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
"""(N, ...) images to (N, classes) scores."""


def captum_occlusion(
    run: Run,
    inputs: np.ndarray,
    window: Sequence[int],
    strides: Sequence[int],
    baselines: np.ndarray | float = 0.0,
) -> np.ndarray:
    """(N, classes, ...): by how much every score falls, for windows that move along all axes of an example."""
    counts = [math.ceil((n - w) / s) + 1 for n, w, s in zip(inputs.shape[1:], window, strides, strict=True)]
    unoccluded = run(inputs)
    total = np.zeros((*unoccluded.shape, *inputs.shape[1:]))
    weight = np.zeros(inputs.shape[1:])
    for steps in itertools.product(*map(range, counts)):
        mask = np.zeros(inputs.shape[1:])
        mask[tuple(slice(k * s, k * s + w) for k, s, w in zip(steps, strides, window, strict=True))] = 1
        scores = run((inputs * (1 - mask) + baselines * mask).astype(np.float32))
        total += (unoccluded - scores).reshape(*unoccluded.shape, *[1] * mask.ndim) * mask
        weight += mask
    return total / weight


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def bell(x: float, middle: float, sigma: float) -> float:
    return math.exp(-((x - middle) ** 2) / (2 * sigma**2))


def pixel_of_a_bell(x: int, middle: int, sigma: float) -> float:
    """The share of a Gaussian at `middle` that falls into the pixel x."""
    root = sigma * math.sqrt(2)
    return 0.5 * (math.erf((x - middle + 0.5) / root) - math.erf((x - middle - 0.5) / root))


def faded(mask: tuple[int, int]) -> np.ndarray:
    """What the mode "gaussian" multiplies the image by: 0 in the middle of a mask, 1 where it hides least."""
    height, width = mask
    hidden = np.array(
        [
            [
                pixel_of_a_bell(y, height // 2, height / 4) * pixel_of_a_bell(x, width // 2, width / 4)
                for x in range(width)
            ]
            for y in range(height)
        ]
    )
    if hidden.max() == hidden.min():
        return np.zeros(mask)
    return (hidden.max() - hidden) / (hidden.max() - hidden.min())


def importance(mask: tuple[int, int]) -> np.ndarray:
    """How much a mask counts at its pixels in the mode "gaussian"."""
    height, width = mask
    weights = np.array(
        [
            [bell(y, (height - 1) / 2, height / 8) * bell(x, (width - 1) / 2, width / 8) for x in range(width)]
            for y in range(height)
        ]
    )
    return np.maximum(weights, max(weights.min(), 1e-3))


def monai_occlusion(
    run: Run,
    image: np.ndarray,
    mask_size: tuple[int, int],
    mode: str | float,
    overlap: float,
    b_box: Sequence[int] | None = None,
    activate: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """The map (1, classes, H, W) of an image (1, C, H, W); `activate` of what `run` gives, None as it is."""
    sides = image.shape[2:]
    corners = [0, sides[0], 0, sides[1]]
    mask = list(mask_size)
    if b_box is not None:
        for axis in range(2):
            low, high, edge = b_box[2 * axis], b_box[2 * axis + 1], (mask[axis] - 1) // 2
            corners[2 * axis] = max(low - edge, 0)
            corners[2 * axis + 1] = sides[axis] if high == -1 else min(high + edge, sides[axis])
            mask[axis] = min(mask[axis], corners[2 * axis + 1] - corners[2 * axis])
    starts = []
    for axis in range(2):
        begin, end = corners[2 * axis : 2 * axis + 2]
        step = max(int(mask[axis] * (1 - overlap)), 1)
        origins, at = [], begin
        while at + mask[axis] < end:
            origins.append(at)
            at += step
        starts.append([*origins, end - mask[axis]])
    height, width = mask
    visible, weights = faded((height, width)), importance((height, width)) if mode == "gaussian" else np.ones(mask)
    total, counts = 0.0, np.zeros(sides)
    for top, left in itertools.product(*starts):
        area = (slice(top, top + height), slice(left, left + width))
        hidden = image.copy()
        patch = hidden[0][:, area[0], area[1]]
        if mode == "gaussian":
            patch[...] = patch * visible
        elif mode == "mean_patch":
            patch[...] = patch * patch.mean()  # the library's mean is a factor, not a fill
        elif mode == "mean_img":
            patch[...] = image.mean()
        else:
            patch[...] = mode
        scores = run(hidden)[0] if activate is None else activate(run(hidden))[0]
        placed = np.zeros((len(scores), *sides))
        placed[:, area[0], area[1]] = scores[:, None, None] * weights
        total = total + placed
        counts[area] += weights
    if b_box is None:
        return np.asarray(total / counts)[None]
    rows, columns = (
        slice(max(low, 0), high if high > 0 else side)
        for low, high, side in zip(b_box[::2], b_box[1::2], sides, strict=True)
    )
    area = (slice(None), rows, columns)
    return (np.asarray(total)[area] / counts[area[1:]])[None]
