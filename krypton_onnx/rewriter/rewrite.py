"""Rewrite a normalized model into one file: the base pass, and its incremental twin for N occluded images at once."""

from __future__ import annotations

from functools import reduce

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from krypton_onnx.errors import NotRewritable
from krypton_onnx.rewriter.emitter import (
    NARROW_TYPES,
    NUMPY_TYPES,
    Emitter,
    NotIncremental,
    Patch,
)
from krypton_onnx.rewriter.functions import DOMAIN, VERSION, functions_for
from krypton_onnx.rewriter.geometry import Geometry, image_geometry
from krypton_onnx.rewriter.normalize import BATCH, Normalized
from krypton_onnx.rewriter.operators import ANY_TYPE, FINAL_NAMES, FUNCTIONS, HANDLERS, POINTWISE, Rule, freezing
from krypton_onnx.rewriter.ort_graph import known_dims
from krypton_onnx.rewriter.passes.whole_sizes import size_all_axes
from krypton_onnx.rewriter.plan import METADATA_KEY, OperatorRecord, Plan
from krypton_onnx.rewriter.refusals import refuse_control_flow, refuse_reserved_names
from krypton_onnx.rewriter.weights import export
from krypton_onnx.rewriter.work import head_products, multiply_adds

MIN_IR_VERSION = 8  # model-local functions need 8
UNOCCLUDED = "unoccluded_"

# Global by nature: every output value reads the whole frame.
_MIXING = {"Flatten", "Reshape", "Gemm", "MatMul", "GlobalMaxPool", "InstanceNormalization", "GroupNormalization"}
# Operators whose inputs all have the batch on axis 0 and are not broadcast along it.
_SAME_BATCH = {"Attention", "Concat", "GatherElements", "GridSample", "MaxUnpool", "ScatterElements"}
_AVERAGED = "it averages the frame into one vector a position, by an exact running sum of what changed"
RESHAPING = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze")
_JOINS = "it joins a patch activation with a tensor that already needed the full frame"


def rewrite(normalized: Normalized, frozen: bool = False) -> onnx.ModelProto:
    """The rewritten model; frozen: the one that goes on, approximately, where it would end (operators/freezing.py).

    Raises NotRewritable where control flow depends on the image.
    """
    return _Rewriting(normalized, frozen).run()


class _Rewriting:
    """One rewrite: walks the nodes in order and keeps, for every tensor, its Patch or its per-position result."""

    def __init__(self, normalized: Normalized, frozen: bool = False) -> None:
        self.normalized = normalized
        self.frozen = frozen
        self.graph = gs.import_onnx(normalized.model)
        self.graph.toposort()
        self.emitter = Emitter(self.graph, normalized.types)
        self.patches: dict[str, Patch] = {}
        self.results: dict[str, gs.Variable] = {}  # tensors with one full value a position
        self.sources: dict[str, Geometry] = {}  # of some results: the region of the patch activations behind them
        self.records: list[OperatorRecord] = []
        self._repeats: dict[str, gs.Variable] = {}

    def run(self) -> onnx.ModelProto:
        refuse_reserved_names(self.graph, UNOCCLUDED)
        image = next(tensor for tensor in self.graph.inputs if tensor.name == self.normalized.image_input)
        layout = image_layout(self.normalized.model, image.name)
        self._enter(image, layout)
        nodes = list(self.graph.nodes)
        for node in nodes:
            self._visit(node)
        logits = self._logits()
        outputs = self._outputs()
        self.emitter.place_regions()
        size_all_axes(self.graph)
        shape = self.emitter.shape(image)
        channels, height, width = shape[1:] if layout == "NCHW" else (shape[3], shape[1], shape[2])
        # Names last: a logit that is an output itself was renamed with it.
        named_logits = {output: (found[0].name, found[1].name) for output, found in logits.items()}
        plan = Plan(
            image.name, layout, (int(channels), int(height), int(width)), outputs, named_logits,
            tuple(self.emitter.geometries), tuple(self.records),
            activations={output: found[2] for output, found in logits.items()},
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
        dtype = emitter.types[image.name][0]
        if dtype != "tensor(float)":  # occluded images are of the image's type, and so are their roundings
            occluded = emitter.cast(occluded, "occluded/cast", NARROW_TYPES[dtype])
        self.patches[image.name] = Patch(occluded, geometry, image, layout, emitter.occlusion_origin)

    def _visit(self, node: gs.Node) -> None:
        touched = [t.name for t in node.inputs if t.name in self.patches or t.name in self.results]
        refuse_control_flow(node, {*self.patches, *self.results})
        if not touched:
            return
        freezable = freezing.reenters(node, self.sources, self.emitter)
        if freezable and self.frozen:
            self._reenter(node.inputs[0])
        operands = [self.patches.get(tensor.name, tensor) for tensor in node.inputs]
        if not any(isinstance(operand, Patch) for operand in operands):
            self._emit_global(node)
            reason = "an operator before it ended the incremental part"
            self._record(node, "global", reason=reason, freezable=freezable)
            return
        if node.op == "Shape":
            self._emit_shape(node)
            return
        try:
            outcome, kind = self._outcome(node, operands)
        except NotIncremental as reason:
            self._emit_global(node)
            freezable = freezing.continues(node, operands, self.results, self.emitter)
            self._record(node, "global", reason=str(reason), frontier=True, freezable=freezable)
            return
        if isinstance(outcome, (Patch, list)):  # one, or one an output
            patches = [patch for patch in (outcome if isinstance(outcome, list) else [outcome]) if patch is not None]
            self.patches.update((patch.base.name, patch) for patch in patches)
            self._record(node, kind, patches[0])
        else:
            self.results[node.outputs[0].name] = outcome
            self._remember_source(node)
            self._record(node, kind, reason=_AVERAGED, frontier=True)

    def _outcome(self, node: gs.Node, operands: list) -> tuple[Patch | list[Patch | None] | gs.Variable, str]:
        """What a rule makes of the node, or else what freezes it; and its kind. Raises NotIncremental."""
        joins = any(tensor.name in self.results for tensor in node.inputs)
        try:
            if joins:
                raise NotIncremental("it mixes all cells of the frame" if node.op in _MIXING else _JOINS)
            self._require_types(node)
            outcome = self._rule(node)(node, operands, self.emitter)
        except NotIncremental:
            if not (self.frozen and freezing.applies(node, operands, self.results, self.emitter)):
                raise
            outcome = freezing.rewrite(node, operands, self.results, self.emitter)
            return outcome, "frozen" if isinstance(outcome, Patch) else "global"
        if not isinstance(outcome, (Patch, list)):
            return outcome, "global"
        pointwise = node.op in POINTWISE or (isinstance(outcome, Patch) and self._same_cells(node, outcome))
        return outcome, "pointwise" if pointwise else "local"

    def _same_cells(self, node: gs.Node, outcome: Patch) -> bool:
        """True where every cell of the outcome reads the same cell of the node's input alone."""
        before = self.patches.get(node.inputs[0].name)
        return before is not None and before.same_region(outcome)

    def _remember_source(self, node: gs.Node) -> None:
        """The region of the patch activations behind a result, where they are all of one frame."""
        regions = [self.patches[tensor.name].geometry for tensor in node.inputs if tensor.name in self.patches]
        regions += [self.sources[tensor.name] for tensor in node.inputs if tensor.name in self.sources]
        if regions and all(region.aligned(regions[0]) for region in regions):
            union = reduce(Geometry.union, regions)
            self.sources.update((output.name, union) for output in node.outputs)

    def _reenter(self, tensor: gs.Variable) -> None:
        """Cut a result to the region that it came from: frozen from here on."""
        result, geometry = self.results.pop(tensor.name), self.sources.pop(tensor.name)
        self.patches[tensor.name] = freezing.reenter(tensor, result, geometry, self.emitter)

    def _rule(self, node: gs.Node) -> Rule:
        if node.op in HANDLERS and (node.domain or "") in ("", "ai.onnx"):
            return HANDLERS[node.op]
        reason = "it mixes all cells of the frame" if node.op in _MIXING else "it has no incremental form here"
        raise NotIncremental(reason)

    def _require_types(self, node: gs.Node) -> None:
        """Views are float32. Only operators that run as they are on patch activations take or make narrower types."""
        for tensor in (*node.inputs, node.outputs[0]):
            dtype = self.normalized.types.get(tensor.name, ("tensor(float)",))[0]
            patch = tensor.name in self.patches or tensor is node.outputs[0]
            if patch and dtype != "tensor(float)" and not (dtype in NARROW_TYPES and node.op in ANY_TYPE):
                raise NotIncremental(f"it works on {dtype}, and views hold float32")

    def _record(
        self, node: gs.Node, kind: str, patch: Patch | None = None, reason: str | None = None, frontier: bool = False,
        freezable: bool = False,
    ) -> None:  # fmt: skip
        index, channels, elements = None, 0, 0
        if patch is None:
            dims = known_dims(self.emitter.shape(node.outputs[0])[1:])
            elements = 0 if dims is None else int(np.prod(dims))
        else:
            index = self.emitter.index(patch.geometry)
            channels = int(self.emitter.shape(patch.base)[1 if patch.layout == "NCHW" else 3])
        self.records.append(
            OperatorRecord(
                node.name, node.op, kind, index, channels, multiply_adds(node, self.emitter.shape), reason, frontier,
                head_products(node, self.emitter.shape), freezable, elements,
            )
        )  # fmt: skip

    # -- what is computed on the full frame --------------------------------------------------------------------------

    def _value(self, tensor: gs.Tensor) -> gs.Tensor:
        """What a full-frame operator reads for `tensor`: one full value a position, or the tensor itself."""
        if tensor.name in self.results:
            return self.results[tensor.name]
        if tensor.name in self.patches:
            return self.emitter.full(self.patches[tensor.name])
        if isinstance(tensor, gs.Variable) and tensor.name in self.normalized.types:
            shape = self.emitter.shape(self.emitter.typed(tensor))
            if shape and isinstance(shape[0], str):
                return self._repeated(tensor, shape)
        return tensor

    def _of_every_position(self, tensor: gs.Tensor) -> gs.Tensor:
        """As _value, for an operator that does not broadcast a batch of 1: what it reads is repeated."""
        value = self._value(tensor)
        if isinstance(value, gs.Constant) and np.ndim(value.values) > 1 and np.shape(value.values)[0] == 1:
            return self._repeated(value, np.shape(value.values))
        shape = self.emitter.shape(tensor)
        unchanged = value is tensor and not isinstance(value, gs.Constant)
        return self._repeated(value, shape) if unchanged and len(shape) > 1 and shape[0] == 1 else value

    def _repeated(self, tensor: gs.Tensor, shape: tuple) -> gs.Variable:
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
        inputs = [
            self._of_every_position(tensor) if node.op in _SAME_BATCH else self._value(tensor) for tensor in node.inputs
        ]
        name = f"krypton/{node.name}"
        outputs = [
            gs.Variable("" if output.is_empty() else f"krypton/{output.name}/result") for output in node.outputs
        ]
        self.graph.nodes.append(gs.Node(node.op, name, dict(node.attrs), inputs, outputs, domain=node.domain))
        for output, result in zip(node.outputs, outputs, strict=True):
            if not output.is_empty():
                self.results[output.name] = result
        self._remember_source(node)

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

    def _logits(self) -> dict[str, tuple[gs.Tensor, gs.Tensor, str]]:
        """Per output, the tensors (per position, unoccluded) before its last Softmax or Sigmoid, where it has one, and
        which of the two."""
        logits = {}
        for output in self.graph.outputs:
            tensor = output
            while tensor.inputs and tensor.inputs[0].op in RESHAPING:
                tensor = tensor.inputs[0].inputs[0]
            if tensor.inputs and tensor.inputs[0].op in ("Softmax", "Sigmoid"):
                before = tensor.inputs[0].inputs[0]
                logits[output.name] = (self._value(before), before, tensor.inputs[0].op.lower())
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
            if dtype not in NUMPY_TYPES:
                raise NotRewritable(f"its output '{name}' is {dtype}, which no rewritten model can have")
            output.dtype = result.dtype = NUMPY_TYPES[dtype]
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
        model = export(graph)
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
