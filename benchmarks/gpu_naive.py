"""Full inference on the GPU by ONNX Runtime as it comes: what exact maps are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from krypton_onnx.runtime.grid import Grid
from krypton_onnx.runtime.naive import occluded

BATCH_SIZES = (1, 8, 16, 32, 64, 128, 256)
PROBE_SECONDS = 0.25  # a batch size is timed for this long, and at least three times
CLEARLY_SLOWER = 1.3  # two batch sizes in a row that are this much slower than the best end the search
COMPARED = 32  # images of a run whose scores are compared

Providers = Sequence[Any]
Measure = Callable[[Callable[[], object], int], tuple[float, float]]
"""Milliseconds by the device's events and by the host's clock, of so many calls of some work."""


def plain_session(model: Path | bytes, providers: Providers) -> ort.InferenceSession:
    """ONNX Runtime, default options. Raises RuntimeError where it would run on another provider than the first."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    session = ort.InferenceSession(source, options, providers=list(providers))
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != first:
        raise RuntimeError(f"full inference runs on {session.get_providers()[0]}, not on {first}")
    return session


class GpuNaive:
    """The original model. Images lie in the device's memory before the clock starts; scores come back."""

    def __init__(
        self, path: Path, image: np.ndarray, layout: str, grid: Grid, output: str, providers: Providers,
        memory: str = "cuda",
    ) -> None:  # fmt: skip
        """image : (1, ...) in the model's layout. memory : ONNX Runtime's name of the device's."""
        self._image, self._layout, self._grid, self._output = image, layout, grid, output
        self._memory = memory
        self._session = plain_session(path, providers)
        value = self._session.get_inputs()[0]
        self._input = value.name
        self.batch_sizes = (value.shape[0],) if isinstance(value.shape[0], int) else BATCH_SIZES
        channels = image.shape[1] if layout == "NCHW" else image.shape[3]
        self._fill = np.zeros((1, channels, *grid.patch), np.float32)
        self.batch, self.probed = self.batch_sizes[0], dict[int, float]()
        self.failed: dict[int, str] = {}

    def baseline(self) -> np.ndarray:
        """Scores of the image as it is, float32 (classes,)."""
        return self._infer(np.repeat(self._image, self.batch_sizes[0], axis=0))[0]

    def _infer(self, images: np.ndarray) -> np.ndarray:
        return self._session.run([self._output], {self._input: images})[0].reshape(len(images), -1)

    def scores(self, cells: np.ndarray) -> np.ndarray:
        """float32 (n, classes) of positions, int64 (n, 2) of (row, column)."""
        size = self.batch_sizes[0] if len(self.batch_sizes) == 1 else COMPARED
        found = []
        for first in range(0, len(cells), size):
            some = cells[first : first + size]
            full = some[np.arange(size) % len(some)]  # runs of one size, for which algorithms are looked for once
            images = occluded(
                self._image, self._layout, self._grid.tops[full[:, 0]], self._grid.lefts[full[:, 1]], self._fill
            )
            found.append(self._infer(images)[: len(some)])
        return np.concatenate(found)

    def ready(self, batch: int) -> Callable[[], object]:
        """A run of so many images, whose memory is there and whose algorithms are found."""
        images = ort.OrtValue.ortvalue_from_numpy(np.repeat(self._image, batch, axis=0), self._memory, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, images)
        binding.bind_output(self._output, "cpu")

        def run() -> object:
            self._session.run_with_iobinding(binding)
            return images  # which must live as long as this

        run()
        run()
        return run

    def find_batch(self, measure: Measure) -> None:
        """The batch size of the least time a position. probed: milliseconds by size; failed: why one did not run."""
        worse = 0
        for batch in self.batch_sizes:
            try:
                run = self.ready(batch)
                times: list[float] = []
                began = time.perf_counter()
                while len(times) < 3 or time.perf_counter() - began < PROBE_SECONDS:
                    times.append(measure(run, 1)[1])
            except Exception as error:  # out of memory, most likely: larger ones will not fit either
                self.failed[batch] = " ".join(str(error).split())[:200]
                break
            self.probed[batch] = float(np.median(times)) / batch
            worse = worse + 1 if self.probed[batch] > CLEARLY_SLOWER * min(self.probed.values()) else 0
            if worse == 2:
                break
        if not self.probed:
            raise RuntimeError(f"full inference does not run: {next(iter(self.failed.values()))}")
        self.batch = min(self.probed, key=lambda size: self.probed[size])
