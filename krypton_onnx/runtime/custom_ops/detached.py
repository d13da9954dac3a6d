"""Constants that kernels turn into something else when a session is created, kept out of that session.

A session holds its initializers as long as it lives, and makes several copies while it is created. Weights that a
kernel has transformed would only be one more copy.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import helper, numpy_helper

from krypton_onnx.forking import reset_in_children
from krypton_onnx.numba_kernels.registry import Kernel

ATTRIBUTE = "detached"
"""Of a node: "index=key ..." for the inputs whose values are handed over aside."""

_EMPTY = "krypton_onnx_detached"

_lock = threading.Lock()
_numbers = itertools.count()
_constants: dict[str, np.ndarray] = {}


def detach(model: onnx.ModelProto, kernels: Iterable[Kernel], domain: str) -> dict[str, np.ndarray]:
    """Take from the model, in place, the initializers that kernels consume. Returns them: key -> values."""
    consumed = {kernel.op_type: kernel.consumed for kernel in kernels}
    graph = model.graph
    uses: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    kept = {value.name for value in graph.output}
    for node in graph.node:
        ours = consumed.get(node.op_type, ()) if node.domain == domain else ()
        for index, name in enumerate(node.input):
            if index in ours:
                uses.setdefault(name, []).append((node, index))
            else:
                kept.add(name)
    taken: dict[str, np.ndarray] = {}
    left = []
    for tensor in graph.initializer:
        if tensor.name not in uses or tensor.name in kept or tensor.data_type != onnx.TensorProto.FLOAT:
            left.append(tensor)
            continue
        key = f"{next(_numbers)}"
        taken[key] = numpy_helper.to_array(tensor)
        for node, index in uses[tensor.name]:
            node.input[index] = _EMPTY
            _add(node, f"{index}={key}")
    if taken:
        left.append(numpy_helper.from_array(np.zeros(0, np.float32), _EMPTY))
        del graph.initializer[:]
        graph.initializer.extend(left)
    return taken


def _add(node: onnx.NodeProto, entry: str) -> None:
    for attribute in node.attribute:
        if attribute.name == ATTRIBUTE:
            attribute.s += b" " + entry.encode()
            return
    node.attribute.append(helper.make_attribute(ATTRIBUTE, entry))


@contextmanager
def provided(constants: Mapping[str, np.ndarray]) -> Iterator[None]:
    """While the session of the model that they were taken from is created."""
    with _lock:
        _constants.update(constants)
    try:
        yield
    finally:
        with _lock:
            for key in constants:
                del _constants[key]


def constants_of(text: str) -> dict[int, np.ndarray]:
    """The values that an ATTRIBUTE names, by input."""
    pairs = (entry.split("=") for entry in text.split())
    return {int(index): _constants[key] for index, key in pairs}


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


reset_in_children(_new_lock)
