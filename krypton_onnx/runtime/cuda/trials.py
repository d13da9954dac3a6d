"""Timing the two forms of a convolution: the node alone, on a batch like the ones to come, in either form."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from krypton_onnx.forking import native
from krypton_onnx.rewriter.functions import DOMAIN
from krypton_onnx.runtime.cuda.forms import FORMS, Form, Shape, convolutions, in_forms
from krypton_onnx.runtime.cuda.placed_session import PlacedSession, Placing
from krypton_onnx.runtime.cuda.target import Target
from krypton_onnx.runtime.settings import session_options

ROUNDS = 5  # of which the median counts; one more before them is not timed

_INPUTS = {
    "IncrementalConv": (
        "patch", "patch_origin", "view", "W", "B", "origin", "extent", "residual", "residual_origin", "residual_view"
    ),
    "PointwiseConv": ("patch", "W", "B", "origin", "residual", "residual_origin", "residual_view"),
}  # fmt: skip


class Trials:
    """The convolutions of an incremental model, and what one takes in either form.

    convolutions : node and shape, by the name of the node's output.
    """

    def __init__(
        self, model: onnx.ModelProto, indices: Mapping[str, np.ndarray], views: Mapping[str, tuple[int, ...]],
        positions: int, target: Target, strict: bool,
    ) -> None:  # fmt: skip
        """indices : as placed for a batch of so many positions. views : their shapes (1, H, W, C)."""
        self._model, self._views, self._target, self._strict = model, views, target, strict
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        regions = _regions(model, indices, target)
        self.convolutions: dict[str, tuple[onnx.NodeProto, Shape]] = {}
        for node in convolutions(model):
            read = _operands(node)
            known = read["W"] in self._constants and read["B"] in self._constants
            region = regions.get(node.output[0])
            if known and region is not None:
                self.convolutions[node.output[0]] = node, self._shape(node, read, region, positions)

    def _shape(
        self, node: onnx.NodeProto, read: Mapping[str, str], region: tuple[int, int], positions: int
    ) -> Shape:
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        return Shape(
            node.op_type, tuple(self._constants[read["W"]].dims), tuple(given.get("strides", (1, 1))),
            tuple(given.get("pads", (0, 0, 0, 0))), tuple(given.get("dilations", (1, 1))), given.get("group", 1),
            region, positions,
        )  # fmt: skip

    def seconds(self, node: onnx.NodeProto, shape: Shape) -> dict[Form, float]:
        """Median seconds of a run of this node in each form, runs taken in turn."""
        host, device = self._inputs(node, shape)
        model = self._alone(node, host, device)
        runs = {}
        for form in FORMS:
            formed = in_forms(model, {node.output[0]: form}, self._target.kernels)
            placing = Placing(formed, tuple(host), (), session_options)
            runs[form] = placing(host), PlacedSession(formed, placing, self._target, session_options(1), self._strict)
        times: dict[Form, list[float]] = {form: [] for form in FORMS}
        for _ in range(ROUNDS + 1):
            for form, (indices, session) in runs.items():
                began = time.perf_counter()
                with native():
                    session.run(indices, device, host, tuple(node.output), fetch=False)
                times[form].append(time.perf_counter() - began)
        return {form: median(each[1:]) for form, each in times.items()}

    def _inputs(
        self, node: onnx.NodeProto, shape: Shape
    ) -> tuple[dict[str, np.ndarray], dict[str, ort.OrtValue]]:
        """Indices, and data in the device's memory, for a batch whose regions lie in the middle of the frame."""
        read = _operands(node)
        count, (height, width) = shape.positions, shape.region
        outputs, each = shape.weights[:2]
        rows, columns = self._views.get(read.get("view", ""), (1, height, width, 0))[1:3]
        top, left = (max(0, rows // shape.strides[0] - height) // 2, max(0, columns // shape.strides[1] - width) // 2)
        place = np.broadcast_to(np.array([top, left], np.int64), (count, 2)).copy()
        source = place * np.array(shape.strides, np.int64)
        extent = min(rows, height * shape.strides[0]), min(columns, width * shape.strides[1])
        residual_view = self._views.get(read.get("residual_view", ""), (1, 1, 1, outputs))
        random = np.random.default_rng(0)

        def data(*sizes: int) -> ort.OrtValue:
            return self._target.value(random.standard_normal(sizes, np.float32))

        host = {"patch_origin": source, "origin": place, "extent": np.array(shape.region, np.int64),
                "residual_origin": place}  # fmt: skip
        device = {"patch": lambda: data(count, *extent, each * shape.group),
                  "view": lambda: data(1, rows, columns, each * shape.group),
                  "residual": lambda: data(count, height, width, outputs),
                  "residual_view": lambda: data(*residual_view)}  # fmt: skip
        return (
            {read[name]: value for name, value in host.items() if read.get(name)},
            {read[name]: make() for name, make in device.items() if read.get(name)},
        )

    def _alone(
        self, node: onnx.NodeProto, host: Mapping[str, np.ndarray], device: Mapping[str, ort.OrtValue]
    ) -> onnx.ModelProto:
        """A model of this node only."""
        model = onnx.ModelProto(ir_version=self._model.ir_version)
        model.opset_import.extend(self._model.opset_import)
        model.functions.extend(self._model.functions)
        graph = model.graph
        graph.name = "one convolution"
        graph.node.append(node)
        graph.initializer.extend(self._constants[name] for name in node.input if name in self._constants)
        for name, array in host.items():
            graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.INT64, array.shape))
        for name in device:
            graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4))
        graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
        return model


def _operands(node: onnx.NodeProto) -> dict[str, str]:
    """What a convolution reads, by the names of its function's inputs."""
    names = next(names for family, names in _INPUTS.items() if node.op_type.startswith(family))
    return dict(zip(names, node.input, strict=False))


def _regions(
    model: onnx.ModelProto, indices: Mapping[str, np.ndarray], target: Target
) -> dict[str, tuple[int, int]]:
    """The (height, width) of every patch activation, as far as an extent tells it: what has none keeps its input's."""
    extents = {kernel.op_type: kernel.host for kernel in target.kernels}
    regions: dict[str, tuple[int, int]] = {}
    for node in model.graph.node:
        named = extents.get(node.op_type, ()) if node.domain == DOMAIN else ()
        found = [indices[node.input[at]] for at in named if at < len(node.input) and node.input[at] in indices]
        if found and found[0].shape == (2,):
            region: tuple[int, int] | None = (int(found[0][0]), int(found[0][1]))
        else:
            region = next((regions[name] for name in node.input if name in regions), None)
        if region is not None:
            regions.update(dict.fromkeys(node.output, region))
    return regions
