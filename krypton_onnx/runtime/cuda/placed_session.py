"""One model on a device, its index arithmetic on the CPU: two ONNX Runtime sessions that run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.numba_kernels.regions import PLACE_REGIONS
from krypton_onnx.rewriter.functions import DOMAIN
from krypton_onnx.rewriter.ort_sessions import open_session
from krypton_onnx.runtime import custom_ops
from krypton_onnx.runtime.cuda.placing import IndexPart, Placed, cut, index_part, placing_model, value_info
from krypton_onnx.runtime.cuda.target import Target
from krypton_onnx.runtime.custom_ops.detached import detach, provided

Options = Callable[[int], ort.SessionOptions]
"""Session options for so many threads."""


class Placing:
    """The index part of a model, on the CPU: what regions lie where."""

    def __init__(
        self, model: onnx.ModelProto, roots: Collection[str], shaped: Collection[str], options: Options
    ) -> None:
        """roots, shaped : as for index_part."""
        self.part: IndexPart = index_part(model.graph, roots, shaped)
        self.types: dict[str, onnx.ValueInfoProto] = {}
        self._session: ort.InferenceSession | None = None
        placing = placing_model(model, self.part)
        if not placing.graph.output:  # every index is given
            return
        own = options(1)
        custom_ops.register(own, [PLACE_REGIONS])
        self._session = open_session(placing, own, whose="the rewritten model")
        for value in self._session.get_outputs():
            self.types[value.name] = value_info(value.name, value.type)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every index that operators on data read, by name. feeds : the roots, and the inputs whose shapes are read."""
        placed = {name: feeds[name] for name in self.part.results if name in feeds}
        if self._session is not None:
            read = {value.name: feeds[value.name] for value in self._session.get_inputs()}
            placed |= zip(self.types, self._session.run(list(self.types), read), strict=True)
        return placed


class PlacedSession:
    """A model whose data stays on the device. Not for several threads at once: they would share kernels' scratch.

    uploaded, handed : as of Placed. operators : types of the nodes that run on the device.
    """

    def __init__(
        self, model: onnx.ModelProto, placing: Placing, target: Target, options: ort.SessionOptions, strict: bool
    ) -> None:
        """placing : of this very model object. options : changed here, give new ones."""
        placed: Placed = cut(model, placing.part, placing.types, target.kernels)
        self._target = target
        self.uploaded, self.handed = placed.uploaded, placed.handed
        self.operators = tuple(node.op_type for node in placed.device.graph.node)
        custom_ops.register(options, target.kernels, strict, target.device)
        taken = detach(placed.device, target.kernels, DOMAIN)
        with provided(taken):
            self.session = open_session(placed.device, options, *target.search(), "the rewritten model")
        target.device.wait()  # for the weights of kernels
        self._inputs = {value.name for value in self.session.get_inputs()}

    def run(
        self,
        indices: Mapping[str, np.ndarray],
        values: Mapping[str, ort.OrtValue],
        others: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        fetch: bool = True,
    ) -> list[np.ndarray]:
        """Outputs as NumPy arrays; with fetch=False they stay on the device, and [] is returned.

        indices : what `placing` gave. values : in the device's memory. others : in host memory.
        """
        target = self._target
        binding = self.session.io_binding()
        for name, value in values.items():
            if name in self._inputs:
                binding.bind_ortvalue_input(name, value)
        for name in (*self.handed, *others):
            if name in self._inputs:
                array = indices[name] if name in indices else others[name]
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
        packed = self._bind_packed(binding, indices)
        for name in outputs:
            binding.bind_output(name, *(("cpu",) if fetch else (target.memory, target.number)))
        self.session.run_with_iobinding(binding)
        del packed  # it was read until here
        return binding.copy_outputs_to_cpu() if fetch else []

    def _bind_packed(self, binding: ort.IOBinding, indices: Mapping[str, np.ndarray]) -> ort.OrtValue | None:
        """All origins in one copy over the bus, each bound to its part of it."""
        names = [name for name in self.uploaded if name in self._inputs]
        if not names:
            return None
        arrays = [np.ascontiguousarray(indices[name], np.int64) for name in names]
        packed = self._target.value(np.concatenate([array.ravel() for array in arrays]))
        address = packed.data_ptr()
        for name, array in zip(names, arrays, strict=True):
            binding.bind_input(
                name, self._target.memory, self._target.number, np.int64, list(array.shape), address
            )
            address += prod(array.shape) * array.itemsize
        return packed
