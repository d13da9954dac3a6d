"""The plan of a model that has no incremental form, and its logits as outputs: as much as full inference needs."""

from __future__ import annotations

import onnx

from krypton_onnx.rewriter.normalize import with_input_shape
from krypton_onnx.rewriter.plan import OperatorRecord, Plan
from krypton_onnx.rewriter.rewrite import RESHAPING, image_layout


def unrewritten_plan(
    model: onnx.ModelProto, image_input: str, refusal: str, input_shape: tuple[int, ...] | None = None
) -> Plan:
    """Every operator is global. refusal : why. Raises ModelError where the image's height or width stays unknown."""
    sized = onnx.ModelProto()
    sized.graph.input.extend(model.graph.input)
    sized.graph.initializer.extend(onnx.TensorProto(name=weight.name) for weight in model.graph.initializer)
    with_input_shape(sized, image_input, input_shape)
    image = next(value for value in sized.graph.input if value.name == image_input)
    first, second, third = (dim.dim_value for dim in image.type.tensor_type.shape.dim[1:])
    layout = image_layout(model, image_input)
    operators = tuple(
        OperatorRecord(node.name or next(iter(node.output), ""), node.op_type, "global", None, 0, 0, refusal)
        for node in model.graph.node
        if node.op_type != "Constant"
    )
    logits = _logits(model)
    return Plan(
        image_input, layout, (first, second, third) if layout == "NCHW" else (third, first, second),
        tuple(value.name for value in model.graph.output),
        {output: (before, before) for output, (before, _) in logits.items()}, (), operators, refusal,
        {output: activation for output, (_, activation) in logits.items() if activation},
    )  # fmt: skip


def _logits(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Per output, the tensor before its last Softmax or Sigmoid, where it has one, and which of the two: as the
    rewriter finds it. "" where control flow would hide it."""
    producer = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for output in model.graph.output:
        name = output.name
        while name in producer and producer[name].op_type in RESHAPING and producer[name].input:
            name = producer[name].input[0]
        if name in producer and producer[name].op_type in ("Softmax", "Sigmoid"):
            before = producer[name].input[0]
            found[output.name] = (before, producer[name].op_type.lower())
        elif name in producer and any(attribute.HasField("g") for attribute in producer[name].attribute):
            found[output.name] = ("", "")
    return found


def with_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    """The model (changed in place) with these tensors as outputs too; ONNX Runtime infers their types."""
    have = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    return model
