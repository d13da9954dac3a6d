"""x op c with one constant a channel, as y = scale * x + shift: the algebra that folding and fusing share."""

from __future__ import annotations

import numpy as np


def as_affine(op: str, first: bool, value: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, shift), float64 like `value`, of x op value, or of value op x where x is not `first`.

    op : Add, Sub, Mul or Div. None where the result is not affine in x, or a divisor is zero.
    """
    ones, zeros = np.ones_like(value), np.zeros_like(value)
    if op == "Add":
        return ones, value
    if op == "Sub":
        return (ones, -value) if first else (-ones, value)
    if op == "Mul":
        return value, zeros
    return (1 / value, zeros) if first and value.all() else None


def per_channel(value: np.ndarray, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """float64 (channels,) where `value` is a scalar or has one value a channel of a tensor of this rank, else None.

    axis : that of the channels. Broadcasting aligns the last axes (ONNX, multidirectional).
    """
    if value.dtype.kind != "f" or value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if value.size != 1 and (shape[axis] != channels or value.size != channels):
        return None
    return np.broadcast_to(value.astype(np.float64).ravel(), (channels,)).copy()
