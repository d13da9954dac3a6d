"""Steps of random models (random_graphs.py): operators that treat every cell alone, and branches that meet."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import TensorProto
from random_graphs import Act, Canvas, step, taken
from random_local import conv, resized

# -- unary -----------------------------------------------------------------------------------------------------------

# Operator -> the first opset, and attributes that are not the defaults.
ACTIVATIONS: dict[str, tuple[int, dict]] = {
    "Relu": (7, {}), "Sigmoid": (7, {}), "Tanh": (7, {}), "LeakyRelu": (7, {"alpha": 0.2}), "Elu": (7, {"alpha": 0.7}),
    "Selu": (7, {}), "Softplus": (7, {}), "Softsign": (7, {}), "HardSigmoid": (7, {"alpha": 0.3, "beta": 0.4}),
    "Celu": (12, {"alpha": 0.5}), "HardSwish": (14, {}), "Mish": (18, {}), "Gelu": (20, {}), "Swish": (24, {}),
    "Abs": (7, {}), "Neg": (7, {}), "Erf": (9, {}), "Sin": (7, {}), "Cos": (7, {}), "Atan": (7, {}), "Asinh": (9, {}),
    "Shrink": (9, {"lambd": 0.4, "bias": 0.4}), "Identity": (7, {}),
}  # fmt: skip
IN_HALF = frozenset(("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Abs", "Neg", "Identity"))
BITWISE = frozenset(("Relu", "Abs", "Neg", "Identity"))
# Where the domain or the growth is limited: inside of Tanh.
OF_TANH = {"Exp": 7, "Tan": 7, "Sinh": 9, "Cosh": 9, "Acos": 7, "Asin": 7, "Atanh": 9}
OF_POSITIVE = {"Sqrt": 7, "Log": 7, "Reciprocal": 7, "Acosh": 9}
STEPPED = {"Ceil": 7, "Floor": 7, "Sign": 9, "Round": 11, "ThresholdedRelu": 10}


@step(weight=4)
def activation(canvas: Canvas, x: Act) -> Act:
    known = [op for op, (since, _) in ACTIVATIONS.items()
             if since <= canvas.opset and (op in IN_HALF or not canvas.half)]  # fmt: skip
    op_type = canvas.one_of(*known)
    attributes = dict(ACTIVATIONS[op_type][1])
    if op_type == "Gelu":
        attributes = {"approximate": canvas.one_of("none", "tanh")}
    if op_type == "Swish":
        attributes = canvas.one_of({}, {"alpha": 1.5})
    return canvas.act(x, op_type, bitwise=op_type in BITWISE, **attributes)


@step()
def function(canvas: Canvas, x: Act) -> Act:
    if canvas.half:
        return canvas.act(x, "Relu", bitwise=True)
    op_type = canvas.one_of(*[op for op, since in (OF_TANH | OF_POSITIVE).items() if since <= canvas.opset])
    if op_type in OF_TANH:
        inner = canvas.node("Mul", canvas.node("Tanh", x.name), canvas.float_constant(0.9))
    else:
        inner = canvas.node("Add", canvas.node("Abs", x.name), canvas.float_constant(1.1))
    return replace(x, name=canvas.node(op_type, inner), bitwise=False)


@step()
def staircase(canvas: Canvas, x: Act) -> Act:
    """A function with jumps, where nothing was rounded yet."""
    if not x.bitwise or canvas.half:
        return canvas.act(x, "Identity", bitwise=True)
    op_type = canvas.one_of(*[op for op, since in STEPPED.items() if since <= canvas.opset], "Cast", "Greater", "Mod")
    if op_type == "Cast":
        return replace(x, name=canvas.node("Cast", canvas.node("Cast", x.name, to=TensorProto.INT32), to=1))
    if op_type == "Greater" and canvas.opset >= 9:
        return replace(x, name=canvas.node("Cast", canvas.node("Greater", x.name, canvas.float_constant(0.3)), to=1))
    if op_type == "Mod" and canvas.opset >= 10:
        return replace(x, name=canvas.node("Mod", x.name, canvas.float_constant(0.75), fmod=1))
    if op_type in ("Greater", "Mod"):
        op_type = "Floor"
    return canvas.act(x, op_type, bitwise=True)


@step()
def quantized(canvas: Canvas, x: Act) -> Act:
    """A QDQ pair, where nothing was rounded yet: after a sum, a last bit may decide between two steps."""
    if canvas.opset < 10 or not x.bitwise or canvas.half:
        return canvas.act(x, "Identity", bitwise=True)
    dtype = canvas.one_of(np.uint8, np.int8)
    shape, attributes = (), {}
    if canvas.opset >= 13 and canvas.one_of(False, True):
        shape, attributes = (x.c,), {"axis": canvas.one_of(1, -3)}
    scale = canvas.g.initializer(canvas.g.rng.uniform(0.02, 0.06, shape))
    zero = canvas.g.initializer(np.full(shape, canvas.one_of(0, 3)), dtype)
    codes = canvas.node("QuantizeLinear", x.name, scale, zero, **attributes)
    return replace(x, name=canvas.node("DequantizeLinear", codes, scale, zero, **attributes))


@step()
def dropout(canvas: Canvas, x: Act) -> Act:
    if canvas.opset < 12:
        return canvas.act(x, "Dropout", bitwise=True, ratio=0.3)
    return canvas.act(x, "Dropout", *canvas.one_of([], [canvas.g.initializer(0.3)]), bitwise=True)


@step()
def clip(canvas: Canvas, x: Act) -> Act:
    low, high = canvas.one_of((-0.5, 0.7), (0.0, 6.0), (-1.0, None), (None, 0.4))
    if canvas.opset < 11:
        given = {"min": low, "max": high}
        return canvas.act(x, "Clip", bitwise=True, **{key: value for key, value in given.items() if value is not None})
    bounds = ["" if value is None else canvas.float_constant(value) for value in (low, high)]
    return canvas.act(x, "Clip", *bounds[: 1 if high is None else 2], bitwise=True)


@step()
def p_relu(canvas: Canvas, x: Act) -> Act:
    shape = canvas.one_of((x.c, 1, 1), (1,), (1, x.c, 1, 1), *([] if canvas.rarely() else [(x.c, x.h, x.w)]))
    return canvas.act(x, "PRelu", canvas.random(shape, 0.5, 0.1))


@step(weight=2)
def batch_norm(canvas: Canvas, x: Act) -> Act:
    values = [canvas.random((x.c,), high, low) for low, high in ((0.7, 1.3), (-0.3, 0.3), (-0.3, 0.3), (0.6, 1.4))]
    return canvas.act(x, "BatchNormalization", *values, epsilon=1e-3)


# -- binary ----------------------------------------------------------------------------------------------------------


@step(weight=3)
def arithmetic(canvas: Canvas, x: Act) -> Act:
    """With a constant: a scalar, one a channel, one a row, a column, a pixel or a cell."""
    c, h, w = x.c, x.h, x.w
    channels, space = [(c, 1, 1), (1, c, 1, 1)], [(1, 1, h, w), (h, w), (c, h, w), (h, 1), (w,), (1, c, h, w)]
    shape = canvas.one_of((), (1,), *channels, *space)
    op_type = canvas.one_of("Add", "Mul", "Sub", "Div", "Max", "Min", "Pow")
    if op_type == "Pow":
        base = canvas.node("Add", canvas.node("Abs", x.name), canvas.float_constant(0.5))
        return replace(x, name=canvas.node("Pow", base, canvas.random(shape, 2.0, 0.5)), bitwise=False)
    if op_type in ("Max", "Min") and (canvas.opset < 8 or canvas.half):
        op_type = "Add"
    operands = [x.name, canvas.random(shape, 1.5, 0.5)]
    if op_type != "Div" and canvas.rarely():
        operands.reverse()
    return replace(x, name=canvas.node(op_type, *operands), bitwise=False)


@step()
def chosen(canvas: Canvas, x: Act) -> Act:
    """Where with a condition of the activation's own (continuous), or one that is a constant."""
    if canvas.opset < 9 or canvas.half:
        return canvas.act(x, "Relu", bitwise=True)
    if canvas.one_of(True, False):
        condition = canvas.node("Greater", x.name, canvas.float_constant(0.0))
        other = canvas.node("Mul", x.name, canvas.float_constant(0.1))
    else:
        shape = canvas.one_of((x.h, x.w), (x.c, 1, 1), (1, 1, 1, x.w))
        condition = canvas.g.initializer(canvas.g.rng.random(shape) < 0.5, np.bool_)
        other = canvas.float_constant(0.3)
    return replace(x, name=canvas.node("Where", condition, x.name, other), bitwise=False)


@step()
def swish(canvas: Canvas, x: Act) -> Act:
    gate = canvas.node("HardSigmoid" if not canvas.half and canvas.rarely() else "Sigmoid", x.name)
    return replace(x, name=canvas.node("Mul", x.name, gate), bitwise=False)


# -- branches --------------------------------------------------------------------------------------------------------


def _same_frame(canvas: Canvas, x: Act) -> Act:
    """Another activation on the frame of x: an earlier one, or a branch of x."""
    earlier = [act for act in canvas.acts if (act.h, act.w) == (x.h, x.w)]
    if earlier and canvas.one_of(True, False):
        return canvas.one_of(*earlier)
    size = canvas.one_of(3, 1, 5)
    return conv(canvas, x, canvas.one_of(x.c, 4), [size, size], pads=[size // 2] * 4)


@step(weight=3)
def joined(canvas: Canvas, x: Act) -> Act:
    """A residual, or a concatenation on channels."""
    other = _same_frame(canvas, x)
    if other.c != x.c or canvas.rarely():
        names = [x.name, other.name, *([x.name] if canvas.rarely() else [])]
        c = x.c + other.c + (x.c if len(names) > 2 else 0)
        name = canvas.node("Concat", *names, axis=canvas.one_of(1, -3))
        return Act(name, c, x.h, x.w, bitwise=x.bitwise and other.bitwise)
    op_type = canvas.one_of("Add", "Mul", "Sub", *(["Max", "Min", "Sum", "Mean"] if not canvas.half else []))
    names = canvas.one_of([x.name, other.name], [other.name, x.name])
    return Act(canvas.node(op_type, *names), x.c, x.h, x.w, bitwise=False)


@step(weight=2)
def residual_block(canvas: Canvas, x: Act) -> Act:
    deep = activation(canvas, conv(canvas, x, x.c, [3, 3], pads=[1] * 4))
    if canvas.one_of(True, False):
        deep = conv(canvas, deep, x.c, [3, 3], pads=[1] * 4)
    total = Act(canvas.node("Add", deep.name, x.name), x.c, x.h, x.w, bitwise=False)
    return activation(canvas, total) if canvas.one_of(True, False) else total


@step(weight=2)
def two_ways(canvas: Canvas, x: Act) -> Act:
    """A few steps down and back up to the frame of x (Resize), then joined: a small U-Net."""
    if canvas.opset < 11:
        return canvas.act(x, "Tanh")
    deep = conv(canvas, x, canvas.one_of(4, 8), [3, 3], strides=[2, 2], pads=[1] * 4)
    if canvas.one_of(True, False):
        deep = taken(canvas, deep)
    sizes = canvas.node("Concat", canvas.dims(deep.name, 0, 1), canvas.dims(x.name, 2, 3), axis=0)
    modes: Sequence[str] = ("nearest", "linear")
    place = canvas.one_of("asymmetric", "half_pixel")
    up = resized(canvas, deep, ["", sizes], mode=canvas.one_of(*modes), coordinate_transformation_mode=place)
    return Act(canvas.node("Concat", up, x.name, axis=1), deep.c + x.c, x.h, x.w, bitwise=False)
