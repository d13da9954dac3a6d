"""Rewrite a normalized model into one file: the base pass, and its incremental twin for N occluded images at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from krypton_onnx.errors import ModelError
from krypton_onnx.rewriter.emitter import ORIGIN, PATCH, THRESHOLD, Emitter, NotIncremental, Patch
from krypton_onnx.rewriter.functions import DOMAIN, VERSION, functions_for
from krypton_onnx.rewriter.geometry import image_geometry
from krypton_onnx.rewriter.normalize import BATCH, Normalized
from krypton_onnx.rewriter.operators import FINAL_NAMES, FUNCTIONS, HANDLERS, POINTWISE, Rule
from krypton_onnx.rewriter.plan import METADATA_KEY, OperatorRecord, Plan

MIN_IR_VERSION = 8  # model-local functions need 8
UNOCCLUDED = "unoccluded_"

_NUMPY_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}  # fmt: skip

# Global by nature: every output value reads the whole frame.
_MIXING = {"Flatten", "Reshape", "Gemm", "MatMul", "GlobalMaxPool", "InstanceNormalization", "GroupNormalization"}
_AVERAGED = "it averages the frame into one vector a position, by an exact running sum of what changed"
_RESHAPING = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze")
_JOINS = "it joins a patch activation with a tensor that already needed the full frame"


def rewrite(normalized: Normalized) -> onnx.ModelProto:
    """The rewritten model. Raises ModelError where control flow depends on the image."""
    return _Rewriting(normalized).run()


class _Rewriting:
    """One rewrite: walks the nodes in order and keeps, for every tensor, its Patch or its per-position result."""

    def __init__(self, normalized: Normalized) -> None:
        self.normalized = normalized
        self.graph = gs.import_onnx(normalized.model)
        self.graph.toposort()
        self.emitter = Emitter(self.graph, normalized.types)
        self.patches: dict[str, Patch] = {}
        self.results: dict[str, gs.Variable] = {}  # tensors with one full value a position
        self.records: list[OperatorRecord] = []
        self._repeats: dict[str, gs.Variable] = {}

    def run(self) -> onnx.ModelProto:
        _refuse_reserved_names(self.graph)
        image = next(tensor for tensor in self.graph.inputs if tensor.name == self.normalized.image_input)
        layout = image_layout(self.normalized.model, image.name)
        self._enter(image, layout)
        nodes = list(self.graph.nodes)
        for node in nodes:
            self._visit(node)
        logits = self._logits()
        outputs = self._outputs()
        self.emitter.place_regions()
        shape = self.emitter.shape(image)
        channels, height, width = shape[1:] if layout == "NCHW" else (shape[3], shape[1], shape[2])
        # Names last: a logit that is an output itself was renamed with it.
        named_logits = {output: (pair[0].name, pair[1].name) for output, pair in logits.items()}
        plan = Plan(
            image.name, layout, (int(channels), int(height), int(width)), outputs, named_logits,
            tuple(self.emitter.geometries), tuple(self.records),
        )  # fmt: skip
        return self._export(image, plan)

    # -- the walk ----------------------------------------------------------------------------------------------------

    def _enter(self, image: gs.Variable, layout: str) -> None:
        emitter = self.emitter
        geometry = image_geometry(emitter.frame(image, layout))
        emitter.index(geometry)
        shape = emitter.shape(image)
        emitter.occlusion_patch.shape = ["patches", shape[1 if layout == "NCHW" else 3], "patch_height", "patch_width"]
        occluded = emitter.emit("OccludeInput", "occluded", [emitter.occlusion_origin, emitter.occlusion_patch], {})
        self.patches[image.name] = Patch(occluded, geometry, image, layout, emitter.occlusion_origin)

    def _visit(self, node: gs.Node) -> None:
        touched = [t.name for t in node.inputs if t.name in self.patches or t.name in self.results]
        _refuse_control_flow(node, {*self.patches, *self.results})
        if not touched:
            return
        operands = [self.patches.get(tensor.name, tensor) for tensor in node.inputs]
        if not any(isinstance(operand, Patch) for operand in operands):
            self._emit_global(node)
            self._record(node, "global", reason="an operator before it ended the incremental part")
            return
        if node.op == "Shape":
            self._emit_shape(node)
            return
        try:
            if any(tensor.name in self.results for tensor in node.inputs):
                raise NotIncremental("it mixes all cells of the frame" if node.op in _MIXING else _JOINS)
            self._require_float(node)
            outcome = self._rule(node)(node, operands, self.emitter)
        except NotIncremental as reason:
            self._emit_global(node)
            self._record(node, "global", reason=str(reason), frontier=True)
            return
        if isinstance(outcome, Patch):
            self.patches[node.outputs[0].name] = outcome
            kind = "pointwise" if node.op in POINTWISE or outcome.tensor.inputs[0].op == "PointwiseConv" else "local"
            self._record(node, kind, outcome)
        else:
            self.results[node.outputs[0].name] = outcome
            self._record(node, "global", reason=_AVERAGED, frontier=True)

    def _rule(self, node: gs.Node) -> Rule:
        if node.op in HANDLERS and (node.domain or "") in ("", "ai.onnx"):
            return HANDLERS[node.op]
        reason = "it mixes all cells of the frame" if node.op in _MIXING else "it has no incremental form here"
        raise NotIncremental(reason)

    def _require_float(self, node: gs.Node) -> None:
        """Views and patch activations are float32; a rule needs to look at no other type."""
        dtype = self.normalized.types.get(node.outputs[0].name, ("tensor(float)",))[0]
        if dtype != "tensor(float)":
            raise NotIncremental(f"its result is {dtype}, and only float32 is incremental")

    def _record(
        self, node: gs.Node, kind: str, patch: Patch | None = None, reason: str | None = None, frontier: bool = False
    ) -> None:
        index, channels = None, 0
        if patch is not None:
            index = self.emitter.index(patch.geometry)
            channels = int(self.emitter.shape(patch.base)[1 if patch.layout == "NCHW" else 3])
        self.records.append(
            OperatorRecord(node.name, node.op, kind, index, channels, self._multiply_adds(node), reason, frontier)
        )

    def _multiply_adds(self, node: gs.Node) -> int:
        """Convolution multiply-adds of one full inference (the seed's equations 10-14 count convolutions only)."""
        if node.op != "Conv":
            return 0
        output, weights = self.emitter.shape(node.outputs[0]), node.inputs[1].shape
        return int(np.prod(weights)) * int(np.prod(output[2:])) if weights and all(output[2:]) else 0

    # -- what is computed on the full frame --------------------------------------------------------------------------

    def _value(self, tensor: gs.Tensor) -> gs.Tensor:
        """What a full-frame operator reads for `tensor`: one full value a position, or the tensor itself."""
        if tensor.name in self.results:
            return self.results[tensor.name]
        if tensor.name in self.patches:
            return self.emitter.full(self.patches[tensor.name])
        if isinstance(tensor, gs.Variable) and tensor.name in self.normalized.types:
            # It crosses from the base pass into the incremental part, which needs its type as a graph input.
            dtype, shape = self.normalized.types[tensor.name]
            tensor.dtype = tensor.dtype or _NUMPY_TYPES.get(dtype)
            sizes = [1 if axis == 0 and size == BATCH else size for axis, size in enumerate(shape)]
            tensor.shape = tensor.shape or sizes
            if shape and isinstance(shape[0], str):
                return self._repeated(tensor, shape)
        return tensor

    def _repeated(self, tensor: gs.Variable, shape: tuple) -> gs.Variable:
        """What does not depend on the image (another input of the model), once a position: batch 1 becomes N."""
        emitter = self.emitter
        if tensor.name not in self._repeats:
            ones = emitter.constant(f"{tensor.name}/ones", np.ones(len(shape) - 1, np.int64))
            count = emitter.emit(
                "Shape", f"{tensor.name}/count", [emitter.occlusion_origin], {"start": 0, "end": 1}, domain=None
            )
            target = emitter.emit("Concat", f"{tensor.name}/repeat", [count, ones], {"axis": 0}, domain=None)
            self._repeats[tensor.name] = emitter.emit(
                "Expand", f"{tensor.name}/repeated", [tensor, target], {}, domain=None
            )
        return self._repeats[tensor.name]

    def _emit_global(self, node: gs.Node) -> None:
        inputs = [self._value(tensor) for tensor in node.inputs]
        name = f"krypton/{node.name}"
        outputs = [
            gs.Variable("" if output.is_empty() else f"krypton/{output.name}/result") for output in node.outputs
        ]
        self.graph.nodes.append(gs.Node(node.op, name, dict(node.attrs), inputs, outputs, domain=node.domain))
        for output, result in zip(node.outputs, outputs, strict=True):
            if not output.is_empty():
                self.results[output.name] = result

    def _emit_shape(self, node: gs.Node) -> None:
        """Shape of a patch activation's full tensor: (positions, known dimensions), without building the tensor."""
        emitter = self.emitter
        known = emitter.constant(f"{node.name}/known", np.array(emitter.shape(node.inputs[0])[1:], np.int64))
        count = emitter.emit(
            "Shape", f"{node.name}/count", [emitter.occlusion_origin], {"start": 0, "end": 1}, domain=None
        )
        shape = emitter.emit("Concat", f"{node.name}/shape", [count, known], {"axis": 0}, domain=None)
        if node.attrs.get("start", 0) or "end" in node.attrs:
            start = emitter.constant(f"{node.name}/start", np.array([node.attrs.get("start", 0)], np.int64))
            end = emitter.constant(f"{node.name}/end", np.array([node.attrs.get("end", 4)], np.int64))
            shape = emitter.emit("Slice", f"{node.name}/slice", [shape, start, end], {}, domain=None)
        self.results[node.outputs[0].name] = shape

    # -- the finished model ------------------------------------------------------------------------------------------

    def _logits(self) -> dict[str, tuple[gs.Tensor, gs.Tensor]]:
        """Per output, the tensors (per position, unoccluded) before its last Softmax or Sigmoid, where it has one."""
        logits = {}
        for output in self.graph.outputs:
            tensor = output
            while tensor.inputs and tensor.inputs[0].op in _RESHAPING:
                tensor = tensor.inputs[0].inputs[0]
            if tensor.inputs and tensor.inputs[0].op in ("Softmax", "Sigmoid"):
                before = tensor.inputs[0].inputs[0]
                logits[output.name] = (self._value(before), before)
        return logits

    def _outputs(self) -> tuple[str, ...]:
        names: list[str] = []
        results: list[gs.Variable] = []
        bases: list[gs.Variable] = []
        for output in self.graph.outputs:
            name = output.name
            result = self._value(output)
            untouched = output.name not in self.patches and output.name not in self.results
            if untouched or any(result is other for other in results):  # or one tensor under two names
                result = self.emitter.emit("Identity", f"{name}/result", [result], {}, domain=None)
            if isinstance(output, gs.Constant):  # an output that depends on no input at all
                constant = gs.Constant(f"krypton/{name}/constant", np.asarray(output.values))
                result.inputs[0].inputs[0] = constant
                output = self.emitter.emit("Identity", f"{name}/base", [constant], {}, domain=None)
            dtype, shape = self.normalized.types[name]
            output.name = UNOCCLUDED + name
            output.shape = [size if isinstance(size, int) or axis else 1 for axis, size in enumerate(shape)]
            result.name = name
            output.dtype = result.dtype = _NUMPY_TYPES[dtype]
            result.shape = list(output.shape) if untouched else [BATCH, *shape[1:]]
            names.append(name)
            results.append(result)
            bases.append(output)
        self.graph.outputs = [*results, *bases]
        return tuple(names)

    def _export(self, image: gs.Variable, plan: Plan) -> onnx.ModelProto:
        graph, emitter = self.graph, self.emitter
        image.shape = [1, *emitter.shape(image)[1:]]
        graph.inputs = [*graph.inputs, emitter.occlusion_origin, emitter.occlusion_patch, emitter.threshold]
        graph.cleanup().toposort()
        for node in graph.nodes:
            if node.domain == DOMAIN and node.op in FINAL_NAMES:
                node.op = FINAL_NAMES[node.op](node)
        model = gs.export_onnx(graph, do_type_check=False)
        opset = self.normalized.opset
        imports = [entry for entry in self.normalized.model.opset_import if entry.domain not in ("", "ai.onnx", DOMAIN)]
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION), *imports])
        needed = helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
        model.ir_version = max(needed, MIN_IR_VERSION)
        model.producer_name = "krypton-onnx"
        model.functions.extend(functions_for(model.graph.node, FUNCTIONS, opset))
        model.metadata_props.extend(self.normalized.model.metadata_props)
        model.metadata_props.add(key=METADATA_KEY, value=plan.to_json())
        return model


def image_layout(model: onnx.ModelProto, image: str) -> str:
    """NHWC where the image reaches its first Conv through one Transpose to NCHW (tf2onnx), else NCHW."""
    reached = {image}
    for node in model.graph.node:  # in topological order
        if not reached.intersection(node.input):
            continue
        if node.op_type == "Transpose":
            perm = next((tuple(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), ())
            return "NHWC" if perm == (0, 3, 1, 2) else "NCHW"
        if node.op_type in ("Conv", "MaxPool", "AveragePool"):
            return "NCHW"
        reached.update(node.output)
    return "NCHW"


def _refuse_reserved_names(graph: gs.Graph) -> None:
    reserved = {ORIGIN, PATCH, THRESHOLD}
    taken = sorted(
        name for name in graph.tensors() if name in reserved or name.startswith((UNOCCLUDED, "krypton/", "view/"))
    )
    if taken:
        raise ModelError(f"the model names a tensor '{taken[0]}', a name of the rewritten model: rename it")


def _refuse_control_flow(node: gs.Node, changed: Mapping | set) -> None:
    for attribute in node.attrs.values():
        if isinstance(attribute, gs.Graph):
            outer = {tensor.name for inner in attribute.nodes for tensor in inner.inputs} | {
                tensor.name for tensor in node.inputs
            }
            if outer & set(changed):
                raise ModelError(
                    f"{node.op} node '{node.name}' depends on the image: control flow is not supported in this version"
                )
