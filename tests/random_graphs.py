"""A Hypothesis strategy that draws whole CNN-shaped models: it shrinks a failing one to a few nodes.

A model is drawn node by node onto a Canvas. The steps themselves are in random_local.py (operators that read
neighbours or change the frame), random_pointwise.py (cell by cell) and random_channels.py (across channels, whole
frames, run-time shapes): functions of the canvas and an activation that give the next activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import onnx
from graph_builder import Graph
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

OPSETS = (18, 17, 13, 20, 23, 11, 12, 14, 15, 16, 19, 21, 22, 24, 25, 26, 10, 9, 8, 7)
MOST_CHANNELS, MOST_CELLS = 40, 2600  # larger activations take long and find nothing more
T = TypeVar("T")


@dataclass(frozen=True)
class Act:
    """An activation (N, c, h, w): its name, and whether it is equal to the last bit however it is computed."""

    name: str
    c: int
    h: int
    w: int
    bitwise: bool = True  # False once sums were rounded: a step function would turn rounding into a jump


@dataclass(frozen=True)
class RandomModel:
    """A drawn model, and what to run it on."""

    model: onnx.ModelProto = field(repr=False)
    image: tuple[int, ...]  # of the input, batch 1
    nhwc: bool
    patch: tuple[int, int]
    seed: int
    half: bool  # computed in float16

    def __repr__(self) -> str:
        return (
            f"image {self.image}, patch {self.patch}, seed {self.seed}, opset "
            f"{self.model.opset_import[0].version}\n{described(self.model)}\n"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis prints a failing model."""
        printer.text(repr(self))


class Refused(Exception):
    """A step that makes no sense here (an empty frame, say): nothing was added, another one is tried."""


Step = Callable[["Canvas", Act], Act]
STEPS: list[tuple[str, int, int, Step]] = []  # name, first and last opset, step


def step(since: int = 7, until: int = 26, weight: int = 1) -> Callable[[Step], Step]:
    """Register a step for the opsets since..until, as often as its weight says."""

    def register(function: Step) -> Step:
        STEPS.extend([(function.__name__, since, until, function)] * weight)
        return function

    return register


class Canvas:
    """The graph being drawn. `draw` is Hypothesis's; everything else about a model follows from what it gives."""

    def __init__(self, draw: Callable[[st.SearchStrategy], Any], opset: int, fixed: bool, half: bool) -> None:
        needed = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
        self.draw, self.opset, self.fixed, self.half = draw, opset, fixed, half
        self.g = Graph(opset, opset=opset, ir=max(8, needed))
        self.acts: list[Act] = []
        self.misinferred = False  # before opset 22 ONNX Runtime infers cells that a pool does not compute

    # -- drawing -----------------------------------------------------------------------------------------------------

    def one_of(self, *choices: T) -> T:
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def pair(self, low: int, high: int) -> list[int]:
        return [self.number(low, high), self.number(low, high)]

    def rarely(self) -> bool:
        return self.draw(st.sampled_from((False, False, False, True)))

    # -- writing -----------------------------------------------------------------------------------------------------

    def float_constant(self, value: Any) -> str:
        """A float constant in the model's own float type."""
        return self.g.initializer(value, np.float16 if self.half else np.float32)

    def random(self, shape: Sequence[int], scale: float = 1.0, low: float | None = None) -> str:
        """Random numbers: normal, or uniform from `low` to `scale`."""
        rng = self.g.rng
        return self.float_constant(rng.normal(0, scale, shape) if low is None else rng.uniform(low, scale, shape))

    def ints(self, *values: int) -> str:
        return self.g.initializer(values, np.int64)

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.g.node(op_type, *inputs, **attributes)

    def nodes(self, op_type: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """A node of several outputs."""
        names = [f"{op_type}_{len(self.g.nodes)}_{index}" for index in range(outputs)]
        self.g.nodes.append(helper.make_node(op_type, inputs, names, name=f"node_{names[0]}", **attributes))
        return names

    def act(self, like: Act, op_type: str, *inputs: str, bitwise: bool = False, **attributes: Any) -> Act:
        """A node on `like` and further inputs whose output has its shape."""
        return replace(like, name=self.node(op_type, like.name, *inputs, **attributes),
                       bitwise=like.bitwise and bitwise)  # fmt: skip

    # -- operators whose form depends on the opset -------------------------------------------------------------------

    def axes_node(self, op_type: str, x: str, axes: Sequence[int], since: int, **attributes: Any) -> str:
        """A node whose axes are an attribute before opset `since`, and an input from it on."""
        if self.opset < since:
            return self.node(op_type, x, axes=list(axes), **attributes)
        return self.node(op_type, x, self.ints(*axes), **attributes)

    def reduce(self, kind: str, x: str, axes: Sequence[int], keepdims: int = 1) -> str:
        return self.axes_node(f"Reduce{kind}", x, axes, 13 if kind == "Sum" else 18, keepdims=keepdims)

    def squeeze(self, x: str, *axes: int) -> str:
        return self.axes_node("Squeeze", x, axes, 13)

    def unsqueeze(self, x: str, *axes: int) -> str:
        return self.axes_node("Unsqueeze", x, axes, 13)

    def slice(self, x: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps=()) -> str:
        if self.opset < 10:
            return self.node("Slice", x, starts=list(starts), ends=list(ends), axes=list(axes))
        more = [self.ints(*steps)] if steps else []
        return self.node("Slice", x, self.ints(*starts), self.ints(*ends), self.ints(*axes), *more)

    def dims(self, x: str, *axes: int) -> str:
        """Dimensions of x as the exporters write them: Shape, Gather, Unsqueeze, Concat.

        Raises Refused where ONNX Runtime may have inferred a false one: the model then depends on its optimizations.
        """
        if self.misinferred and max(axes) > 1:
            raise Refused
        shape = self.node("Shape", x)
        index = [self.node("Gather", shape, self.g.initializer(axis, np.int64), axis=0) for axis in axes]
        return self.node("Concat", *(self.unsqueeze(one, 0) for one in index), axis=0)

    def reshape(self, x: str, *shape: int) -> str:
        """To (N, *shape); the batch as 0, as -1, read at run time, or written as 1 where it is fixed."""
        ways = ["zero", "run time", *(["one"] if self.fixed else []), *(["rest"] if -1 not in shape else [])]
        way = self.one_of(*ways)
        if way == "run time":
            return self.node("Reshape", x, self.node("Concat", self.dims(x, 0), self.ints(*shape), axis=0))
        return self.node("Reshape", x, self.ints({"zero": 0, "one": 1, "rest": -1}[way], *shape))


def described(model: onnx.ModelProto) -> str:
    """A line a node, with the values of small constants and the shapes of large ones."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def operand(name: str) -> str:
        if name not in values:
            return name or "-"
        value = values[name]
        short = value.size == 1 or (value.size <= 8 and value.dtype.kind == "i")
        return str(value.tolist()) if short else f"{value.dtype}{list(value.shape)}"

    lines = []
    for node in model.graph.node:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        text = " ".join(f"{key}={value.decode() if isinstance(value, bytes) else value}"
                        for key, value in attributes.items())  # fmt: skip
        lines.append(f"  {', '.join(node.output)} = {node.op_type}({', '.join(map(operand, node.input))}) {text}")
    return "\n".join([*lines, f"  outputs {', '.join(output.name for output in model.graph.output)}"])


def taken(canvas: Canvas, x: Act) -> Act:
    """One step from x that suits the opset and leaves a frame of sensible size."""
    known = [entry for entry in STEPS if entry[1] <= canvas.opset <= entry[2]]
    function = canvas.draw(st.sampled_from(known).map(lambda entry: entry[3]))
    before = len(canvas.g.nodes)
    try:
        y = function(canvas, x)
        if min(y.h, y.w) < 1 or y.c > MOST_CHANNELS or y.h * y.w > MOST_CELLS:
            raise Refused
    except Refused:
        del canvas.g.nodes[before:]
        return x
    canvas.acts.append(y)
    return y


@st.composite
def random_models(draw: Callable, most_steps: int = 6) -> RandomModel:
    """A model of 1 to `most_steps` steps and one of several ends, with the patch and the seed to try it on."""
    opset = draw(st.sampled_from(OPSETS))
    fixed, nhwc, dynamic, half = (draw(st.sampled_from((False,) * often + (True,))) for often in (3, 4, 5, 14))
    canvas = Canvas(draw, opset, fixed, half)
    g = canvas.g
    channels, height, width = canvas.one_of(3, 3, 1, 4), canvas.number(9, 30), canvas.number(8, 33)
    frame: list[int | str] = ["H", "W"] if dynamic else [height, width]
    batch: int | str = 1 if fixed else "N"
    name = g.input("x", [batch, *frame, channels] if nhwc else [batch, channels, *frame], channels)
    if nhwc:
        name = g.node("Transpose", name, perm=[0, 3, 1, 2])
    if half:
        name = g.node("Cast", name, to=TensorProto.FLOAT16)
    x = Act(name, channels, height, width)
    if nhwc:  # the layout is known by the operator that reads it
        weight = canvas.random((5, channels, 1, 1), 0.6)
        x = Act(canvas.node("Conv", x.name, weight, kernel_shape=[1, 1]), 5, height, width, bitwise=False)
    for _ in range(canvas.number(1, most_steps)):
        x = taken(canvas, x)
    outputs = _ends(canvas, x)
    size = (canvas.number(1, min(7, height)), canvas.number(1, min(7, width)))
    if canvas.rarely():
        size = (canvas.number(1, height), canvas.number(1, width))
    image = (1, height, width, channels) if nhwc else (1, channels, height, width)
    return RandomModel(_finished(g, outputs), image, nhwc, size, draw(st.integers(0, 9)), half)


def _ends(canvas: Canvas, x: Act) -> list[str]:
    """The names of the outputs: the end of the network, and sometimes an activation on the way or two."""
    end = canvas.one_of(*END)(canvas, x)
    outputs = [canvas.node("Cast", end, to=TensorProto.FLOAT) if canvas.half else canvas.node("Identity", end)]
    if canvas.acts and canvas.rarely() and not canvas.half:
        more = canvas.draw(st.lists(st.sampled_from(canvas.acts), max_size=2, unique_by=lambda act: act.name))
        outputs += [act.name for act in more]
    return outputs


def _map(canvas: Canvas, x: Act) -> str:
    return x.name


def _mean(canvas: Canvas, x: Act) -> str:
    return canvas.node("GlobalAveragePool", x.name)


def _mean_of_space(canvas: Canvas, x: Act) -> str:
    return canvas.reduce("Mean", x.name, canvas.one_of([2, 3], [-1, -2]), canvas.number(0, 1))


def _maximum(canvas: Canvas, x: Act) -> str:
    return canvas.node("GlobalMaxPool", x.name)


def _flat(canvas: Canvas, x: Act) -> str:
    return canvas.reshape(x.name, -1) if canvas.rarely() else canvas.node("Flatten", x.name)


def _scores(canvas: Canvas, x: Act) -> str:
    flat = canvas.node("Flatten", canvas.node("GlobalAveragePool", x.name))
    weight = canvas.random((x.c, 5), 2 / np.sqrt(x.c))
    scores = canvas.node("MatMul", flat, weight)
    return canvas.node("Softmax", scores, axis=1) if canvas.rarely() else scores


END = (_map, _mean, _mean_of_space, _maximum, _flat, _scores)


def _finished(g: Graph, outputs: Sequence[str]) -> onnx.ModelProto:
    """The model; dimensions of its outputs are left to ONNX Runtime."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(g.nodes, "drawn", g.inputs, infos, g.initializers)
    used = {name for node in g.nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", g.opset)], ir_version=g.ir)
