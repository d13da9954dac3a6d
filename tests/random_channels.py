"""Steps of random models (random_graphs.py): across channels, channels last, over whole frames."""

from dataclasses import replace

import numpy as np
from random_graphs import Act, Canvas, Refused, step
from random_local import conv

# -- moved channels ----------------------------------------------------------------------------------------------------


@step()
def picked(canvas: Canvas, x: Act) -> Act:
    """Some channels: Gather or Slice."""
    if x.c < 2:
        raise Refused
    if canvas.one_of(True, False):
        count = canvas.number(1, x.c)
        indices = canvas.g.rng.integers(-x.c if canvas.opset >= 11 else 0, x.c, count)
        name = canvas.node("Gather", x.name, canvas.ints(*indices), axis=canvas.one_of(1, -3))
        return replace(x, name=name, c=count)
    first = canvas.number(0, x.c - 1)
    if canvas.opset >= 10 and canvas.rarely():
        count = len(range(first, x.c, 2))
        return replace(x, name=canvas.slice(x.name, [first], [2**31 - 1], [1], [2]), c=count)
    return replace(x, name=canvas.slice(x.name, [first], [x.c], [canvas.one_of(1, -3)]), c=x.c - first)


@step(weight=2)
def split(canvas: Canvas, x: Act) -> Act:
    """Split, one part treated, joined again (in another order)."""
    if x.c < 2:
        raise Refused
    sizes = [x.c // 2, x.c - x.c // 2]
    axis = canvas.one_of(1, -3)
    if canvas.opset < 13:
        first, second = canvas.nodes("Split", 2, x.name, axis=axis, split=sizes)
    elif canvas.opset >= 18 and x.c % 2 == 0 and canvas.one_of(True, False):
        first, second = canvas.nodes("Split", 2, x.name, axis=axis, num_outputs=2)
    else:
        first, second = canvas.nodes("Split", 2, x.name, canvas.ints(*sizes), axis=axis)
    part = Act(first, sizes[0], x.h, x.w, x.bitwise)
    treated = conv(canvas, part, sizes[0], [3, 3], pads=[1] * 4) if canvas.one_of(True, False) \
        else canvas.act(part, "Relu", bitwise=True)  # fmt: skip
    if sizes[0] == sizes[1] and canvas.rarely():
        return Act(canvas.node("Mul", treated.name, second), sizes[0], x.h, x.w, bitwise=False)  # gated
    names = canvas.one_of([treated.name, second], [second, treated.name])
    return replace(x, name=canvas.node("Concat", *names, axis=1), bitwise=treated.bitwise)


@step()
def split_of_space(canvas: Canvas, x: Act) -> Act:
    """The frame in two, and both joined on channels."""
    if x.h % 2 or x.h < 4 or canvas.opset < 13:
        raise Refused
    first, second = canvas.nodes("Split", 2, x.name, canvas.ints(x.h // 2, x.h // 2), axis=2)
    return replace(x, name=canvas.node("Concat", first, second, axis=1), c=2 * x.c, h=x.h // 2)


@step()
def joined_in_space(canvas: Canvas, x: Act) -> Act:
    axis = canvas.one_of(2, 3, -1)
    h, w = (2 * x.h, x.w) if axis == 2 else (x.h, 2 * x.w)
    return replace(x, name=canvas.node("Concat", x.name, x.name, axis=axis), h=h, w=w)


@step(weight=2)
def channel_shuffle(canvas: Canvas, x: Act) -> Act:
    groups = [g for g in (2, 3, 4) if x.c % g == 0]
    if not groups:
        raise Refused
    group = canvas.one_of(*groups)
    name = canvas.reshape(x.name, group, x.c // group, x.h, x.w)
    name = canvas.node("Transpose", name, perm=[0, 2, 1, 3, 4])
    return replace(x, name=canvas.reshape(name, x.c, x.h, x.w))


@step()
def flat_and_back(canvas: Canvas, x: Act) -> Act:
    """(N, C, H W), a product over channels perhaps, and the frame again: as attention and heads are written."""
    name = canvas.reshape(x.name, x.c, x.h * x.w)
    way = canvas.one_of("relu", "product", "transposed")
    if way == "relu":
        name, c = canvas.node("Relu", name), x.c
    elif way == "product":
        c = canvas.one_of(4, x.c)
        name = canvas.node("MatMul", canvas.random((c, x.c), 1 / np.sqrt(x.c)), name)
    else:
        c = canvas.one_of(4, x.c)
        name = canvas.node("Transpose", name, perm=[0, 2, 1])
        name = canvas.node("MatMul", name, canvas.random((x.c, c), 1 / np.sqrt(x.c)))
        name = canvas.node("Transpose", name, perm=[0, 2, 1])
    return Act(canvas.reshape(name, c, x.h, x.w), c, x.h, x.w, bitwise=x.bitwise and way == "relu")


# -- across channels ---------------------------------------------------------------------------------------------------


@step()
def lrn(canvas: Canvas, x: Act) -> Act:
    return canvas.act(x, "LRN", size=canvas.one_of(3, 5, 1), alpha=0.2, beta=0.6, bias=1.0)


@step()
def softmax(canvas: Canvas, x: Act) -> Act:
    axes = (1, 1, -3, 3) if canvas.opset >= 11 else (1, 3)
    return canvas.act(x, canvas.one_of("Softmax", "LogSoftmax"), axis=canvas.one_of(*axes))


@step(weight=2)
def reduction(canvas: Canvas, x: Act) -> Act:
    """Over channels: kept as one channel, or broadcast against the activation again."""
    kinds = ("Mean", "Max", "Sum", "Min", "L1", "L2", "SumSquare", "LogSumExp", "Prod")
    name = canvas.reduce(canvas.one_of(*kinds), x.name, [canvas.one_of(1, -3 if canvas.opset >= 11 else 1)])
    one = Act(name, 1, x.h, x.w, bitwise=False)
    if canvas.one_of(True, False):
        return one
    gate = canvas.node("Sigmoid", name)
    return replace(x, name=canvas.node(canvas.one_of("Mul", "Add"), x.name, gate), bitwise=False)


@step(weight=2)
def channels_last(canvas: Canvas, x: Act) -> Act:
    """A stretch of (N, H, W, C): bias, product, layer norm, softmax, concat."""
    name, c = canvas.node("Transpose", x.name, perm=[0, 2, 3, 1]), x.c
    for _ in range(canvas.number(1, 3)):
        way = canvas.one_of("bias", "product", "norm", "softmax", "relu", "mean", "concat", "gather")
        if way == "bias":
            name = canvas.node("Add", name, canvas.random((c,), 0.5))
        elif way == "product":
            out = canvas.one_of(4, 16)
            name, c = canvas.node("MatMul", name, canvas.random((c, out), 1 / np.sqrt(c))), out
        elif way == "norm" and canvas.opset >= 17 and c > 2:
            values = [canvas.random((c,), 1.3, 0.7), canvas.random((c,), 0.3)]
            name = canvas.node("LayerNormalization", name, *values, axis=canvas.one_of(-1, 3), epsilon=1e-2)
        elif way == "softmax":
            name = canvas.node("Softmax", name, axis=canvas.one_of(3, -1 if canvas.opset > 10 else 3))
        elif way == "mean" and c > 2:
            last = canvas.one_of(3, 3 if canvas.opset < 11 else -1)
            name = canvas.node("Sub", name, canvas.reduce("Mean", name, [last]))
        elif way == "concat":
            name, c = canvas.node("Concat", name, name, axis=3), 2 * c
        elif way == "gather":
            name, c = canvas.node("Gather", name, canvas.ints(*range(0, c, 2)), axis=3), len(range(0, c, 2))
        else:
            name = canvas.node("Relu", name)
    return Act(canvas.node("Transpose", name, perm=[0, 3, 1, 2]), c, x.h, x.w, bitwise=False)


@step()
def written_layer_norm(canvas: Canvas, x: Act) -> Act:
    """Over channels, in its parts, as older exporters write it."""
    if x.c < 3:
        raise Refused
    away = canvas.node("Sub", x.name, canvas.reduce("Mean", x.name, [1]))
    square = canvas.node("Pow", away, canvas.float_constant(2.0))
    variance = canvas.node("Add", canvas.reduce("Mean", square, [1]), canvas.float_constant(0.01))
    scaled = canvas.node("Div", away, canvas.node("Sqrt", variance))
    return replace(x, name=canvas.node("Mul", scaled, canvas.random((x.c, 1, 1), 1.3, 0.7)), bitwise=False)


# -- over the whole frame ----------------------------------------------------------------------------------------------


@step()
def instance_norm(canvas: Canvas, x: Act) -> Act:
    values = [canvas.random((x.c,), 1.3, 0.7), canvas.random((x.c,), 0.3)]
    return canvas.act(x, "InstanceNormalization", *values, epsilon=1e-2)


@step(since=18)
def group_norm(canvas: Canvas, x: Act) -> Act:
    groups = canvas.one_of(*[g for g in (1, 2, x.c) if x.c % g == 0])
    values = [canvas.random((groups if canvas.opset < 21 else x.c,), 1.3, 0.7) for _ in range(2)]
    return canvas.act(x, "GroupNormalization", *values, num_groups=groups, epsilon=1e-2)


@step()
def written_group_norm(canvas: Canvas, x: Act) -> Act:
    """As torch exports it: Reshape, InstanceNormalization, Reshape."""
    groups = canvas.one_of(*[g for g in (1, 2, 3) if x.c % g == 0])
    flat = canvas.reshape(x.name, groups, -1)
    values = [canvas.float_constant(np.ones(groups)), canvas.float_constant(np.zeros(groups))]
    normed = canvas.node("InstanceNormalization", flat, *values, epsilon=1e-2)
    name = canvas.reshape(normed, x.c, x.h, x.w)
    return replace(x, name=canvas.node("Mul", name, canvas.random((x.c, 1, 1), 1.3, 0.7)), bitwise=False)


@step(weight=2)
def squeeze_excite(canvas: Canvas, x: Act) -> Act:
    """The mean or maximum of the frame decides how much of each channel passes."""
    pooled = canvas.one_of(
        lambda: canvas.node("GlobalAveragePool", x.name), lambda: canvas.reduce("Mean", x.name, [2, 3]),
        lambda: canvas.node("GlobalMaxPool", x.name),
    )()  # fmt: skip
    squeezed = conv(canvas, Act(pooled, x.c, 1, 1), 4, [1, 1])
    excited = conv(canvas, canvas.act(squeezed, "Relu"), x.c, [1, 1])
    gate = canvas.node("HardSigmoid" if canvas.one_of(False, True) and not canvas.half else "Sigmoid", excited.name)
    return replace(x, name=canvas.node("Mul", *canvas.one_of([x.name, gate], [gate, x.name])), bitwise=False)


@step()
def spatial_gate(canvas: Canvas, x: Act) -> Act:
    """CBAM: mean and maximum over channels, a convolution, a gate for each pixel."""
    both = canvas.node("Concat", canvas.reduce("Mean", x.name, [1]), canvas.reduce("Max", x.name, [1]), axis=1)
    gate = conv(canvas, Act(both, 2, x.h, x.w, False), 1, [3, 3], pads=[1] * 4)
    return replace(x, name=canvas.node("Mul", x.name, canvas.node("Sigmoid", gate.name)), bitwise=False)


@step()
def mean_added(canvas: Canvas, x: Act) -> Act:
    """The mean of the frame, expanded by broadcasting: the image pooling of a segmentation head."""
    pooled = conv(canvas, Act(canvas.node("GlobalAveragePool", x.name), x.c, 1, 1), x.c, [1, 1])
    return replace(x, name=canvas.node("Add", x.name, pooled.name), bitwise=False)


@step()
def there_and_back(canvas: Canvas, x: Act) -> Act:
    """Unsqueeze and Squeeze, or two transposes: nothing changes."""
    if canvas.one_of(True, False):
        return replace(x, name=canvas.squeeze(canvas.unsqueeze(x.name, 2), 2))
    name = canvas.node("Transpose", canvas.node("Transpose", x.name, perm=[0, 1, 3, 2]), perm=[0, 1, 3, 2])
    return replace(x, name=name)


@step()
def turned(canvas: Canvas, x: Act) -> Act:
    """Height and width exchanged."""
    return replace(x, name=canvas.node("Transpose", x.name, perm=[0, 1, 3, 2]), h=x.w, w=x.h)
