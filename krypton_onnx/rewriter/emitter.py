"""What a rewriting rule works with: patch activations in, ai.krypton nodes out.

The emitter holds the graph under construction. Rules ask it for the view of a tensor, for the origin and extent of a
geometry (one PlaceRegions node computes them all), and emit nodes; they never touch the graph themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from onnx import helper

from krypton_onnx.rewriter.functions import DOMAIN
from krypton_onnx.rewriter.geometry import Geometry
from krypton_onnx.rewriter.normalize import BATCH
from krypton_onnx.rewriter.ort_graph import TensorType

ORIGIN, PATCH, THRESHOLD = "occlusion_origin", "occlusion_patch", "propagation_threshold"

NUMPY_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
}  # fmt: skip

# Types whose every value is a float32 too: pointwise operators may make them; they are views and windows as float32.
NARROW_TYPES = {
    "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16, "tensor(float16)": np.float16,
}  # fmt: skip


class NotIncremental(Exception):
    """Why an operator is computed on the full frame; the text completes '<operator> because ...'."""


@dataclass(frozen=True)
class Patch:
    """A patch activation: recomputed values inside a region of `base`'s frame, channels last, one a position.

    `layout` is base's: NCHW or NHWC. `origin` overrides the geometry's own origin where no operator placed it yet.
    """

    tensor: gs.Variable
    geometry: Geometry
    base: gs.Variable
    layout: str
    origin: gs.Variable | None = None

    def same_region(self, other: Patch) -> bool:
        return self.geometry == other.geometry and self.origin is other.origin


class Emitter:
    """The graph under construction and the memo of what was already emitted into it."""

    def __init__(self, graph: gs.Graph, types: Mapping[str, TensorType]) -> None:
        self.graph = graph
        self.types = types
        self.geometries: dict[Geometry, int] = {}
        self._readers = {name: len(tensor.outputs) for name, tensor in graph.tensors().items()}
        for result in graph.outputs:
            self._readers[result.name] = self._readers.get(result.name, 0) + 1
        self._views: dict[str, gs.Variable] = {}
        self._memo: dict[tuple, gs.Variable] = {}
        self.occlusion_origin = gs.Variable(ORIGIN, np.int64, ["positions", 2])
        self.occlusion_patch = gs.Variable(PATCH, np.float32)
        self.threshold = gs.Variable(THRESHOLD, np.float32, ["depths"])
        self.origins = gs.Variable("krypton/origins", np.int64)
        self.extents = gs.Variable("krypton/extents", np.int64)

    # -- what rules ask for ------------------------------------------------------------------------------------------

    def shape(self, tensor: gs.Tensor) -> tuple:
        """Shape as ONNX Runtime infers it; () where it is unknown."""
        return tuple(self.types.get(tensor.name, ("", ()))[1])

    def frame(self, tensor: gs.Tensor, layout: str) -> tuple[int, int]:
        """Height and width of a tensor. Raises NotIncremental where they are unknown."""
        shape = self.shape(tensor)
        sizes = shape[2:] if layout == "NCHW" else shape[1:3]
        if len(shape) != 4 or not all(isinstance(size, int) for size in sizes):
            raise NotIncremental("the height and width of its output are unknown")
        return int(sizes[0]), int(sizes[1])

    def same_shape(self, first: gs.Tensor, second: gs.Tensor) -> bool:
        return len(self.shape(first)) == 4 and self.shape(first)[1:] == self.shape(second)[1:]

    def is_read(self, tensor: gs.Variable) -> bool:
        """True where a node reads the tensor of the original graph, or it is a graph output."""
        return self._readers.get(tensor.name, 0) > 0

    def read_once(self, patch: Patch) -> bool:
        """True where one node, and no graph output, reads what the patch activation stands for."""
        return self._readers[patch.base.name] == 1

    def view(self, tensor: gs.Variable, layout: str) -> gs.Variable:
        """The channels-last view of a tensor of the base pass."""
        if layout == "NHWC" and self.is_float(tensor):
            return tensor
        if tensor.name not in self._views:
            shape = self.shape(tensor)
            channels, height, width = shape[1:] if layout == "NCHW" else (shape[3], shape[1], shape[2])
            view = gs.Variable(f"view/{tensor.name}", np.float32, [1, height, width, channels])
            source = tensor if self.is_float(tensor) else self.cast(tensor, f"{tensor.name}/float", np.float32)
            node = gs.Node("Transpose", view.name, {"perm": [0, 2, 3, 1]}, inputs=[source], outputs=[view])
            if layout == "NHWC":
                node.op, node.attrs = "Identity", {}
            elif tensor.inputs and tensor.inputs[0].op == "DequantizeLinear":
                # Behind a Transpose ONNX Runtime 1.31 quantizes again, to a wrong type from opset 21 on.
                node.op, node.attrs = "Einsum", {"equation": "nchw->nhwc"}
            self.graph.nodes.append(node)
            self._views[tensor.name] = view
        return self._views[tensor.name]

    def is_float(self, tensor: gs.Tensor) -> bool:
        """True where the tensor is float32, as views and what reads them are."""
        return self.types.get(tensor.name, ("tensor(float)",))[0] == "tensor(float)"

    def typed(self, tensor: gs.Variable) -> gs.Variable:
        """A tensor of the base pass that the incremental part reads as it is, where it is an input: with its type."""
        dtype, shape = self.types[tensor.name]
        sizes = [1 if axis == 0 and size == BATCH else size for axis, size in enumerate(shape)]
        tensor.dtype, tensor.shape = tensor.dtype or NUMPY_TYPES.get(dtype), tensor.shape or sizes
        return tensor

    def cast(self, tensor: gs.Tensor, name: str, dtype: np.dtype | type) -> gs.Variable:
        """The tensor as another type."""
        return self.emit("Cast", name, [tensor], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}, domain=None)

    def _as_base(self, tensor: gs.Variable, patch: Patch) -> gs.Variable:
        """float32 values cast to the type of the patch activation's base, where that is another."""
        if self.is_float(patch.base):
            return tensor
        return self.cast(tensor, f"{tensor.name}/cast", NARROW_TYPES[self.types[patch.base.name][0]])

    def origin(self, geometry: Geometry) -> gs.Variable:
        """int64 (positions, 2): top, left of every region."""
        return self._pick(self.origins, "origin", geometry)

    def extent(self, geometry: Geometry) -> gs.Variable:
        """int64 (2,): height, width of every region of the batch."""
        return self._pick(self.extents, "extent", geometry)

    def origin_of(self, patch: Patch) -> gs.Variable:
        return patch.origin if patch.origin is not None else self.origin(patch.geometry)

    def read(self, patch: Patch) -> list[gs.Variable]:
        """The three inputs by which an operator reads a patch activation laid over its view, as float32."""
        tensor = patch.tensor
        if not self.is_float(patch.base):
            key = ("float", patch.base.name)
            if key not in self._memo:
                self._memo[key] = self.cast(tensor, f"{patch.base.name}/patch", np.float32)
            tensor = self._memo[key]
        return [tensor, self.origin_of(patch), self.view(patch.base, patch.layout)]

    def window(self, patch: Patch, geometry: Geometry, name: str, pad_value: float = 0.0) -> gs.Variable:
        """The patch activation over its view, cut to another geometry's region."""
        inputs = [*self.read(patch), self.origin(geometry), self.extent(geometry)]
        return self._as_base(self.emit("Window", name, inputs, {"pad_value": pad_value}), patch)

    def window_of_constant(self, view: gs.Tensor, patch: Patch, channels: int, name: str) -> gs.Variable:
        """What `view`, float32 (1, H, W, channels) that no occlusion changes, holds in the region of a patch."""
        nothing = self.constant(f"{name}/nothing", np.zeros((1, 0, 0, channels), np.float32))
        origin = self.origin_of(patch)
        inputs = [nothing, origin, view, origin, self.extent(patch.geometry)]
        return self.emit("Window", name, inputs, {"pad_value": 0.0})

    def full(self, patch: Patch) -> gs.Variable:
        """The whole frame of every position, in the layout of the base tensor."""
        key = ("full", patch.base.name)
        if key not in self._memo:
            name = f"{patch.base.name}/full"
            operator = "FullFrame" if patch.layout == "NCHW" else "FullFrameNHWC"
            self._memo[key] = self._as_base(self.emit(operator, name, self.read(patch), {}), patch)
        return self._memo[key]

    def emit(
        self,
        op: str,
        name: str,
        inputs: Sequence[gs.Tensor],
        attributes: Mapping[str, object],
        domain: str | None = DOMAIN,
        outputs: int = 1,
    ) -> gs.Variable:
        """Append a node named krypton/<name>; its (first) output."""
        unique = f"krypton/{name}"
        results = [gs.Variable(unique if i == 0 else f"{unique}:{i}") for i in range(outputs)]
        node = gs.Node(op, unique, dict(attributes), inputs=list(inputs), outputs=results, domain=domain)
        self.graph.nodes.append(node)
        return results[0]

    def constant(self, name: str, value: np.ndarray) -> gs.Constant:
        return gs.Constant(f"krypton/{name}", value)

    def index(self, geometry: Geometry) -> int:
        """Row of a geometry in the table of regions."""
        return self.geometries.setdefault(geometry, len(self.geometries))

    # -- the geometry table ------------------------------------------------------------------------------------------

    def place_regions(self) -> None:
        """Emit the one node that computes every region that was asked for."""
        table = list(self.geometries)
        flat = {
            "jump": [axis.jump for row in table for axis in (row.y, row.x)],
            "before": [axis.before for row in table for axis in (row.y, row.x)],
            "after": [axis.after for row in table for axis in (row.y, row.x)],
            "scale": [axis.scale for row in table for axis in (row.y, row.x)],
            "frame": [size for row in table for size in row.frame],
        }
        inputs = [self.occlusion_origin, self.occlusion_patch, self.threshold]
        self.graph.nodes.append(
            gs.Node(
                "PlaceRegions", "krypton/regions", flat, inputs=inputs,
                outputs=[self.origins, self.extents], domain=DOMAIN,
            )
        )  # fmt: skip

    def _pick(self, table: gs.Variable, what: str, geometry: Geometry) -> gs.Variable:
        index = self.index(geometry)
        key = (what, index)
        if key not in self._memo:
            row = gs.Constant(f"krypton/row_{index}_{what}", np.array(index, np.int64))
            self._memo[key] = self.emit("Gather", f"{what}/{index}", [table, row], {"axis": 0}, domain=None)
        return self._memo[key]
