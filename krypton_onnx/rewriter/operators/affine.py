"""Chains of Add, Sub, Mul and Div with one constant a channel (batch norm before an activation): one ChannelAffine.

y = scale * x + shift, composed over the chain in float64, then Relu or Clip in the same pass.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.channel_affine import as_affine, per_channel
from krypton_onnx.rewriter.emitter import Emitter, Patch
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.operators.fusion import ACTIVATIONS


def _text(activation: str) -> FunctionText:
    rows = ACTIVATIONS[activation].format(value="shifted")
    text = f"""
ChannelAffine{activation} <activation, clip_min, clip_max> (patch, scale, shift) => (out) {{
  scaled = Mul (patch, scale)
  shifted = Add (scaled, shift){rows}
  out = Identity ({"active" if activation else "shifted"})
}}"""
    return FunctionText(f"ChannelAffine{activation}", text)


FUNCTIONS = tuple(_text(activation) for activation in ACTIVATIONS)
HANDLERS: dict = {}  # elementwise.py asks first whether a node is affine


def rewrite_affine(node: gs.Node, operands: list, emitter: Emitter) -> Patch | None:
    """The node as (part of) a ChannelAffine; None where it is not affine with one constant a channel."""
    patches = [operand for operand in operands if isinstance(operand, Patch)]
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(operands) != 2 or len(patches) != 1:
        return None
    patch, first = patches[0], isinstance(operands[0], Patch)
    other = operands[1 if first else 0]
    shape = emitter.shape(patch.base)
    if emitter.types.get(patch.base.name, ("",))[0] != "tensor(float)" or shape != emitter.shape(node.outputs[0]):
        return None
    if not isinstance(other, gs.Constant):
        return None
    axis = 1 if patch.layout == "NCHW" else 3
    value = per_channel(np.asarray(other.values), 4, axis, shape[axis])
    step = None if value is None else as_affine(node.op, first, value)
    if step is None:
        return None
    factor, offset = step
    made = patch.tensor.inputs[0]
    if made.op == "ChannelAffine" and not made.attrs["activation"] and emitter.read_once(patch):
        scale, shift = (np.asarray(constant.values, np.float64) for constant in made.inputs[1:])
        made.inputs = [made.inputs[0], *_constants(node, emitter, factor * scale, factor * shift + offset)]
        return Patch(patch.tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)
    attributes = {"activation": "", "clip_min": 0.0, "clip_max": 0.0}
    inputs = [patch.tensor, *_constants(node, emitter, factor, offset)]
    tensor = emitter.emit("ChannelAffine", node.name, inputs, attributes)
    return Patch(tensor, patch.geometry, node.outputs[0], patch.layout, patch.origin)


def _constants(node: gs.Node, emitter: Emitter, scale: np.ndarray, shift: np.ndarray) -> list[gs.Constant]:
    return [
        emitter.constant(f"{node.name}/{name}", np.ascontiguousarray(value, np.float32))
        for name, value in (("scale", scale), ("shift", shift))
    ]
