"""Steps of random models (random_graphs.py): operators that read neighbouring cells, or change the frame."""

from dataclasses import replace

import numpy as np
from random_graphs import Act, Canvas, Refused, step

# -- convolutions --------------------------------------------------------------------------------------------------


def _reach(kernel: list[int], dilation: list[int]) -> list[int]:
    return [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]


def _slid(x: Act, reach: list[int], strides: list[int], pads: list[int], ceil: bool = False) -> tuple[int, int]:
    """Cells of the output frame. Raises Refused where the kernel does not fit."""
    rooms = [x.h + pads[0] + pads[2] - reach[0], x.w + pads[1] + pads[3] - reach[1]]
    if min(rooms) < 0:
        raise Refused
    sizes = [(-(-room // s) if ceil else room // s) + 1 for room, s in zip(rooms, strides, strict=True)]
    if ceil:  # the last window starts inside the frame or the begin padding
        sizes = [size - ((size - 1) * s >= n + p)
                 for size, s, n, p in zip(sizes, strides, (x.h, x.w), pads, strict=False)]  # fmt: skip
    return sizes[0], sizes[1]


def conv(
    canvas: Canvas, x: Act, out: int, kernel: list[int], strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1),
    group: int = 1, auto_pad: str = "",
) -> Act:  # fmt: skip
    """Conv with random weights, of variance 1 / fan-in."""
    strides, pads, dilations = list(strides), list(pads), list(dilations)
    fan_in = x.c // group * kernel[0] * kernel[1]
    inputs = [x.name, canvas.random((out, x.c // group, *kernel), 1.4 / np.sqrt(fan_in))]
    if canvas.one_of(True, True, False):
        inputs.append(canvas.random((out,), 0.2))
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": group}
    if auto_pad:
        attributes["auto_pad"] = auto_pad
        same = (-(-x.h // strides[0]), -(-x.w // strides[1]))
        h, w = same if auto_pad.startswith("SAME") else _slid(x, _reach(kernel, dilations), strides, [0] * 4)
    else:
        attributes["pads"] = pads
        h, w = _slid(x, _reach(kernel, dilations), strides, pads)
    return Act(canvas.node("Conv", *inputs, **attributes), out, h, w, bitwise=False)


@step(weight=4)
def convolution(canvas: Canvas, x: Act) -> Act:
    kernel = canvas.pair(1, 4)
    return conv(canvas, x, canvas.one_of(4, 6, 16, 20), kernel, canvas.pair(1, 3), [canvas.number(0, 2)] * 4)


@step(weight=2)
def odd_convolution(canvas: Canvas, x: Act) -> Act:
    pads = [canvas.number(0, 3) for _ in range(4)]
    return conv(canvas, x, canvas.one_of(4, 5, 16), canvas.pair(1, 4), canvas.pair(1, 3), pads, canvas.pair(1, 3))


@step()
def padded_convolution(canvas: Canvas, x: Act) -> Act:
    auto_pad = canvas.one_of("SAME_UPPER", "SAME_LOWER", "VALID")
    return conv(canvas, x, canvas.one_of(4, 6), canvas.pair(1, 4), canvas.pair(1, 3), auto_pad=auto_pad)


@step(weight=2)
def grouped_convolution(canvas: Canvas, x: Act) -> Act:
    group = canvas.one_of(*[g for g in (x.c, 2, 3) if x.c % g == 0])
    out = group * canvas.number(1, 2)
    return conv(canvas, x, out, canvas.pair(1, 3), canvas.pair(1, 2), [canvas.number(0, 2)] * 4, group=group)


@step()
def pointwise_convolution(canvas: Canvas, x: Act) -> Act:
    return conv(canvas, x, canvas.one_of(4, 8, 16, 24), [1, 1])


@step(weight=2)
def transposed_convolution(canvas: Canvas, x: Act) -> Act:
    kernel, strides, dilations = canvas.pair(1, 4), canvas.pair(1, 3), canvas.pair(1, 2)
    group = canvas.one_of(*[g for g in (1, 2, x.c) if x.c % g == 0])
    each = canvas.number(1, 3)
    inputs = [x.name, canvas.random((x.c, each, *kernel), 1.4 / np.sqrt(x.c // group * kernel[0] * kernel[1]))]
    if canvas.one_of(True, False):
        inputs.append(canvas.random((each * group,), 0.2))
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": group}
    reach, frame = _reach(kernel, dilations), (x.h, x.w)
    way = canvas.one_of("pads", "pads", "pads", "output_shape", "auto_pad")
    if way == "auto_pad":
        attributes["auto_pad"] = canvas.one_of("SAME_UPPER", "SAME_LOWER")
        sizes = [n * s for n, s in zip(frame, strides, strict=True)]
        if any(r < s for r, s in zip(reach, strides, strict=True)):
            raise Refused
    elif way == "output_shape":
        most = [(n - 1) * s + r for n, s, r in zip(frame, strides, reach, strict=True)]
        sizes = [max(1, size + canvas.number(-2, s - 1)) for size, s in zip(most, strides, strict=True)]
        attributes["output_shape"] = sizes
    else:
        pads = [canvas.number(0, min(2, reach[axis % 2] - 1)) for axis in range(4)]
        extra = [canvas.number(0, max(stride, 1) - 1) for stride in strides]
        attributes |= {"pads": pads, "output_padding": extra}
        sizes = [(frame[i] - 1) * strides[i] + reach[i] - pads[i] - pads[i + 2] + extra[i] for i in range(2)]
    name = canvas.node("ConvTranspose", *inputs, **attributes)
    return Act(name, each * group, sizes[0], sizes[1], bitwise=False)


# -- pools ---------------------------------------------------------------------------------------------------------


def _pool(canvas: Canvas, x: Act, op_type: str, ceil_since: int, dilated_since: int, **attributes) -> Act:
    kernel, strides = canvas.pair(1, 4), canvas.pair(1, 3)
    attributes |= {"kernel_shape": kernel, "strides": strides}
    dilations = [1, 1]
    if canvas.opset >= dilated_since and canvas.rarely():
        dilations = attributes["dilations"] = canvas.pair(1, 2)
    if canvas.rarely():
        attributes["auto_pad"] = canvas.one_of("SAME_UPPER", "SAME_LOWER")
        h, w = -(-x.h // strides[0]), -(-x.w // strides[1])
        return Act(canvas.node(op_type, x.name, **attributes), x.c, h, w, x.bitwise and op_type == "MaxPool")
    pads = attributes["pads"] = [canvas.number(0, size - 1) for size in (*kernel, *kernel)]
    ceil = canvas.opset >= ceil_since and canvas.one_of(False, True)
    if ceil:
        attributes["ceil_mode"] = 1
    h, w = _slid(x, _reach(kernel, dilations), strides, pads, ceil)
    canvas.misinferred |= bool(ceil) and canvas.opset < 22
    return Act(canvas.node(op_type, x.name, **attributes), x.c, h, w, x.bitwise and op_type == "MaxPool")


@step(weight=2)
def max_pool(canvas: Canvas, x: Act) -> Act:
    return _pool(canvas, x, "MaxPool", 10, 10)


@step(weight=2)
def average_pool(canvas: Canvas, x: Act) -> Act:
    return _pool(canvas, x, "AveragePool", 10, 19, count_include_pad=canvas.number(0, 1))


@step()
def lp_pool(canvas: Canvas, x: Act) -> Act:
    return _pool(canvas, x, "LpPool", 18, 18, p=canvas.number(1, 3))


# -- pads, slices, rearranged pixels ---------------------------------------------------------------------------------


@step(weight=2)
def pad(canvas: Canvas, x: Act) -> Act:
    modes = ["constant", "constant", "reflect", "edge"] + (["wrap"] if canvas.opset >= 19 else [])
    mode, low = canvas.one_of(*modes), -2 if canvas.rarely() else 0
    top, left, bottom, right = (canvas.number(low, 3) for _ in range(4))
    if mode in ("reflect", "wrap") and max(top, bottom, left, right) >= min(x.h, x.w):
        raise Refused
    if mode in ("reflect", "wrap") and min(top, left, bottom, right) < 0:
        raise Refused  # with negative pads ONNX Runtime reads what it has just removed
    y = replace(x, h=x.h + top + bottom, w=x.w + left + right)
    if min(y.h, y.w) < 1:
        raise Refused
    value = canvas.one_of(0.0, -1.0, 2.0) if mode == "constant" else 0.0
    if canvas.opset < 11:
        pads = [0, 0, top, left, 0, 0, bottom, right]
        return replace(y, name=canvas.node("Pad", x.name, mode=mode, pads=pads, value=value))
    constant = [canvas.float_constant(value)] if value else []
    if canvas.opset >= 18 and canvas.rarely():
        axes, pads = canvas.one_of(([2, 3], [top, left, bottom, right]), ([-1, -2], [left, top, right, bottom]))
        more = [canvas.ints(*pads), *(constant or [""]), canvas.ints(*axes)]
        return replace(y, name=canvas.node("Pad", x.name, *more, mode=mode))
    pads = canvas.ints(0, 0, top, left, 0, 0, bottom, right)
    return replace(y, name=canvas.node("Pad", x.name, pads, *constant, mode=mode))


@step()
def slice_of_space(canvas: Canvas, x: Act) -> Act:
    if canvas.opset >= 10 and canvas.rarely():
        steps = canvas.one_of([2, 1], [1, 2], [3, 2], [-1, 1])
        starts = [-1 if s < 0 else canvas.number(0, 2) for s in steps]
        ends = [-(2**31) if s < 0 else 2**31 - 1 for s in steps]
        sizes = [len(range(n)[(None if s < 0 else b) :: s])
                 for n, b, s in zip((x.h, x.w), starts, steps, strict=True)]  # fmt: skip
        if min(sizes) < 1:
            raise Refused
        return replace(x, name=canvas.slice(x.name, starts, ends, [2, 3], steps), h=sizes[0], w=sizes[1])
    top, left, bottom, right = (canvas.number(0, 2) for _ in range(4))
    if x.h <= top + bottom or x.w <= left + right:
        raise Refused
    name = canvas.slice(x.name, [top, left], [x.h - bottom, x.w - right], canvas.one_of([2, 3], [-2, -1]))
    return replace(x, name=name, h=x.h - top - bottom, w=x.w - left - right)


@step()
def depth_to_space(canvas: Canvas, x: Act) -> Act:
    size = canvas.number(2, 3)
    if x.c % size**2:
        x = conv(canvas, x, size**2 * canvas.number(1, 2), [1, 1])
    attributes = {"mode": canvas.one_of("DCR", "CRD")} if canvas.opset >= 11 else {}
    name = canvas.node("DepthToSpace", x.name, blocksize=size, **attributes)
    return replace(x, name=name, c=x.c // size**2, h=x.h * size, w=x.w * size)


@step()
def pixel_shuffle(canvas: Canvas, x: Act) -> Act:
    """DepthToSpace or SpaceToDepth as exporters write them: Reshape, Transpose, Reshape."""
    if x.h % 2 == x.w % 2 == 0:
        name = canvas.reshape(x.name, x.c, x.h // 2, 2, x.w // 2, 2)
        name = canvas.node("Transpose", name, perm=canvas.one_of([0, 1, 3, 5, 2, 4], [0, 3, 5, 1, 2, 4]))
        return replace(x, name=canvas.reshape(name, 4 * x.c, x.h // 2, x.w // 2), c=4 * x.c, h=x.h // 2, w=x.w // 2)
    if x.c % 4:
        raise Refused
    name = canvas.reshape(x.name, x.c // 4, 2, 2, x.h, x.w)
    name = canvas.node("Transpose", name, perm=[0, 1, 4, 2, 5, 3])
    return replace(x, name=canvas.reshape(name, x.c // 4, 2 * x.h, 2 * x.w), c=x.c // 4, h=2 * x.h, w=2 * x.w)


@step()
def space_to_depth(canvas: Canvas, x: Act) -> Act:
    size = canvas.number(2, 3)
    if x.h % size or x.w % size:
        top, left = size - x.h % size, size - x.w % size
        pads = [0, 0, top % size, left % size, 0, 0, 0, 0]
        name = canvas.node("Pad", x.name, pads=pads) if canvas.opset < 11 \
            else canvas.node("Pad", x.name, canvas.ints(*pads))  # fmt: skip
        x = replace(x, name=name, h=x.h + top % size, w=x.w + left % size)
    name = canvas.node("SpaceToDepth", x.name, blocksize=size)
    return replace(x, name=name, c=x.c * size**2, h=x.h // size, w=x.w // size)


# -- resizes -------------------------------------------------------------------------------------------------------


@step(until=9)
def upsample(canvas: Canvas, x: Act) -> Act:
    y, x_scale = float(canvas.number(1, 3)), canvas.one_of(2.0, 1.0, 1.5)
    mode = canvas.one_of("nearest", "linear")
    if canvas.opset < 9:
        name = canvas.node("Upsample", x.name, scales=[1.0, 1.0, y, x_scale], mode=mode)
    else:
        name = canvas.node("Upsample", x.name, canvas.g.initializer([1, 1, y, x_scale]), mode=mode)
    return Act(name, x.c, int(x.h * y), int(x.w * x_scale), bitwise=x.bitwise and mode == "nearest")


@step(since=10, weight=3)
def resize(canvas: Canvas, x: Act) -> Act:
    mode = canvas.one_of("nearest", "linear", "linear", *(["cubic"] if canvas.opset >= 11 else []))
    by_size = canvas.opset >= 11 and canvas.one_of(False, True)
    factors = [canvas.one_of(2.0, 1.0, 3.0, 1.5, 0.5, 0.6, 1.25) for _ in range(2)]
    frame = (x.h, x.w)
    if by_size:
        sizes = [max(1, round(n * f) + canvas.number(-1, 1)) for n, f in zip(frame, factors, strict=True)]
    else:
        sizes = [int(np.floor(n * np.float32(f))) for n, f in zip(frame, factors, strict=True)]
    bitwise = x.bitwise and mode == "nearest"
    if canvas.opset == 10:
        name = canvas.node("Resize", x.name, canvas.g.initializer([1, 1, *factors]), mode=mode)
        return Act(name, x.c, *sizes, bitwise=bitwise)
    places = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    attributes = {"mode": mode, "coordinate_transformation_mode": canvas.one_of(
        *places, *(["half_pixel_symmetric"] if canvas.opset >= 19 else []))}  # fmt: skip
    if mode == "nearest":
        attributes["nearest_mode"] = canvas.one_of("round_prefer_floor", "floor", "ceil", "round_prefer_ceil")
    if mode == "cubic":
        attributes |= {"cubic_coeff_a": canvas.one_of(-0.75, -0.5), "exclude_outside": canvas.number(0, 1)}
    if mode != "nearest" and canvas.opset >= 18 and canvas.rarely():
        attributes["antialias"] = 1
    inputs = _target(canvas, x, attributes, by_size, sizes, factors)
    return Act(resized(canvas, x, inputs, **attributes), x.c, *sizes, bitwise=bitwise)


def resized(canvas: Canvas, x: Act, inputs: list[str], **attributes) -> str:
    """Resize with [scales] or ["", sizes]; up to opset 12 what is not given is an empty tensor."""
    if canvas.opset > 12:
        return canvas.node("Resize", x.name, "", *inputs, **attributes)
    none = canvas.g.initializer(np.zeros(0))
    return canvas.node("Resize", x.name, none, *(name or none for name in inputs), **attributes)


def _target(canvas: Canvas, x: Act, attributes: dict, by_size: bool, sizes: list[int], factors: list) -> list[str]:
    """The inputs scales and sizes; `attributes` may get axes."""
    if canvas.opset >= 18 and canvas.one_of(True, False):
        axes = attributes["axes"] = canvas.one_of([2, 3], [3, 2])
        order = [axis - 2 for axis in axes]
        if by_size:
            return ["", canvas.ints(*(sizes[axis] for axis in order))]
        return [canvas.g.initializer([factors[axis] for axis in order])]
    if not by_size:
        return [canvas.g.initializer([1, 1, *factors])]
    if canvas.fixed and canvas.one_of(True, False):
        return ["", canvas.ints(1, x.c, *sizes)]
    return ["", canvas.node("Concat", canvas.dims(x.name, 0, 1), canvas.ints(*sizes), axis=0)]


@step(since=11)
def resize_to_another(canvas: Canvas, x: Act) -> Act:
    """To the frame of an earlier activation, read at run time, as decoders do."""
    target = canvas.one_of(*(canvas.acts or [x]))
    sizes = canvas.node("Concat", canvas.dims(x.name, 0, 1), canvas.dims(target.name, 2, 3), axis=0)
    mode = canvas.one_of("nearest", "linear")
    name = resized(canvas, x, ["", sizes], mode=mode, coordinate_transformation_mode="half_pixel")
    return Act(name, x.c, target.h, target.w, bitwise=x.bitwise and mode == "nearest")
