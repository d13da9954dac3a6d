"""MONAI's OcclusionSensitivity for 2-D ONNX models: the same call, the same two maps, by incremental inference.

What is computed is as MONAI 1.6 defines it (`monai/visualize/occlusion_sensitivity.py`, and the sliding windows of
`monai/inferers/utils.py`): the mean, over the masks that cover a pixel, of the network's scores for the occluded image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from krypton_onnx.adapters.lattice import blended, explain_on, progress_bar, session_of
from krypton_onnx.adapters.tensors import as_array, is_tensor, like
from krypton_onnx.errors import ImageError
from krypton_onnx.rewriter import Source
from krypton_onnx.runtime.fills.words import Fill
from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.scores import Scored
from krypton_onnx.runtime.session import OcclusionSession

MODES = ("gaussian", "mean_patch", "mean_img")
ACTIVATIONS = ("softmax", "sigmoid")
MASK_SIGMA = 0.25  # of the side of a mask: the Gaussian that hides
WEIGHT_SIGMA = 0.125  # of the same: the Gaussian by which overlapping masks are averaged
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Area:
    """What a bounding box asks for along one axis, half open pixels. scanned: by masks; shown: what comes back."""

    scanned: tuple[int, int]
    shown: tuple[int, int]
    mask: int


class OcclusionSensitivity:
    """monai.visualize.OcclusionSensitivity of an ONNX model.

    model : path, bytes, ModelProto or OcclusionSession, in the place of MONAI's `nn_module`.
    mask_size : side of the mask in pixels, or (height, width).
    n_batch : without effect: the session chooses its batches; `memory_budget` keeps them small.
    verbose : a progress bar on stderr.
    mode : what hides, in the model's input space: "gaussian" (the image fades to 0 towards the middle of the mask),
        "mean_img" (the mean of the image), a number, or "mean_patch". MONAI 1.6 computes by that name the mask's
        pixels *multiplied* by their mean, where it documents that they are replaced by it; so it is here.
    overlap : of masks next to each other, as a share of their side: 0 <= overlap < 1.
    activate : True chooses as MONAI does: sigmoid where the *image* has one channel, else softmax. That is wrong for,
        say, a grey X-ray with several exclusive classes: better name it, "softmax" or "sigmoid". False for outputs that
        are probabilities already. Or a callable: (N, classes) -> the same, tensors where the image is a tensor.
    output : name of the output, where the model has several.
    memory_budget : as for OcclusionSession.explain.

    Raises ImageError, which names the argument, where one is at fault; ModelError where the model is.
    """

    def __init__(
        self,
        model: Source | OcclusionSession,
        mask_size: int | Sequence[int] = 16,
        n_batch: int = 16,
        verbose: bool = True,
        mode: str | float = "gaussian",
        overlap: float = 0.6,
        activate: bool | str | Callable[[Any], Any] = True,
        *,
        output: str | None = None,
        memory_budget: int | None = None,
    ) -> None:
        number = isinstance(mode, (int, float, np.number)) and not isinstance(mode, bool)
        if not number and not (isinstance(mode, str) and mode in MODES):
            raise ImageError(f"mode must be one of {', '.join(MODES)} or a number, got {mode!r}")
        if not (isinstance(overlap, (int, float)) and 0 <= overlap < 1):
            raise ImageError(f"overlap must be at least 0 and less than 1, got {overlap!r}")
        if not (isinstance(activate, bool) or callable(activate) or activate in ACTIVATIONS):
            raise ImageError(f"activate must be True, False, 'softmax', 'sigmoid' or callable, got {activate!r}")
        self.session = session_of(model)
        self.mask_size, self.verbose, self.mode, self.overlap, self.activate = (
            _pair(mask_size), verbose, mode, overlap, activate,
        )  # fmt: skip
        self._output, self._memory_budget = output, memory_budget

    def __call__(self, x: Any, b_box: Sequence[int] | None = None, **kwargs: Any) -> tuple[Any, Any]:
        """(map, most probable class) of one image: float32 (1, classes, H, W) and int64 (1, 1, H, W), as x was given.

        x : tensor or array (1, C, H, W), channels first as in MONAI whatever the model's layout.
        b_box : (top, bottom, left, right) to compute and return only that part; -1 as a bottom or right is the edge.
            As in MONAI's code, bottom and right are not included (its documentation says otherwise).
        kwargs : MONAI hands them to the network; there must be none.

        The map holds scores, the mean over the masks that cover a pixel: low where the pixel supports a class.
        """
        if kwargs:
            raise ImageError(
                f"{next(iter(kwargs))}= is not supported: OcclusionSession.explain takes {{input: array}} for a model "
                "with further inputs"
            )
        image = as_array(x, "x")
        if image.ndim != 4 or len(image) != 1:
            raise ImageError(f"x has shape {image.shape}; expected one image, (1, channels, height, width)")
        rows, columns = self._areas((image.shape[2], image.shape[3]), b_box)
        mask = rows.mask, columns.mask
        grid = Grid(
            self._origins(rows), self._origins(columns), mask, (self._step(rows), self._step(columns)),
            (image.shape[2], image.shape[3]),
        )  # fmt: skip
        own = image if self.session.layout == "NCHW" else np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        scored = Scored(score=self._score(x, image.shape[1]), output=self._output)
        with progress_bar(self.verbose) as progress:
            heat_map = explain_on(
                grid, self.session, own, _fill(self.mode, image[0], mask), scored, None,
                memory_budget=self._memory_budget, progress=progress,
            )  # fmt: skip
        weights = _gaussian_weights(mask) if self.mode == "gaussian" else np.ones(mask, np.float32)
        shown = (slice(None), slice(*rows.shown), slice(*columns.shown))
        scores = blended(heat_map.scores, grid.tops, grid.lefts, weights, grid.frame)[shown][None]
        return like(scores, x), like(scores.argmax(axis=1)[:, None], x)

    def _areas(self, frame: tuple[int, int], b_box: Sequence[int] | None) -> list[Area]:
        if b_box is None:
            whole = [Area((0, side), (0, side), mask) for side, mask in zip(frame, self.mask_size, strict=True)]
            return [_fitting(area) for area in whole]
        edges = list(b_box)
        if len(edges) != 4 or not all(isinstance(edge, (int, np.integer)) for edge in edges):
            raise ImageError(f"b_box must be (top, bottom, left, right) in pixels, got {b_box!r}")
        areas = []
        for axis, (side, mask) in enumerate(zip(frame, self.mask_size, strict=True)):
            first, last = int(edges[2 * axis]), int(edges[2 * axis + 1])
            begin, end = max(first, 0), side if last == -1 else last
            if not begin < end <= side:
                raise ImageError(f"b_box {b_box!r} does not lie inside the {frame[0]} x {frame[1]} image")
            edge = (mask - 1) // 2  # so that pixels at the border of the box are in the middle of a mask too
            scanned = max(begin - edge, 0), side if last == -1 else min(last + edge, side)
            areas.append(Area(scanned, (begin, end), min(mask, scanned[1] - scanned[0])))
        return areas

    def _step(self, area: Area) -> int:
        return max(int(area.mask * (1 - self.overlap)), 1)

    def _origins(self, area: Area) -> np.ndarray:
        """Every step, and the last where the mask ends at the edge."""
        begin, last, step = area.scanned[0], area.scanned[1] - area.mask, self._step(area)
        steps = -(-(last - begin) // step)
        return np.minimum(begin + step * np.arange(steps + 1, dtype=np.int64), last)

    def _score(self, x: Any, channels: int) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        activate = self.activate
        if activate is True:
            activate = "sigmoid" if channels == 1 else "softmax"

        def score(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
            if self._output is None and len(outputs) > 1:
                raise ImageError(f"the model has several outputs ({', '.join(outputs)}): choose one with output=")
            name, values = next((name, value) for name, value in outputs.items() if self._output in (None, name))
            values = np.asarray(values, np.float32)
            if values.ndim < 2 or int(np.prod(values.shape[2:])) != 1:
                raise ImageError(f"output '{name}' has shape {values.shape}, not (N, classes)")
            return _activated(activate, values.reshape(values.shape[:2]), x)

        return score


def _activated(activate: bool | str | Callable[[Any], Any], values: np.ndarray, x: Any) -> np.ndarray:
    if callable(activate):
        made = activate(like(values, x))
        return as_array(made, "what activate returned") if is_tensor(made) else made
    from scipy.special import expit, softmax

    if activate == "softmax":
        return np.asarray(softmax(values, axis=1), np.float32)
    return np.asarray(expit(values), np.float32) if activate == "sigmoid" else values


def _pair(mask_size: Any) -> tuple[int, int]:
    sides = (mask_size, mask_size) if isinstance(mask_size, (int, np.integer)) else tuple(mask_size)
    if len(sides) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in sides):
        raise ImageError(f"mask_size must be a positive integer or (height, width), got {mask_size!r}")
    return int(sides[0]), int(sides[1])


def _fitting(area: Area) -> Area:
    """The area. Raises ImageError where the mask is larger."""
    side = area.scanned[1] - area.scanned[0]
    if area.mask > side:
        raise ImageError(f"mask_size: a mask of {area.mask} does not fit the image's side of {side}: make it smaller")
    return area


def _fill(mode: str | float, image: np.ndarray, mask: tuple[int, int]) -> Fill:
    """What stands in the mask place. image: float32 (C, H, W)."""
    if mode == "mean_img":
        return float(image.mean())
    if mode == "gaussian":
        visible = 1 - _hidden_share(mask)

        def faded(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
            return image[:, top : top + height, left : left + width] * visible

        return faded
    if mode == "mean_patch":

        def scaled(image: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
            patch = image[:, top : top + height, left : left + width]
            return patch * patch.mean()  # sic: MONAI 1.6 takes the mean for the factor and 0 for what is added

        return scaled
    return float(mode)


def _hidden_share(mask: tuple[int, int]) -> np.ndarray:
    """float32 mask: by how much each pixel is hidden, 1 in the middle and 0 where it is least; all of a single pixel.

    A Gaussian integrated over every pixel, by the error function, then stretched to [0, 1].
    """
    from scipy.special import erf

    bells = []
    for side in mask:
        distance = np.arange(side) - side // 2
        scale = np.sqrt(0.5) / (MASK_SIGMA * side)
        bells.append(erf(scale * (distance + 0.5)) - erf(scale * (distance - 0.5)))
    bell = np.outer(*bells)
    span = bell.max() - bell.min()
    return ((bell - bell.min()) / span if span > 0 else np.ones(mask)).astype(np.float32)


def _gaussian_weights(mask: tuple[int, int]) -> np.ndarray:
    """float32 mask: how much a mask counts at each of its pixels, most in its middle."""
    bells = []
    for side in mask:
        distance = np.arange(side) - (side - 1) / 2
        bells.append(np.exp(-(distance**2) / (2 * (WEIGHT_SIGMA * side) ** 2)))
    weights = np.outer(*bells)
    return np.maximum(weights, max(weights.min(), LEAST_WEIGHT)).astype(np.float32)
