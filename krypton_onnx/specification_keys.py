"""What a specification holds: every key of its TOML, the table it stands in, and the values it may have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from krypton_onnx.images.preparation import FIELDS as PREPARATION_FIELDS
from krypton_onnx.mask_files import read_patch_shape
from krypton_onnx.runtime.fills.words import MOST_SAMPLES, SPACES, WORDS, fills_of, word_list
from krypton_onnx.runtime.scores import ACTIVATIONS, SCORES
from krypton_onnx.runtime.session import MODES
from krypton_onnx.values import Read, either, flag, integer, meant, number, pair, several, shown, text, word

MODEL, PREPARATION, OCCLUSION, SCORE, COMPUTING = TABLES = ("model", "preparation", "occlusion", "score", "computing")


@dataclass(frozen=True)
class Key:
    """A key of a table, and the field of the specification (or of its preparation) that it is."""

    table: str
    name: str
    field: str
    read: Read


def _digest(value: Any) -> str:
    if not (isinstance(value, str) and len(value) == 64 and set(value.lower()) <= set("0123456789abcdef")):
        raise ValueError(f"must be 64 hexadecimal digits, got {shown(value)}")
    return value.lower()


def _region(value: Any) -> tuple[int, int, int, int]:
    what = "four integers (top, left, bottom, right) with top < bottom and left < right"
    top, left, bottom, right = several(integer(0), what, (4,))(value)
    if not (top < bottom and left < right):
        raise ValueError(f"must be {what}, got {shown(value)}")
    return top, left, bottom, right


def _fill(value: Any) -> float | str | tuple:
    fills = fills_of(value)
    return _one_fill(fills[0]) if len(fills) == 1 else tuple(_one_fill(one) for one in fills)


def _one_fill(value: Any) -> float | str | tuple[float, ...]:
    what = "a finite number, or one a channel"
    if callable(value) or (isinstance(value, np.ndarray) and value.ndim > 1):
        kind = "a function" if callable(value) else f"an array of shape {value.shape}"
        raise ValueError(f"must be {what}: {kind} cannot be written to a file; pass it to OcclusionSession.explain")
    if isinstance(value, str):
        if value not in WORDS:
            raise ValueError(f"must be {what}, or {word_list()}, got {shown(value)}{meant(value, WORDS)}")
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    finite = number(what, _single_precision)
    return either(finite, several(finite, what))(value)


def _single_precision(value: float) -> bool:
    return abs(value) <= float(np.finfo(np.float32).max)


def _score(value: Any) -> str:
    if callable(value):
        raise ValueError(
            f"must be one of {', '.join(SCORES)}: a function cannot be written to a file; "
            "pass it to OcclusionSession.explain"
        )
    return word(SCORES)(value)


def _samples(value: Any) -> int:
    samples = integer(1)(value)
    if samples > MOST_SAMPLES:
        raise ValueError(f"must be an integer from 1 to {MOST_SAMPLES}, got {samples}")
    return samples


_ids = several(integer(0), "class ids, integers of at least 0")

KEYS: tuple[Key, ...] = (
    Key(MODEL, "path", "model", text("the path of an ONNX model")),
    Key(MODEL, "sha256", "model_sha256", _digest),
    Key(MODEL, "image_input", "image_input", text("the name of an input")),
    *(Key(PREPARATION, name, name, read) for name, read in PREPARATION_FIELDS.items()),
    Key(OCCLUSION, "patch", "patch", pair),
    Key(OCCLUSION, "stride", "stride", pair),
    Key(OCCLUSION, "fill", "fill", _fill),
    Key(OCCLUSION, "fill_space", "fill_space", word(SPACES)),
    Key(OCCLUSION, "fill_samples", "fill_samples", _samples),
    Key(OCCLUSION, "patch_shape", "patch_shape", read_patch_shape),
    Key(OCCLUSION, "patch_shape_sha256", "patch_shape_sha256", _digest),
    Key(OCCLUSION, "region", "region", _region),
    Key(SCORE, "score", "score", _score),
    Key(SCORE, "activation", "activation", word(ACTIVATIONS)),
    Key(SCORE, "output", "output", text("the name of an output")),
    Key(SCORE, "targets", "targets", either(integer(0), _ids)),
    Key(SCORE, "top", "top", integer(1)),
    Key(COMPUTING, "mode", "mode", word(MODES)),
    Key(COMPUTING, "min_ssim", "min_ssim", number("a number above 0 and at most 1", lambda value: 0 < value <= 1)),
    Key(COMPUTING, "complete_exactly", "complete_exactly", flag),
    Key(COMPUTING, "seed", "seed", integer(0)),
    Key(COMPUTING, "strict", "strict", flag),
    Key(COMPUTING, "providers", "providers", several(text("a name"), "names of execution providers")),
    Key(COMPUTING, "batch_size", "batch_size", integer(1)),
    Key(
        COMPUTING, "time_budget", "time_budget",
        number("a number of seconds", lambda value: math.isfinite(value) and value >= 0),
    ),
    Key(COMPUTING, "memory_budget", "memory_budget", integer(1)),
)  # fmt: skip


def unknown(table: str, name: str) -> str:
    """What to say about a key that its table has not."""
    own = [key.name for key in KEYS if key.table == table]
    others = [key.table for key in KEYS if key.name == name]
    hint = meant(name, own) or (f"; it belongs in [{others[0]}]" if others else f"; it has: {', '.join(own)}")
    return f"is not a key of [{table}]{hint}"
