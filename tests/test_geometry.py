"""Receptive-field growth against brute force: which cells change, found by changing pixels and running the model."""

import math
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive import brute_force_region, session_of
from onnx import TensorProto, helper, numpy_helper

from krypton_onnx.rewriter.geometry import AxisGrowth, Geometry, image_geometry

FRAME = (15, 12)


def sweep(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class Local:
    """One local operator: (rows, columns) of everything; `ends` are the end pads."""

    op_type: str
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    ends: tuple[int, int]
    dilations: tuple[int, int]
    ceil: bool = False

    def through(self, geometry: Geometry, frame: tuple[int, int]) -> Geometry:
        return geometry.through(self.kernel, self.strides, self.pads, self.dilations, frame)

    def node(self, x: str, y: str) -> onnx.NodeProto:
        attributes: dict = {"kernel_shape": self.kernel, "strides": self.strides, "pads": [*self.pads, *self.ends]}
        if self.op_type != "AveragePool":
            attributes["dilations"] = self.dilations
        if self.op_type != "Conv":
            attributes["ceil_mode"] = int(self.ceil)
        return helper.make_node(self.op_type, [x, f"{y}.weights"] if self.op_type == "Conv" else [x], [y], **attributes)


@st.composite
def local(draw: st.DrawFn) -> Local:
    """Pads of a Conv may exceed the kernel's reach (a border that reads no pixel); those of a pool may not."""
    op_type = draw(st.sampled_from(["Conv", "Conv", "MaxPool", "AveragePool"]))
    kernel, strides, pads, ends, dilations = [], [], [], [], []
    for _ in range(2):
        kernel.append(draw(st.integers(1, 4)))
        strides.append(draw(st.integers(1, 3)))
        dilations.append(1 if op_type == "AveragePool" else draw(st.integers(1, 2)))
        most = kernel[-1] - 1 if op_type != "Conv" else dilations[-1] * (kernel[-1] - 1) + 1
        pads.append(draw(st.integers(0, most)))
        ends.append(draw(st.integers(0, most)))
    return Local(
        op_type, tuple(kernel), tuple(strides), tuple(pads), tuple(ends), tuple(dilations), draw(st.booleans())
    )


def chain(operators: list[Local]):
    """A session of these operators on FRAME with one channel, and the frame after each of them."""
    nodes = [op.node(f"t{i}", f"t{i + 1}") for i, op in enumerate(operators)]
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.uniform(0.5, 1.5, (1, 1, *op.kernel)).astype(np.float32), f"t{i + 1}.weights")
        for i, op in enumerate(operators)
        if op.op_type == "Conv"
    ]
    value = helper.make_tensor_value_info
    outputs = [value(f"t{i + 1}", TensorProto.FLOAT, None) for i in range(len(operators))]
    inputs = [value("t0", TensorProto.FLOAT, [1, 1, *FRAME])]
    # The last one first: it is what brute_force_region looks at.
    graph = helper.make_graph(nodes, "chain", inputs, outputs[::-1], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    session = session_of(model)
    frames = [result.shape[2:] for result in session.run(None, {"t0": np.zeros((1, 1, *FRAME), np.float32)})]
    return session, frames[::-1]


@st.composite
def rectangles(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """top, left, bottom, right of an occlusion in FRAME, at its borders as often as inside."""
    spans = []
    for size in FRAME:
        length = draw(st.integers(1, size))
        start = draw(st.sampled_from([0, size - length]) | st.integers(0, size - length))
        spans.append((start, start + length))
    (top, bottom), (left, right) = spans
    return top, left, bottom, right


def region(geometry: Geometry, rectangle: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    top, left, bottom, right = rectangle
    rows = geometry.y.region(np.array([top]), bottom - top, geometry.frame[0])
    columns = geometry.x.region(np.array([left]), right - left, geometry.frame[1])
    return int(rows[0][0]), int(columns[0][0]), int(rows[1][0]), int(columns[1][0])


def assert_contains(outer: tuple, inner: tuple) -> None:
    assert outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def valid_session(operators: list[Local]):
    """As chain; gives up on operators whose frame would be empty."""
    try:
        session, frames = chain(operators)
    except Exception:  # ONNX Runtime refuses a kernel larger than its padded frame
        assume(False)
    assume(all(min(frame) > 0 for frame in frames))
    return session, frames


@sweep(300)
@given(local(), rectangles())
def test_one_operator(operator: Local, rectangle) -> None:
    """Never too small; the very rectangle where the occlusion is at least as wide as the gaps between reads."""
    session, (frame,) = valid_session([operator])
    geometry = operator.through(image_geometry(FRAME), frame)
    planned, true = region(geometry, rectangle), brute_force_region(session, FRAME, rectangle)
    assert 0 <= planned[0] < planned[2] <= frame[0] and 0 <= planned[1] < planned[3] <= frame[1]
    gaps = [max(operator.strides[axis], operator.dilations[axis]) for axis in (0, 1)]
    wide = [rectangle[axis + 2] - rectangle[axis] >= gaps[axis] for axis in (0, 1)]
    if true is None:  # nothing reads these pixels: one cell, along the axis where that is so
        assert not all(wide) or planned[2] - planned[0] == 1 or planned[3] - planned[1] == 1
        return
    assert_contains(planned, true)
    for axis in (0, 1):
        if wide[axis]:
            assert (planned[axis], planned[axis + 2]) == (true[axis], true[axis + 2])


@sweep(200)
@given(st.lists(local(), min_size=2, max_size=3), rectangles())
def test_a_chain_is_never_too_small(operators: list[Local], rectangle) -> None:
    session, frames = valid_session(operators)
    geometry = image_geometry(FRAME)
    for operator, frame in zip(operators, frames, strict=True):
        geometry = operator.through(geometry, frame)
    true = brute_force_region(session, FRAME, rectangle)
    if true is not None:
        assert_contains(region(geometry, rectangle), true)


def step(region: tuple[int, int], kernel: int, stride: int, pad: int, dilation: int, frame: int) -> tuple[int, int]:
    """One axis, clipped after every operator."""
    a, b = region
    return max(0, math.ceil((a + pad - dilation * (kernel - 1)) / stride)), min(frame, (b - 1 + pad) // stride + 1)


@st.composite
def axis_operators(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """kernel, stride, begin pad, end pad, dilation; pads at most the kernel's reach."""
    kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    reach = dilation * (kernel - 1)
    pads = draw(st.integers(0, reach)), draw(st.integers(0, reach))
    return kernel, draw(st.integers(1, 4)), *pads, dilation


@sweep(500)
@given(st.lists(axis_operators(), min_size=1, max_size=6), st.integers(8, 300), st.data())
def test_clipping_once_is_as_good_as_after_every_operator(operators, image: int, data) -> None:
    """Equal where no pad exceeds the kernel's reach."""
    size = data.draw(st.integers(1, image))
    origin = data.draw(st.integers(0, image - size))
    growth, frame, expected = AxisGrowth(), image, (origin, origin + size)
    for kernel, stride, begin, end, dilation in operators:
        frame = (frame + begin + end - dilation * (kernel - 1) - 1) // stride + 1
        assume(frame > 0)
        growth = growth.through(kernel, stride, begin, dilation)
        expected = step(expected, kernel, stride, begin, dilation, frame)
        assume(expected[0] < expected[1])  # pixels that nothing reads
    start, stop = growth.region(np.array([origin]), size, frame)
    assert (int(start[0]), int(stop[0])) == expected


growths = st.builds(AxisGrowth, st.integers(1, 9), st.integers(-20, 40), st.integers(-20, 40))


def changed(growth: AxisGrowth, origin: int, size: int, frame: int) -> set[int]:
    """The cells whose window (of the chain of operators, in pixels) meets the occlusion."""
    return {
        cell
        for cell in range(frame)
        if cell * growth.jump + growth.before >= origin and cell * growth.jump - growth.after < origin + size
    }


@sweep(150)
@given(growths, st.integers(1, 20), st.integers(1, 40))
def test_a_region_is_the_cells_that_read_the_occlusion(growth: AxisGrowth, size: int, frame: int) -> None:
    """One cell where there is none; always inside the frame."""
    origins = np.arange(-5, 60)
    starts, stops = growth.region(origins, size, frame)
    assert starts.dtype == stops.dtype == np.int64
    for origin, start, stop in zip(origins.tolist(), starts.tolist(), stops.tolist(), strict=True):
        expected = changed(growth, origin, size, frame)
        assert 0 <= start < stop <= frame
        if expected:
            assert (start, stop) == (min(expected), max(expected) + 1)
        else:
            assert stop - start == 1


@sweep(150)
@given(growths, st.integers(-20, 40), st.integers(-20, 40), st.integers(1, 20), st.integers(1, 40))
def test_contains_and_union(first: AxisGrowth, before: int, after: int, size: int, frame: int) -> None:
    """`contains` is what it says for every occlusion; a union is the smallest growth that contains both."""
    second = AxisGrowth(first.jump, before, after)
    union = first.union(second)
    assert union == second.union(first)
    assert union.contains(first) and union.contains(second)
    assert first.contains(second) == (union == first) and second.contains(first) == (union == second)
    for origin in range(60):
        both = changed(first, origin, size, frame) | changed(second, origin, size, frame)
        start, stop = union.region(np.array([origin]), size, frame)
        assert both <= set(range(start[0], stop[0]))
    for less in ((1, 0), (0, 1)):  # the smallest: a pixel less on either side no longer contains both
        smaller = AxisGrowth(union.jump, union.before - less[0], union.after - less[1])
        assert not (smaller.contains(first) and smaller.contains(second))


def test_different_jumps_do_not_align() -> None:
    one, two = AxisGrowth(1, 5, 5), AxisGrowth(2, 0, 0)
    assert not one.contains(two) and not two.contains(one)
    with pytest.raises(ValueError, match="jump 1 / 1 and 2 / 1 do not align"):
        one.union(two)
    geometry = image_geometry((8, 8))
    assert not geometry.aligned(Geometry(two, two, (8, 8))) and not geometry.aligned(image_geometry((8, 9)))
    assert geometry.aligned(Geometry(AxisGrowth(1, 2, 3), AxisGrowth(), (8, 8)))
    assert not geometry.contains(image_geometry((9, 8)))


def test_geometry_joins_both_axes() -> None:
    tall = Geometry(AxisGrowth(2, 5, 4), AxisGrowth(4, 0, 1), (9, 7))
    wide = Geometry(AxisGrowth(2, 1, 0), AxisGrowth(4, 3, 2), (9, 7))
    union = tall.union(wide)
    assert union == Geometry(AxisGrowth(2, 5, 4), AxisGrowth(4, 3, 2), (9, 7))
    assert union.contains(tall) and union.contains(wide) and not tall.contains(wide) and not wide.contains(tall)


@pytest.mark.parametrize(("kernel", "pad", "never"), [(1, 0, True), (3, 0, False), (3, 1, False), (1, 1, False)])
def test_never_clipped(kernel: int, pad: int, never: bool) -> None:
    """Only where no region can reach a border that the occlusion does not."""
    geometry = image_geometry((10, 10)).through([kernel] * 2, [2, 2], [pad] * 2, [1, 1], (5, 5))
    assert image_geometry((10, 10)).never_clipped() and geometry.never_clipped() == never
