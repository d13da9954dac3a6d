"""Every CPU kernel against a brute-force NumPy version written from the operator's definition."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.numba_kernels.winograd import WinogradConvolution

KERNELS = {kernel.op_type: kernel for kernel in CPU_KERNELS}
EXACT = 1e-5  # sums of a few hundred terms in another order
WINOGRAD = 2e-4  # of the largest output: F(4x4, 3x3) in float32
LOWEST = np.finfo(np.float32).min

sweep = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def call(op_type, inputs, attributes=None, constants=True, strict=False):
    """Run a kernel as a session does: weights and counts (float vectors and 4-D weights) known when it is made."""
    kernel = KERNELS[op_type]
    assert kernel.required <= len(inputs) <= len(kernel.inputs)
    fixed = CONSTANT[op_type] if constants and op_type in CONSTANT else ()
    known = [array if index in fixed else None for index, array in enumerate(inputs)]
    compute = kernel.make(attributes or {}, known, strict)
    outputs = {}

    def allocate(index, shape):
        dtype = np.float32 if kernel.outputs[index] == "float" else np.int64
        # Garbage, so that a cell that is not written shows.
        outputs[index] = np.full(shape, 123456, dtype)
        return outputs[index]

    compute(inputs, allocate)
    results = [outputs[index] for index in range(len(kernel.outputs))]
    return results if len(results) > 1 else results[0]


CONSTANT = {"IncrementalConv": (3, 4), "PointwiseConv": (1, 2), "IncrementalAveragePool": (3, 4)}


# --- the definitions, cell by cell -------------------------------------------------------------------------------


def window(patch, patch_origin, view, origin, extent, outside):
    _, h, w, channels = patch.shape
    _, height, width, _ = view.shape
    out = np.empty((len(origin), *extent, channels), patch.dtype)
    for n, (top, left) in enumerate(origin):
        for i, j in np.ndindex(*extent):
            y, x = top + i, left + j
            yy, xx = y - patch_origin[n, 0], x - patch_origin[n, 1]
            if 0 <= yy < h and 0 <= xx < w:
                out[n, i, j] = patch[n, yy, xx]
            elif 0 <= y < height and 0 <= x < width:
                out[n, i, j] = view[0, y, x]
            else:
                out[n, i, j] = outside
    return out


def taps(patch, patch_origin, view, origin, extent, attributes, outside):
    """Per tap of the kernel, the (N, eh, ew, C) values that it sees."""
    kernel, strides, pads, dilations = (np.array(attributes[k]) for k in
                                        ("kernel_shape", "strides", "pads", "dilations"))  # fmt: skip
    read = (np.array(extent) - 1) * strides + (kernel - 1) * dilations + 1
    cut = window(patch, patch_origin, view, origin * strides - pads[:2], read, outside).astype(np.float64)
    for a, b in np.ndindex(*kernel):
        y, x = a * dilations[0], b * dilations[1]
        yield (a, b), cut[:, y : y + (extent[0] - 1) * strides[0] + 1 : strides[0],
                          x : x + (extent[1] - 1) * strides[1] + 1 : strides[1]]  # fmt: skip


def convolve(patch, patch_origin, view, weights, origin, extent, attributes):
    outputs, each = weights.shape[:2]
    groups = attributes.get("group", 1)
    out = np.zeros((len(origin), *extent, outputs))
    for (a, b), values in taps(patch, patch_origin, view, origin, extent, attributes, 0):
        for g in range(groups):
            o = slice(g * outputs // groups, (g + 1) * outputs // groups)
            out[..., o] += values[..., g * each : (g + 1) * each] @ weights[o, :, a, b].astype(np.float64).T
    return out


def activate(values, attributes):
    if attributes["activation"] == "Relu":
        return np.maximum(values, 0)
    if attributes["activation"] == "Clip":
        return np.clip(values, attributes["clip_min"], attributes["clip_max"])
    return values


# --- inputs -----------------------------------------------------------------------------------------------------


class Case:
    """Random arrays of one example, in frames and regions that Hypothesis chose."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.positions = draw(st.integers(1, 4))

    def integer(self, low, high):
        return self.draw(st.integers(low, high))

    def floats(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def source(self, channels, frame=None):
        """patch, patch_origin, view: patches anywhere inside a frame."""
        height, width = frame or (self.integer(1, 14), self.integer(1, 14))
        h, w = self.integer(1, height), self.integer(1, width)
        origin = self.places((height, width), (h, w))
        return self.floats(self.positions, h, w, channels), origin, self.floats(1, height, width, channels)

    def places(self, frame, extent):
        return np.stack(
            [self.rng.integers(0, f - e + 1, self.positions) for f, e in zip(frame, extent, strict=True)], 1
        ).astype(np.int64)

    def geometry(self, frame, kernels=(1, 5), dilations=(1, 2), pads=None):
        """kernel_shape, strides, pads, dilations that leave an output frame, and that frame."""
        attributes = {"kernel_shape": [], "strides": [], "pads": [], "dilations": []}
        ends, outputs = [], []
        for size in frame:
            kernel, stride = self.integer(*kernels), self.integer(1, 3)
            dilation = self.integer(*dilations)
            reach = (kernel - 1) * dilation + 1
            most = reach - 1 if pads is None else min(pads, reach - 1)
            begin, end = self.integer(0, most), self.integer(0, most)
            begin += max(0, reach - size - begin - end)
            attributes["kernel_shape"].append(kernel)
            attributes["strides"].append(stride)
            attributes["pads"].append(begin)
            attributes["dilations"].append(dilation)
            ends.append(end)
            outputs.append((size + begin + end - reach) // stride + 1)
        attributes["pads"] += ends
        return attributes, tuple(outputs)

    def region(self, frame):
        extent = tuple(self.integer(1, size) for size in frame)
        return self.places(frame, extent), extent

    def activation(self):
        kind = self.draw(st.sampled_from(["", "Relu", "Clip"]))
        return {"activation": kind, "clip_min": -0.5, "clip_max": 0.75}

    def residual(self, channels, frame, origin, extent):
        """Absent, of the region's own geometry, or of any other."""
        kind = self.draw(st.sampled_from(["absent", "same", "other"]))
        if kind == "absent":
            return []
        if kind == "same":
            return [self.floats(len(origin), *extent, channels), origin.copy(), self.floats(1, *frame, channels)]
        return list(self.source(channels, frame))


cases = st.composite(lambda draw: Case(draw))()


def check_conv(case, channels, outputs, attributes, frame, source, tolerance, strict=False, region=None):
    groups = attributes.get("group", 1)
    weights = case.floats(outputs, channels // groups, *attributes["kernel_shape"])
    bias = case.floats(outputs)
    origin, extent = region or case.region(frame)
    attributes = {**attributes, **case.activation()}
    residual = case.residual(outputs, frame, origin, extent)
    inputs = [*source, weights, bias, origin, np.array(extent, np.int64), *residual]
    expected = convolve(*source, weights, origin, extent, attributes) + bias
    if residual:
        expected += window(*residual, origin, extent, 0)
    scale = max(1.0, np.abs(expected).max())
    got = call("IncrementalConv", inputs, attributes, strict=strict)
    np.testing.assert_allclose(got, activate(expected, attributes), rtol=0, atol=tolerance * scale)


# --- tests --------------------------------------------------------------------------------------------------------


@sweep
@given(cases)
def test_window(case):
    source = case.source(case.integer(1, 20))
    extent = (case.integer(1, 18), case.integer(1, 18))
    origin = case.rng.integers(-20, 20, (case.positions, 2))
    got = call("Window", [*source, origin, np.array(extent)], {"pad_value": -2.5})
    np.testing.assert_array_equal(got, window(*source, origin, extent, -2.5))


def test_window_without_a_patch():
    """IncrementalGlobalAveragePool's function body cuts the view with an empty patch of batch 1."""
    view, origin = np.arange(48, dtype=np.float32).reshape(1, 4, 4, 3), np.array([[0, 1], [2, 2]])
    got = call("Window", [np.empty((1, 0, 0, 3), np.float32), origin, view, origin, np.array([2, 2])])
    np.testing.assert_array_equal(got, np.stack([view[0, :2, 1:3], view[0, 2:, 2:]]))


@sweep
@given(cases)
def test_any_convolution(case):
    groups = case.draw(st.sampled_from([1, 1, 2, 3]))
    channels, outputs = groups * case.integer(1, 9), groups * case.integer(1, 9)
    source = case.source(channels)
    attributes, frame = case.geometry(source[2].shape[1:3])
    attributes["group"] = groups
    check_conv(case, channels, outputs, attributes, frame, source, EXACT)


@sweep
@given(cases)
def test_depthwise_convolution(case):
    channels = case.integer(1, 40)
    source = case.source(channels)
    attributes, frame = case.geometry(source[2].shape[1:3])
    attributes["group"] = channels
    check_conv(case, channels, channels, attributes, frame, source, EXACT)


@sweep
@given(cases)
def test_depthwise_of_the_usual_kernels(case):
    channels, kernel = case.draw(st.sampled_from([8, 24, 33])), case.draw(st.sampled_from([3, 5]))
    source = case.source(channels, (13, 16))
    attributes, frame = case.geometry(source[2].shape[1:3], (kernel, kernel), (1, 1))
    attributes["group"] = channels
    check_conv(case, channels, channels, attributes, frame, source, EXACT)


@sweep
@given(
    cases,
    st.sampled_from([(3, 3), (3, 3), (1, 3), (7, 1), (1, 7), (5, 5), (3, 4)]),
    st.sampled_from(["chosen", "Winograd", "strict"]),
)
def test_stride_one(case, kernel, algorithm):
    """Winograd and, where it does not pay or the session is strict, columns."""
    strict = algorithm == "strict"
    channels, outputs = case.integer(16, 24), case.integer(16, 40)
    source = case.source(channels, (case.integer(kernel[0], 16), case.integer(kernel[1], 16)))
    height, width = source[2].shape[1:3]
    pads = [case.integer(0, kernel[axis % 2] - 1) for axis in range(4)]
    attributes = {"kernel_shape": kernel, "strides": [1, 1], "pads": pads, "dilations": [1, 1]}
    frame = (height + pads[0] + pads[2] - kernel[0] + 1, width + pads[1] + pads[3] - kernel[1] + 1)
    tolerance = EXACT if strict else WINOGRAD
    with pytest.MonkeyPatch.context() as patch:
        if algorithm == "Winograd":
            patch.setattr(WinogradConvolution, "pays", lambda self, height, width: True)
        check_conv(case, channels, outputs, attributes, frame, source, tolerance, strict)


def test_many_positions_cross_every_chunk():
    """Large enough that each algorithm works in several chunks."""
    rng = np.random.default_rng(0)
    for channels, outputs, kernel, strict in ((32, 48, 3, False), (32, 48, 3, True), (24, 40, 1, False)):
        view = rng.standard_normal((1, 30, 30, channels)).astype(np.float32)
        places = rng.integers(0, 18, (40, 2))
        patch = rng.standard_normal((40, 10, 10, channels)).astype(np.float32)
        origin, extent = np.clip(places - 1, 0, 18), (12, 12)
        weights = rng.standard_normal((outputs, channels, kernel, kernel)).astype(np.float32)
        attributes = {"kernel_shape": [kernel] * 2, "strides": [1, 1], "pads": [kernel // 2] * 4,
                      "dilations": [1, 1], "activation": "Relu"}  # fmt: skip
        bias = rng.standard_normal(outputs).astype(np.float32)
        inputs = [patch, places, view, weights, bias, origin, np.array(extent)]
        expected = convolve(patch, places, view, weights, origin, extent, attributes) + bias
        got = call("IncrementalConv", inputs, attributes, strict=strict)
        tolerance = (EXACT if strict or kernel == 1 else WINOGRAD) * np.abs(expected).max()
        np.testing.assert_allclose(got, np.maximum(expected, 0), rtol=0, atol=tolerance)


@sweep
@given(cases)
def test_pointwise(case):
    channels, outputs = case.integer(1, 40), case.integer(1, 40)
    frame = (case.integer(1, 14), case.integer(1, 14))
    patch, origin, _ = case.source(channels, frame)
    weights, bias = case.floats(outputs, channels, 1, 1), case.floats(outputs)
    attributes = case.activation()
    residual = case.residual(outputs, frame, origin, patch.shape[1:3])
    expected = patch.astype(np.float64) @ weights[:, :, 0, 0].T + bias
    if residual:
        expected += window(*residual, origin, patch.shape[1:3], 0)
    got = call("PointwiseConv", [patch, weights, bias, *([origin, *residual] if residual else [])], attributes)
    np.testing.assert_allclose(got, activate(expected, attributes), rtol=0, atol=EXACT * max(1, np.abs(expected).max()))


@sweep
@given(cases)
def test_max_pool(case):
    source = case.source(case.integer(1, 40))
    attributes, frame = case.geometry(source[2].shape[1:3], (1, 4))
    origin, extent = case.region(frame)
    expected = np.full((len(origin), *extent, source[0].shape[3]), LOWEST, np.float64)
    for _, values in taps(*source, origin, extent, attributes, LOWEST):
        expected = np.maximum(expected, values)
    got = call("IncrementalMaxPool", [*source, origin, np.array(extent)], attributes)
    np.testing.assert_array_equal(got, expected.astype(np.float32))


@sweep
@given(cases)
def test_average_pool(case):
    source = case.source(case.integer(1, 40))
    attributes, frame = case.geometry(source[2].shape[1:3], (1, 4))
    origin, extent = case.region(frame)
    counts = [case.rng.integers(1, 4, size).astype(np.float32) for size in frame]
    total = sum(values for _, values in taps(*source, origin, extent, attributes, 0))
    for n, (top, left) in enumerate(origin):
        total[n] /= np.outer(counts[0][top:][: extent[0]], counts[1][left:][: extent[1]])[..., None]
    got = call("IncrementalAveragePool", [*source, *counts, origin, np.array(extent)], attributes)
    np.testing.assert_allclose(got, total, rtol=0, atol=EXACT * 4)


@sweep
@given(cases)
def test_global_average_pool(case):
    patch, origin, view = case.source(case.integer(1, 40))
    full = window(patch, origin, view, np.zeros_like(origin), view.shape[1:3], 0)
    got = call("IncrementalGlobalAveragePool", [patch, origin, view])
    assert got.shape == (len(patch), patch.shape[3], 1, 1)
    np.testing.assert_allclose(got[:, :, 0, 0], full.mean((1, 2), np.float64), rtol=0, atol=1e-6)


def place(o, s, jump, before, after, frame, cap, extent):
    """One occlusion on one axis: (own extent, origin)."""
    a = min(max(-((before - o) // jump), 0), frame - 1)
    b = max(min((o + s - 1 + after) // jump + 1, frame), a + 1)
    if b - a <= cap:
        return b - a, min(a, frame - extent)
    centre = (2 * o + s - 1 + after - before) / (2 * jump)
    return b - a, int(np.clip(np.floor(centre - (extent - 1) / 2), 0, frame - extent))


@sweep
@given(cases, st.booleans())
def test_place_regions(case, each):
    geometries = case.integer(1, 4)
    image = case.rng.integers(8, 60, 2)
    size = [case.integer(1, side) for side in image]
    occlusions = case.places(image, size)
    jump, before, after = (case.rng.integers(low, high, (geometries, 2)) for low, high in ((1, 9), (-3, 20), (-3, 20)))
    scale = case.rng.choice(np.array([1, 1, 2, 3]), (geometries, 2))
    frame = np.maximum(image * scale // jump - case.rng.integers(0, 2, (geometries, 2)), 1)
    tau = case.rng.choice(np.array([1, 0.7, 0.5, 0.3, 0.05], np.float32), geometries if each else 1)
    attributes = {k: tuple(v.ravel().tolist()) for k, v in
                  {"jump": jump, "before": before, "after": after, "scale": scale, "frame": frame}.items()}  # fmt: skip
    origins, extents = call("PlaceRegions", [occlusions, np.zeros((1, 3, *size), np.float32), tau], attributes)
    for g, axis in np.ndindex(geometries, 2):
        parts = int(scale[g, axis])
        limits = (parts * (size[axis] - 1) + 1, *(int(v[g, axis]) for v in (jump, before, after, frame)))
        cap = max(1, int(np.rint(np.broadcast_to(tau, geometries)[g] * np.float32(limits[-1]))))
        own = [place(parts * int(o), *limits, cap, 1)[0] for o in occlusions[:, axis]]
        extent = min(max(own), cap)
        assert extents[g, axis] == extent
        expected = [place(parts * int(o), *limits, cap, extent)[1] for o in occlusions[:, axis]]
        np.testing.assert_array_equal(origins[g, :, axis], expected)


def test_infinities_and_nan_survive():
    """Fast math here must not assume them away."""
    infinite = np.array([-np.inf, np.inf, np.nan], np.float32).reshape(1, 1, 1, 3)
    weights, bias = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), np.ones(3, np.float32)
    origin, extent = np.zeros((1, 2), np.int64), np.ones(2, np.int64)
    for channel, activation, expected in [
        (0, "", -np.inf), (1, "", np.inf), (0, "Relu", 0.0), (1, "Relu", np.inf), (2, "Relu", np.nan), (1, "Clip", 6.0),
    ]:  # fmt: skip
        value = np.ascontiguousarray(infinite[..., channel : channel + 1])
        attributes = {"activation": activation, "clip_min": 0.0, "clip_max": 6.0}
        got = call("PointwiseConv", [value, weights[:1, :1], bias[:1]], attributes)
        np.testing.assert_array_equal(got.ravel(), [expected])
    pool = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
    got = call("IncrementalMaxPool", [infinite, origin, infinite, origin, extent], pool)
    assert got.ravel()[1] == np.inf and got.ravel()[0] == LOWEST


@pytest.mark.parametrize("read_only", [False, True])
def test_arrays_in_any_form(read_only):
    """Read-only, strided or unaligned inputs give the same as canonical ones."""
    rng = np.random.default_rng(1)
    patch = rng.standard_normal((2, 3, 8, 4)).astype(np.float32)
    source = [patch[:, :, ::2], np.array([[0, 0], [1, 2]]), rng.standard_normal((1, 6, 6, 4)).astype(np.float32)]
    if read_only:
        for array in source:
            array.flags.writeable = False
    origin = np.array([[-1, -1], [0, 1]])
    got = call("Window", [*source, origin, np.array([5, 5])])
    np.testing.assert_array_equal(got, window(*source, origin, (5, 5), 0))


def test_two_threads_at_once():
    """Kernels are re-entrant: workspaces belong to a thread."""
    rng = np.random.default_rng(2)
    view = rng.standard_normal((1, 20, 20, 16)).astype(np.float32)
    weights = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    attributes = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1]}
    kernel = KERNELS["IncrementalConv"]
    bias = np.zeros(16, np.float32)
    compute = kernel.make(attributes, [None, None, None, weights, bias, None, None], False)

    def run(seed, results):
        local = np.random.default_rng(seed)
        patch = local.standard_normal((30, 8, 8, 16)).astype(np.float32)
        places = local.integers(1, 11, (30, 2))
        for _ in range(20):
            out = np.empty((30, 10, 10, 16), np.float32)
            compute([patch, places, view, weights, bias, places - 1, np.array([10, 10])], lambda i, shape: out)  # noqa: B023
            results.append(out)

    alone = [[], []]
    together = [[], []]
    for seed in (0, 1):
        run(seed, alone[seed])
    threads = [threading.Thread(target=run, args=(seed, together[seed])) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        assert len(together[seed]) == 20
        for out in together[seed]:
            np.testing.assert_array_equal(out, alone[seed][0])
