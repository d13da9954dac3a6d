"""Two forms of an incremental convolution on a device, and which one a node takes.

- fused: one kernel of ours, with a product of cuBLAS in it. It stores no window.
- window: the operator's function body, in which Window alone is our kernel, and the Conv beside it ONNX Runtime's own
  (cuDNN on CUDA), then residual and activation as operators of ONNX Runtime.

A registered operator hides its body wherever it stands, so nodes that take the window form call a copy of their
function by a name that is not registered, and are inlined here; what the body computes of indices is then cut out with
all other index arithmetic (placing.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import onnx
import onnx.inliner

from krypton_onnx.errors import ModelError
from krypton_onnx.numba_kernels.regions import PLACE_REGIONS
from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.rewriter.functions import DOMAIN

Form = Literal["window", "fused"]
FORMS: tuple[Form, ...] = get_args(Form)
VARIABLE = "KRYPTON_CUDA_CONV"
FAMILIES = ("IncrementalConv", "PointwiseConv")
_BODY = "Body"  # behind the name of a function: a copy under which no kernel is registered


@dataclass(frozen=True)
class Shape:
    """What the time of a convolution depends on: two nodes of equal shape take the same form.

    op_type tells residual and activation; weights is (M, C / group, kh, kw); strides and dilations (y, x); region is
    the (height, width) of the region to compute, positions how many of them.
    """

    op_type: str
    weights: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int
    region: tuple[int, int]
    positions: int


Measure = Callable[[onnx.NodeProto, Shape], Mapping[Form, float]]
"""Seconds of a run of one node in each form."""


def asked_form() -> Form | None:
    """The form that the environment asks for, for every node; None: as measured. Raises ModelError for another word."""
    word = os.environ.get(VARIABLE, "auto")
    if word == "auto":
        return None
    for form in FORMS:
        if word == form:
            return form
    raise ModelError(f"{VARIABLE} must be auto, {' or '.join(FORMS)}, got {word!r}")


def convolutions(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes that have both forms."""
    for node in model.graph.node:
        if node.domain == DOMAIN and node.op_type.startswith(FAMILIES):
            yield node


def in_forms(model: onnx.ModelProto, forms: Mapping[str, Form], kernels: Iterable[Kernel]) -> onnx.ModelProto:
    """The model with the convolutions (by the name of their first output) that take the window form inlined, and every
    operator that has neither a kernel here nor on the CPU side. What kernels run stays a call."""
    # Where regions lie is computed on the CPU, with all index arithmetic.
    ours = {kernel.op_type for kernel in kernels} | {PLACE_REGIONS.op_type}
    called = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    windows = [node for node in convolutions(model) if forms.get(node.output[0], "fused") == "window"]
    bodies = sorted({node.op_type for node in windows})
    names = [*(name + _BODY for name in bodies), *sorted(called - ours)]
    if not names:
        return model
    copy = _without_weights(model)
    chosen = {node.output[0] for node in windows}
    for node in convolutions(copy):
        if node.output[0] in chosen:
            node.op_type += _BODY
    functions = {function.name: function for function in model.functions}
    for name in bodies:
        body = copy.functions.add()
        body.CopyFrom(functions[name])
        body.name = name + _BODY
    result = onnx.inliner.inline_selected_functions(copy, [(DOMAIN, name) for name in names])
    result.graph.initializer.extend(model.graph.initializer)
    return result


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """All but the initializers: the inliner takes a message, and a message of more than 2 GB cannot be."""
    bare = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    return bare


def faster_forms(
    convolutions: Mapping[str, tuple[onnx.NodeProto, Shape]], measure: Measure, known: dict[Shape, Form]
) -> dict[str, Form]:
    """The faster form of every node, by the name of its first output. known : what was measured before; added to."""
    for node, shape in convolutions.values():
        if shape not in known:
            seconds = measure(node, shape)
            known[shape] = min(FORMS, key=seconds.__getitem__)
    return {name: known[shape] for name, (_, shape) in convolutions.items()}
