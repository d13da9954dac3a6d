"""What a check tries: seeded random images and inputs, and occlusions where mistakes show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from krypton_onnx.rewriter import Plan
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.normalize import graph_inputs, input_dims

IMAGES = ("normal", "smooth")
_WAVES = 8  # of a smooth image


@dataclass(frozen=True, eq=False)
class Trial:
    """Occlusions of one image that run as one batch.

    image : float32 (1, ...) in the model's layout. others : the inputs beside it. tops, lefts : int64 (N,).
    patches : float32 (N or 1, C, h, w). kind : of the image, one of IMAGES.
    """

    kind: str
    image: np.ndarray
    others: Mapping[str, np.ndarray]
    tops: np.ndarray
    lefts: np.ndarray
    patches: np.ndarray

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width."""
        return self.patches.shape[2], self.patches.shape[3]

    def single(self, position: int) -> Trial:
        """One of the occlusions alone."""
        one = slice(position, position + 1)
        patches = self.patches[one] if len(self.patches) > 1 else self.patches
        return Trial(self.kind, self.image, self.others, self.tops[one], self.lefts[one], patches)


def trials(model: onnx.ModelProto, plan: Plan, positions: int, seed: int) -> Iterator[Trial]:
    """`positions` occlusions, dealt over the kinds of image and three sizes of the patch; the same for a seed."""
    rng = np.random.default_rng(seed)
    own = next(value for value in graph_inputs(model) if value.name == plan.image_input)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(own.type.tensor_type.elem_type))
    images = [(kind, _image(plan, kind, rng), _others(model, plan, rng)) for kind in IMAGES]
    sizes = patch_sizes(plan)
    count = len(images) * len(sizes)
    shares = np.diff(np.linspace(0, positions, count + 1).round().astype(int))
    first = 0
    for number, share in enumerate(shares):
        if share:
            size = sizes[number // len(images)]
            origins = _origins(np.arange(first, first + share), plan.image_shape[1:], size, rng)
            # A patch a position, and in every other trial one for all: the two ways to give them.
            patches = rng.standard_normal((1 if number % 2 else share, plan.image_shape[0], *size), np.float32)
            kind, image, others = images[number % len(images)]
            yield Trial(kind, _typed(image, dtype), others, *origins, _typed(patches, dtype).astype(np.float32))
            first += share


def _typed(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """As the type of the model's image: of bytes, around their middle."""
    if dtype.kind in "iu":
        values = np.clip(np.rint(128 + 48 * values), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.ascontiguousarray(values, dtype)


def patch_sizes(plan: Plan) -> tuple[tuple[int, int], ...]:
    """(height, width) of the patches: the usual one, a small and a large one that are not square."""
    _, height, width = plan.image_shape
    usual = min(16, height, width)
    large = max(1, height // 2), max(1, 2 * width // 3)
    return (usual, usual), (min(5, height), min(3, width)), large


def _origins(
    numbers: np.ndarray, frame: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tops and lefts: corners and edges, where padding is subtle, as often as places inside."""
    bottom, right = frame[0] - size[0], frame[1] - size[1]
    corners = (0, 0), (bottom, right), (0, right), (bottom, 0)
    inside = rng.integers(0, (bottom + 1, right + 1), (len(numbers), 2))
    origins = []
    for number, (top, left) in zip(numbers, inside, strict=True):
        edges = (0, left), (top, right), (bottom, left), (top, 0)
        kinds = corners[number % 4], edges[number // 3 % 4], (top, left)
        origins.append(kinds[number % 3])
    tops, lefts = np.array(origins, np.int64).T
    return np.ascontiguousarray(tops), np.ascontiguousarray(lefts)


def _image(plan: Plan, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Of standard deviation 1: independent pixels, or waves as long as the frame and shorter."""
    channels, height, width = plan.image_shape
    if kind == "normal":
        image = rng.standard_normal((channels, height, width))
    else:
        y, x = np.arange(height)[:, None] / height, np.arange(width) / width
        image = np.zeros((channels, height, width))
        for _ in range(_WAVES):
            turns, phase = rng.uniform(-3, 3, (2, channels, 1, 1)), rng.uniform(0, 1, (channels, 1, 1))
            image += np.sin(2 * np.pi * (turns[0] * y + turns[1] * x + phase))
        image /= max(float(image.std()), 1e-6)
    image = image[None] if plan.layout == "NCHW" else image.transpose(1, 2, 0)[None]
    return np.ascontiguousarray(image, np.float32)


def _others(model: onnx.ModelProto, plan: Plan, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The inputs beside the image: normal where floating, else 0 and 1, which are numbers, ids and truths alike."""
    others = {}
    for value in graph_inputs(model):
        if value.name in (plan.image_input, ORIGIN, PATCH, THRESHOLD):
            continue
        shape = [dim if isinstance(dim, int) else 1 for dim in input_dims(value)]
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if dtype.kind == "O":
            others[value.name] = np.full(shape, "", object)
        elif dtype.kind == "f":
            others[value.name] = np.asarray(rng.standard_normal(shape), dtype)
        else:
            others[value.name] = np.asarray(rng.integers(0, 2, shape), dtype)
    return others
