"""Convolutions of the size that networks have, by their CUDA kernels and their CPU twins.

They would take minutes in the simulator, so they are not found by default: test_cuda_compiles.py runs them compiled for
the CPU. Where there is a GPU: KRYPTON_TEST_CUDA=1 pytest tests/test_cuda_kernels.py tests/cuda_real_sizes.py
"""

import numpy as np
import pytest
from cuda_cases import run_on_cpu, run_on_device
from operator_models import ROUNDING, WINOGRAD, assert_close

from krypton_onnx.numba_kernels.cuda import columns


def convolution_of_real_size(kernel, channels, outputs, stride, groups, positions, frame, extent):
    """Inputs and attributes, with a residual; frame and extent are the input's, and square."""
    rng = np.random.default_rng(channels)
    pads, each = [taps // 2 for taps in kernel], channels // groups
    output = [(frame + 2 * pad - taps) // stride + 1 for pad, taps in zip(pads, kernel, strict=True)]
    region = [min(-(-extent // stride) + 1, side) for side in output]

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def places(size) -> np.ndarray:
        return np.stack([rng.integers(0, side - length + 1, positions) for side, length in size], axis=1)

    inputs = [
        floats(positions, extent, extent, channels), places([(frame, extent)] * 2), floats(1, frame, frame, channels),
        floats(outputs, each, *kernel) / np.float32(np.sqrt(each * kernel[0] * kernel[1])), floats(outputs),
        places(zip(output, region, strict=True)), np.array(region),
        floats(positions, 4, 5, outputs), places([(output[0], 4), (output[1], 5)]), floats(1, *output, outputs),
    ]  # fmt: skip
    attributes = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": pads * 2, "dilations": [1, 1],
                  "group": groups, "activation": "Relu"}  # fmt: skip
    return "IncrementalConvAddRelu", inputs, attributes


@pytest.mark.parametrize(
    ("kernel", "channels", "outputs", "stride", "groups", "positions", "frame", "extent"),
    [
        ((3, 3), 64, 96, 1, 1, 40, 56, 19),  # Winograd, in several chunks
        ((3, 3), 512, 512, 1, 1, 8, 14, 9),
        ((1, 7), 128, 192, 1, 1, 9, 17, 12),
        ((5, 5), 32, 48, 1, 1, 9, 27, 11),
        ((3, 3), 128, 128, 2, 1, 50, 56, 22),
        ((7, 7), 3, 64, 2, 1, 64, 224, 24),
        ((3, 3), 96, 96, 1, 96, 30, 56, 20),
        ((3, 3), 64, 64, 1, 4, 20, 28, 9),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_a_convolution_of_real_size(
    kernel, channels, outputs, stride, groups, positions, frame, extent, strict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "SCRATCH_FLOATS", 1 << 20)  # so that these are large
    example = convolution_of_real_size(kernel, channels, outputs, stride, groups, positions, frame, extent)
    expected = run_on_cpu(*example, strict)
    assert_close([run_on_device(*example, strict)], [expected], ROUNDING if strict else WINOGRAD)
