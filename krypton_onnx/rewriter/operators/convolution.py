"""Conv (ONNX operator Conv): local. 1x1 with stride 1 and no pads is pointwise in space."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from krypton_onnx.rewriter.emitter import Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.functions import FunctionText
from krypton_onnx.rewriter.operators.fusion import ACTIVATIONS
from krypton_onnx.rewriter.operators.window import READ_ROWS

_CONV = """
  x = Transpose <perm = [0, 3, 1, 2]> ({read})
  conv = Conv <kernel_shape : ints = @kernel_shape, strides : ints = @strides, dilations : ints = @dilations,
               group : int = @group> (x, W, B)"""

_WINDOW = """
  window = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, read_origin, read_extent)"""

_RESIDUAL = """
  residual_extent = {extent}
  residual_window = ai.krypton.Window <pad_value = 0.0>
      (residual, residual_origin, residual_view, origin, residual_extent)
  residual_nchw = Transpose <perm = [0, 3, 1, 2]> (residual_window)
  sum = Add (conv, residual_nchw)"""

# The activation and its bounds are attributes too: one kernel serves all the names.
_ATTRIBUTES = "kernel_shape, strides, pads, dilations, group, activation, clip_min, clip_max"


def _body(name: str, inputs: str, head: str, read: str, extent: str, residual: bool, activation: str) -> str:
    value = "sum" if residual else "conv"
    rows = head + _CONV.format(read=read)
    if residual:
        inputs += ", residual, residual_origin, residual_view"
        rows += _RESIDUAL.format(extent=extent)
    rows += ACTIVATIONS[activation].format(value=value)
    result = "active" if activation else value
    return f"""
{name} <{_ATTRIBUTES}> ({inputs}) => (out) {{{rows}
  out = Transpose <perm = [0, 2, 3, 1]> ({result})
}}"""


def _functions() -> tuple[FunctionText, ...]:
    texts = []
    for residual in (False, True):
        for activation in ACTIVATIONS:
            variant = ("Add" if residual else "") + activation
            incremental = _body(
                f"IncrementalConv{variant}", "patch, patch_origin, view, W, B, origin, extent", READ_ROWS + _WINDOW,
                "window", "Identity (extent)", residual, activation,
            )  # fmt: skip
            pointwise = _body(
                f"PointwiseConv{variant}", "patch, W, B" + (", origin" if residual else ""), "",
                "patch", "Shape <start = 1, end = 3> (patch)", residual, activation,
            )  # fmt: skip
            texts.append(FunctionText(f"IncrementalConv{variant}", incremental))
            texts.append(FunctionText(f"PointwiseConv{variant}", pointwise))
    return tuple(texts)


FUNCTIONS = _functions()


def require_weights(node: gs.Node, operands: list) -> Patch:
    """The patch activation that constant weights multiply. Raises NotIncremental where it is not that."""
    patch = operands[0]
    if not isinstance(patch, Patch):
        raise NotIncremental("its weights depend on the image")
    if not all(isinstance(operand, gs.Constant) for operand in node.inputs[1:]):
        raise NotIncremental("its weights are computed at run time")
    if patch.layout != "NCHW":
        raise NotIncremental("it reads channels as an axis of space")
    return patch


def rewrite_conv(node: gs.Node, operands: list, emitter: Emitter) -> Patch:
    """Constant weights, any kernel, strides, pads (auto_pad), dilations and groups; 1x1 of stride 1 is pointwise.

    Raises NotIncremental where weights are not constant, or pads negative."""
    patch = require_weights(node, operands)
    weights = np.asarray(node.inputs[1].values)
    kernel = list(weights.shape[2:])
    strides = list(node.attrs.get("strides", [1, 1]))
    pads = list(node.attrs.get("pads", [0] * 4))
    dilations = list(node.attrs.get("dilations", [1, 1]))
    if min(pads) < 0:
        raise NotIncremental("it has negative pads")
    geometry = patch.geometry.through(kernel, strides, pads, dilations, emitter.frame(node.outputs[0], "NCHW"))
    bias = node.inputs[2] if len(node.inputs) > 2 else emitter.constant(
        f"{node.name}/zero_bias", np.zeros(weights.shape[0], np.float32)
    )
    attributes = {
        "kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations,
        "group": int(node.attrs.get("group", 1)), "activation": "", "clip_min": 0.0, "clip_max": 0.0,
    }  # fmt: skip
    origin = None
    pointwise = kernel == [1, 1] and strides == [1, 1] and not any(pads) and attributes["group"] == 1
    if pointwise:
        geometry = patch.geometry
        tensor = emitter.emit("PointwiseConv", node.name, [patch.tensor, node.inputs[1], bias], attributes)
        origin = patch.origin
    else:
        inputs = [*emitter.read(patch), node.inputs[1], bias, emitter.origin(geometry), emitter.extent(geometry)]
        tensor = emitter.emit("IncrementalConv", node.name, inputs, attributes)
    return Patch(tensor, geometry, node.outputs[0], "NCHW", origin)


HANDLERS = {"Conv": rewrite_conv}
