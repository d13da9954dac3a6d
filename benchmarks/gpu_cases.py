"""What every kernel of ours is asked in a model: the nodes of its incremental graph, with real inputs.

The rewritten model runs in ONNX Runtime on the CPU, by its function bodies, for a few positions of the batch that a GPU
would compute first; what its nodes read there is repeated for the whole batch. Needs neither a GPU nor the native
library.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD
from krypton_onnx.rewriter.functions import DOMAIN
from krypton_onnx.rewriter.ort_sessions import open_session
from krypton_onnx.rewriter.plan import Plan, plan_of
from krypton_onnx.rewriter.weights import array_of
from krypton_onnx.runtime.batching import GeometryTable
from krypton_onnx.runtime.costs import GPU
from krypton_onnx.runtime.grid import Grid, make_grid
from krypton_onnx.runtime.schedule import exact_plan
from krypton_onnx.runtime.settings import session_options
from krypton_onnx.runtime.split import find_crossing, incremental_model, materialize_model

SAMPLED = 8  # positions that are truly computed, at most


@dataclass(frozen=True, eq=False)
class Case:
    """One kind of node. count: how many nodes of the model are like it; node: the first one's output.

    inputs: of `sampled` positions. constant: which of them are constants. positions: of the batch that it stands for.
    """

    node: str
    op_type: str
    attributes: dict[str, Any]
    inputs: tuple[np.ndarray | None, ...]
    constant: frozenset[int]
    count: int
    sampled: int
    positions: int

    @property
    def constants(self) -> list[np.ndarray | None]:
        """As Kernel.make wants them."""
        return [value if index in self.constant else None for index, value in enumerate(self.inputs)]

    def repeated(self, positions: int) -> list[np.ndarray | None]:
        """The inputs for so many positions: the sampled ones over and over."""
        rows = np.arange(positions) % self.sampled
        return [
            value[rows] if value is not None and index not in self.constant and self._by_position(value) else value
            for index, value in enumerate(self.inputs)
        ]

    def _by_position(self, value: np.ndarray) -> bool:
        origins = value.dtype == np.int64 and value.shape == (self.sampled, 2)
        return origins or (value.ndim == 4 and value.shape[0] == self.sampled)


def cases_of(
    model: onnx.ModelProto, image: np.ndarray, patch: tuple[int, int], stride: tuple[int, int],
    operators: Collection[str], threads: int, sampled: int = SAMPLED,
) -> list[Case]:  # fmt: skip
    """The kinds of nodes of a rewritten model whose operators are among these. image: (1, ...) as the model wants it.

    Raises ValueError where the model has no plan.
    """
    plan = plan_of(model)
    if plan is None:
        raise ValueError("the model was not rewritten")
    grid = make_grid(plan.image_shape[1:], patch, stride)
    positions, origins = batch_origins(plan, grid, sampled)
    values, incremental = _run(model, plan, image, grid, origins, operators, threads)
    constants = {tensor.name: array_of(tensor) for tensor in incremental.graph.initializer}
    found: dict[Any, Case] = {}
    for node in _nodes(incremental, operators):
        inputs = tuple(constants.get(name, values.get(name)) if name else None for name in node.input)
        constant = frozenset(index for index, name in enumerate(node.input) if name in constants)
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        shapes = tuple(None if value is None else value.shape for value in inputs)
        extents = tuple(tuple(v) for v in inputs if v is not None and v.dtype == np.int64 and v.shape == (2,))
        key = node.op_type, str(sorted(attributes.items())), shapes, extents
        before = found.get(key)
        count = 1 if before is None else before.count + 1
        first = before or Case(node.output[0], node.op_type, attributes, inputs, constant, 1, len(origins), positions)
        found[key] = Case(**{**vars(first), "count": count})
    return list(found.values())


def batch_origins(plan: Plan, grid: Grid, sampled: int) -> tuple[int, np.ndarray]:
    """How many positions a GPU would compute in its first batch, and some of them, int64 (n, 2), with the largest
    regions among them, so that extents are the whole batch's."""
    batch = exact_plan(plan, grid, costs=GPU).batches[0]
    table = GeometryTable(**plan.table())
    largest = []
    for axis, (where, chosen) in enumerate(((grid.tops, batch.rows), (grid.lefts, batch.cols))):
        extents = table.extents(axis, where[chosen], grid.patch[axis]).sum(axis=1)
        largest.append(int(np.argmax(extents)))
    origins = batch.origins(grid.tops, grid.lefts)
    spread = np.linspace(0, len(origins) - 1, min(max(2, sampled), len(origins))).astype(int)
    spread[len(spread) // 2] = largest[0] * len(batch.cols) + largest[1]
    return batch.size, origins[np.unique(spread)]


def _nodes(model: onnx.ModelProto, operators: Collection[str]) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == DOMAIN and node.op_type in operators]


def _run(
    model: onnx.ModelProto, plan: Plan, image: np.ndarray, grid: Grid, origins: np.ndarray,
    operators: Collection[str], threads: int,
) -> tuple[dict[str, np.ndarray], onnx.ModelProto]:  # fmt: skip
    """What the nodes read, by name, and the incremental model."""
    crossing = find_crossing(model)
    materialize = open_session(materialize_model(model, plan, crossing), session_options(threads))
    names = [value.name for value in materialize.get_outputs()]
    values = dict(zip(names, materialize.run(names, {plan.image_input: image}), strict=True))
    values |= dict.fromkeys(crossing.passed, image)
    values |= {ORIGIN: origins, THRESHOLD: np.ones(1, np.float32),
               PATCH: np.zeros((1, plan.image_shape[0], *grid.patch), np.float32)}  # fmt: skip
    incremental = incremental_model(model, plan, crossing)
    given = {value.name for value in incremental.graph.input} | {t.name for t in incremental.graph.initializer} | {""}
    wanted = dict.fromkeys(name for node in _nodes(incremental, operators) for name in node.input if name not in given)
    shown = onnx.ModelProto()
    shown.CopyFrom(incremental)
    there = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in there)
    session = open_session(shown, session_options(threads))
    feeds = {value.name: values[value.name] for value in session.get_inputs()}
    values |= zip(wanted, session.run(list(wanted), feeds), strict=True)
    return values, incremental
