"""Convolution kernels beside ONNX Runtime's Conv + Relu: one thread each, the same dense work, interleaved.

    python benchmarks/kernels.py [--only TEXT] [--repeat N]

ONNX Runtime gets the windows ready made (channels first, padded as the region's border asks), which is in its
favour: our kernels also read them from patch and view. A ratio above 1 means that we are faster.
"""

import argparse
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_limits

from krypton_onnx.numba_kernels import CPU_KERNELS

KERNELS = {kernel.op_type: kernel for kernel in CPU_KERNELS}

# name, positions, input channels, output channels, kernel, stride, output extent, group
SHAPES = [
    ("VGG conv1_2", 64, 64, 64, (3, 3), 1, 20, 1),
    ("VGG conv2_2", 64, 128, 128, (3, 3), 1, 14, 1),
    ("VGG conv3_2", 64, 256, 256, (3, 3), 1, 12, 1),
    ("VGG conv4_2", 64, 512, 512, (3, 3), 1, 10, 1),
    ("VGG conv5_2", 64, 512, 512, (3, 3), 1, 14, 1),
    ("VGG conv1_1", 64, 3, 64, (3, 3), 1, 18, 1),
    ("ResNet conv1", 64, 3, 64, (7, 7), 2, 11, 1),
    ("ResNet 64", 64, 64, 64, (3, 3), 1, 12, 1),
    ("ResNet 128", 64, 128, 128, (3, 3), 1, 10, 1),
    ("ResNet 256", 64, 256, 256, (3, 3), 1, 9, 1),
    ("ResNet 512", 64, 512, 512, (3, 3), 1, 7, 1),
    ("ResNet 64-128 s2", 64, 64, 128, (3, 3), 2, 9, 1),
    ("ResNet 64-128 1x1 s2", 64, 64, 128, (1, 1), 2, 9, 1),
    ("SqueezeNet conv1", 64, 3, 64, (3, 3), 2, 9, 1),
    ("SqueezeNet squeeze", 64, 128, 16, (1, 1), 1, 12, 1),
    ("SqueezeNet expand1", 64, 16, 64, (1, 1), 1, 12, 1),
    ("SqueezeNet expand3", 64, 16, 64, (3, 3), 1, 12, 1),
    ("SqueezeNet fire9", 64, 64, 256, (3, 3), 1, 10, 1),
    ("SqueezeNet conv10", 64, 512, 1000, (1, 1), 1, 10, 1),
    ("Lite0 dw3 s1 32", 64, 32, 32, (3, 3), 1, 14, 32),
    ("Lite0 dw3 s2 96", 64, 96, 96, (3, 3), 2, 10, 96),
    ("Lite0 dw3 s1 144", 64, 144, 144, (3, 3), 1, 12, 144),
    ("Lite0 dw5 s2 144", 64, 144, 144, (5, 5), 2, 8, 144),
    ("Lite0 dw5 s1 240", 64, 240, 240, (5, 5), 1, 12, 240),
    ("Lite0 dw5 s1 672", 64, 672, 672, (5, 5), 1, 14, 672),
    ("Lite0 dw5 s1 1152", 64, 1152, 1152, (5, 5), 1, 7, 1152),
    ("Lite0 dw3 s1 1152", 64, 1152, 1152, (3, 3), 1, 7, 1152),
    ("Lite0 expand 16-96", 64, 16, 96, (1, 1), 1, 16, 1),
    ("Lite0 expand 40-240", 64, 40, 240, (1, 1), 1, 12, 1),
    ("Lite0 project 96-24", 64, 96, 24, (1, 1), 1, 10, 1),
    ("Lite0 project 672-112", 64, 672, 112, (1, 1), 1, 14, 1),
    ("Lite0 expand 192-1152", 64, 192, 1152, (1, 1), 1, 7, 1),
    ("Lite0 head 320-1280", 64, 320, 1280, (1, 1), 1, 7, 1),
    ("Inception 1x7 192", 64, 192, 192, (1, 7), 1, 12, 1),
    ("Inception 7x1 192", 64, 192, 192, (7, 1), 1, 12, 1),
    ("Inception 3x3 96", 64, 96, 96, (3, 3), 1, 14, 1),
    ("Inception 5x5 48-64", 64, 48, 64, (5, 5), 1, 12, 1),
]


def session(weights: np.ndarray, bias: np.ndarray, stride: int, group: int) -> onnxruntime.InferenceSession:
    """Conv + Relu on ready-made windows."""
    conv = helper.make_node(
        "Conv", ["x", "w", "b"], ["c"], kernel_shape=weights.shape[2:], strides=[stride] * 2, group=group
    )
    graph = helper.make_graph(
        [conv, helper.make_node("Relu", ["c"], ["y"])], "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, weights.shape[1] * group, None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def compare(n: int, channels: int, outputs: int, kernel: tuple[int, int], stride: int, extent: int, group: int,
            repeat: int) -> tuple[float, float, float]:  # fmt: skip
    """Median seconds of ONNX Runtime and of ours, and the largest relative difference."""
    rng = np.random.default_rng(0)
    pads = [k // 2 for k in kernel]
    reads = [(extent - 1) * stride + k for k in kernel]
    frame = [read + 16 for read in reads]
    inner = [max(1, read - 2 * (k - 1)) for read, k in zip(reads, kernel, strict=True)]
    weights = rng.standard_normal((outputs, channels // group, *kernel), dtype=np.float32)
    weights /= np.sqrt(weights[0].size)
    bias = rng.standard_normal(outputs, dtype=np.float32)
    view = rng.standard_normal((1, *frame, channels), dtype=np.float32)
    patch = rng.standard_normal((n, *inner, channels), dtype=np.float32)
    origin = rng.integers(1 + pads[0], 5, (n, 2)) if stride == 1 else rng.integers(2, 4, (n, 2))
    start = origin * stride - pads
    patch_origin = start + [k - 1 for k in kernel]
    common = {"activation": "Relu", "clip_min": 0.0, "clip_max": 0.0}
    if kernel == (1, 1) and stride == 1:
        inputs = [patch, weights, bias]
        compute = KERNELS["PointwiseConv"].make(common, [None, weights, bias], False)
    else:
        attributes = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": pads * 2, "dilations": [1, 1],
                      "group": group, **common}  # fmt: skip
        inputs = [patch, patch_origin, view, weights, bias, origin, np.array([extent, extent])]
        compute = KERNELS["IncrementalConv"].make(attributes, [None] * 3 + [weights, bias, None, None], False)
    cut = np.empty((n, *reads, channels), np.float32)
    window = KERNELS["Window"].make({"pad_value": 0.0}, [None] * 5, False)
    window([patch, patch_origin, view, start, np.array(reads)], lambda index, shape: cut)
    windows = np.ascontiguousarray(cut.transpose(0, 3, 1, 2))
    reference = session(weights, bias, stride, group)
    out = np.empty((n, extent, extent, outputs), np.float32)

    def allocate(index: int, shape: tuple[int, ...]) -> np.ndarray:
        return out

    theirs, ours = [], []
    for _ in range(repeat + 1):
        begin = time.perf_counter()
        (expected,) = reference.run(None, {"x": windows})
        middle = time.perf_counter()
        compute(inputs, allocate)
        end = time.perf_counter()
        theirs.append(middle - begin)
        ours.append(end - middle)
    error = np.abs(out.transpose(0, 3, 1, 2) - expected).max() / np.abs(expected).max()
    return float(np.median(theirs[1:])), float(np.median(ours[1:])), float(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    print("| shape | ORT ms | ours ms | ours GFLOP/s | ratio | difference |\n|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for name, n, channels, outputs, kernel, stride, extent, group in SHAPES:
            if arguments.only not in name:
                continue
            theirs, ours, error = compare(n, channels, outputs, kernel, stride, extent, group, arguments.repeat)
            work = 2 * n * extent * extent * outputs * (channels // group) * kernel[0] * kernel[1]
            print(f"| {name} | {theirs * 1e3:.2f} | {ours * 1e3:.2f} | {work / ours / 1e9:.0f} "
                  f"| {theirs / ours:.2f} | {error:.0e} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
