"""Captum's Occlusion for ONNX models: the same call, the same attributions, by incremental inference.

What is computed is as Captum 0.9 defines it (`captum/attr/_core/occlusion.py`, `feature_ablation.py`): a window moves
over all dimensions of an example, and is cut off where it would leave it; how much the output falls is attributed to
every value inside the window, and averaged where windows overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from krypton_onnx.adapters.lattice import Progress, blended, explain_on, progress_bar, session_of
from krypton_onnx.adapters.tensors import as_array, is_tensor, like
from krypton_onnx.adapters.windows import Hidden, Scan, windows_of
from krypton_onnx.errors import ImageError
from krypton_onnx.rewriter import Source
from krypton_onnx.runtime.fills.words import Fill
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.scores import Score, Scored
from krypton_onnx.runtime.session import OcclusionSession


class Occlusion:
    """captum.attr.Occlusion of an ONNX model.

    model : path, bytes, ModelProto or OcclusionSession, in the place of Captum's `forward_func`.
    score, activation, output : what is attributed, as for OcclusionSession.explain; the output as it is by default.
    """

    def __init__(
        self,
        model: Source | OcclusionSession,
        *,
        score: Score = "output",
        activation: str | None = None,
        output: str | None = None,
    ) -> None:
        self.session = session_of(model)
        self._scored = Scored(score=score, activation=activation, output=output)

    def attribute(
        self,
        inputs: Any,
        sliding_window_shapes: Sequence[int],
        strides: int | Sequence[int] | None = None,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: object = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        mode: str = "exact",
        min_ssim: float | None = None,
        memory_budget: int | None = None,
    ) -> Any:
        """How much the output falls where windows of the inputs are replaced: float32, of the shape of the inputs.

        inputs : tensor or array (N, C, H, W), or (N, H, W, C) where the model wants that; each example is explained in
            turn. Tensors are answered by a tensor, arrays by an array.
        sliding_window_shapes : three sizes of the window, in the order of the inputs' dimensions. A window over fewer
            channels than there are moves over the channels too; each of its steps there takes as long as a whole map.
        strides : the window's steps, one for all dimensions or three; None is 1.
        baselines : what replaces the values inside a window, in the model's input space: a number, or an array of the
            shape of the inputs, or of one example (1, ...); None is 0.
        target : a class for all examples, or a list or tensor of one for each. None: of a model of one class that one;
            else all K of them, and the result has N * K rows, those of the first example first.
        additional_forward_args : must be None; OcclusionSession.explain takes {input: array} for further inputs.
        perturbations_per_eval : without effect: the session chooses its batches; `memory_budget` keeps them small.
        show_progress : a bar on stderr.
        mode, min_ssim, memory_budget : as for OcclusionSession.explain. mode="approximate" wants one number as the
            baseline, and windows over all channels of which none is cut off.

        Raises ImageError, which names the argument, where one is at fault; ModelError where the model is.
        """
        if additional_forward_args is not None:
            raise ImageError(
                "additional_forward_args is not supported: OcclusionSession.explain takes {input: array} for a model "
                "with further inputs"
            )
        if not isinstance(perturbations_per_eval, int) or perturbations_per_eval < 1:
            raise ImageError(f"perturbations_per_eval must be an integer of at least 1, got {perturbations_per_eval!r}")
        examples = _examples(inputs, self.session)
        scan = _scan(examples.shape[1:], sliding_window_shapes, strides, self._order)
        constant, spread = _baselines(baselines, examples.shape)
        if mode == "approximate":
            if constant is None or not scan.regular:
                raise ImageError(
                    "mode='approximate' wants baselines to be one number, and sliding_window_shapes and strides whose "
                    "windows span all channels and end at the edges of the image"
                )
        elif min_ssim is not None:
            raise ImageError(f"min_ssim has no meaning in mode={mode!r}: only an approximate map is judged by it")
        targets = _targets(target, len(examples))

        def explained(number: int, channel: int, progress: Progress | None) -> HeatMap:
            image, asked = examples[number : number + 1], None if targets is None else [targets[number]]
            grid, scored = scan.grid, self._scored
            if mode == "approximate" and constant is not None:
                return self.session.explain(
                    image, asked, grid.patch, grid.stride, constant, mode=mode, min_ssim=min_ssim, score=scored.score,
                    activation=scored.activation, output=scored.output, progress=progress, memory_budget=memory_budget,
                )  # fmt: skip
            fill: Fill = Hidden(scan, channel, spread[number].transpose(self._order))
            if scan.regular and constant is not None:
                fill = constant
            return explain_on(grid, self.session, image, fill, scored, asked, mode, memory_budget, progress)

        with progress_bar(show_progress, len(examples) * len(scan.channels.starts)) as progress:
            rows = [
                _joined([_spread(explained(number, start, progress), scan) for start in scan.channels.starts], scan)
                for number in range(len(examples))
            ]
        own = np.argsort(self._order)  # where channels, height and width lie in the inputs
        return like(np.concatenate(rows).transpose(0, *(1 + own)), inputs)

    @property
    def _order(self) -> tuple[int, int, int]:
        """The axes of an example, in the order channels, height, width."""
        return (0, 1, 2) if self.session.layout == "NCHW" else (2, 0, 1)


def _spread(heat_map: HeatMap, scan: Scan) -> np.ndarray:
    """float32 (T, H, W): the mean drop of the windows that cover a pixel."""
    tops, lefts = np.array(scan.rows.starts), np.array(scan.columns.starts)
    frame = scan.rows.length, scan.columns.length
    return blended(heat_map.drop, tops, lefts, np.ones((scan.rows.size, scan.columns.size), np.float32), frame)


def _joined(drops: Sequence[np.ndarray], scan: Scan) -> np.ndarray:
    """float32 (T, C, H, W): every channel has the mean of the windows along the channels that cover it."""
    channels = scan.channels
    sums = np.zeros((len(drops[0]), channels.length, scan.rows.length, scan.columns.length), np.float32)
    counts = np.zeros((channels.length, 1, 1), np.float32)
    for start, drop in zip(channels.starts, drops, strict=True):
        sums[:, start : start + channels.size] += drop[:, None]
        counts[start : start + channels.size] += 1
    return sums / counts


def _examples(inputs: object, session: OcclusionSession) -> np.ndarray:
    """float32 (N, ...) in the model's layout."""
    if isinstance(inputs, (tuple, list)):
        raise ImageError("inputs must be one tensor or array: a model with several is not supported here")
    examples, wanted = as_array(inputs, "inputs"), session.image_dims[1:]
    fits = examples.ndim == 4 and all(
        have == want for have, want in zip(examples.shape[1:], wanted, strict=True) if isinstance(want, int)
    )
    if not fits or not examples.size:
        text = " x ".join(str(size) if isinstance(size, int) else "any" for size in wanted)
        raise ImageError(f"inputs has shape {examples.shape}; the model wants (N, ...) of {text} ({session.layout})")
    return examples


def _scan(shape: tuple[int, ...], windows: object, strides: object, order: tuple[int, int, int]) -> Scan:
    sizes = _three(windows, "sliding_window_shapes")
    steps = (1, 1, 1) if strides is None else _three(strides, "strides")
    channels, rows, columns = (
        windows_of(shape[axis], sizes[axis], steps[axis], name)
        for axis, name in zip(order, ("channels", "height", "width"), strict=True)
    )
    return Scan(channels, rows, columns)


def _three(value: Any, name: str) -> tuple[int, ...]:
    """Captum also takes what is meant for each of several inputs, here for the only one: ((3, 16, 16),)."""
    inner = value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value
    sizes = tuple(inner) if isinstance(inner, (tuple, list)) else (inner,) * 3 if name == "strides" else (inner,)
    if len(sizes) != 3 or not all(_is_class(size) and size > 0 for size in sizes):
        or_one = "one positive integer, or " if name == "strides" else ""
        raise ImageError(f"{name} must be {or_one}three in the order of the inputs' dimensions, got {value!r}")
    return tuple(int(size) for size in sizes)


def _baselines(baselines: Any, shape: tuple[int, ...]) -> tuple[float | None, np.ndarray]:
    """The number, where it is one; and the same for every value of the examples, float32 of their shape."""
    if isinstance(baselines, tuple) and len(baselines) == 1:
        baselines = baselines[0]
    if baselines is None:
        baselines = 0.0
    if isinstance(baselines, (int, float, np.number)) and not isinstance(baselines, bool):
        return float(baselines), np.broadcast_to(np.float32(baselines), shape)
    array = as_array(baselines, "baselines")
    pairs = zip(array.shape, shape, strict=False)
    if array.ndim != 4 or any(have not in (1, want) for have, want in pairs):
        raise ImageError(
            f"baselines has shape {array.shape}: give a number, or an array of the inputs' shape {shape} or of one "
            "example"
        )
    return None, np.broadcast_to(array, shape)


def _is_class(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _targets(target: Any, examples: int) -> list[int] | None:
    """The class of each example; None: all classes."""
    if target is None:
        return None
    if is_tensor(target):
        target = target.detach().cpu().numpy()
    if isinstance(target, np.ndarray):
        each = list(target.reshape(-1)) if target.ndim < 2 or target.size == 1 else []
        each = each * examples if len(each) == 1 else each
    elif isinstance(target, list):
        each = target
    else:
        each = [target] * examples
    each = [one[0] if isinstance(one, tuple) and len(one) == 1 else one for one in each]
    if len(each) != examples or not all(_is_class(one) for one in each):
        raise ImageError(
            f"target must be a class id, or a list or tensor of one for each of the {examples} examples, "
            f"got {' '.join(repr(target).split())[:80]}"
        )
    return [int(one) for one in each]
