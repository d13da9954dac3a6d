"""Normalize an imported model: static height and width, dynamic batch, folded constants, opset the bodies need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from krypton_onnx.errors import ModelError, NotRewritable
from krypton_onnx.rewriter.batch_axis import mixed_images
from krypton_onnx.rewriter.ort_graph import MAX_IR_VERSION, TensorType, basic_optimized, opset_of, tensor_types
from krypton_onnx.rewriter.passes.affine_into_conv import fold_affine_into_conv
from krypton_onnx.rewriter.passes.batch_norm import lower_batch_norm
from krypton_onnx.rewriter.passes.cast_like import name_casts
from krypton_onnx.rewriter.passes.dense_cells import multiply_cells
from krypton_onnx.rewriter.passes.dequantized_constants import fold_dequantized_constants
from krypton_onnx.rewriter.passes.dilated_average_pool import lower_dilated_average_pool
from krypton_onnx.rewriter.passes.dynamic_batch import free_batch
from krypton_onnx.rewriter.passes.explicit_pads import write_explicit_pads
from krypton_onnx.rewriter.passes.flat_movement import lower_flat_movement
from krypton_onnx.rewriter.passes.floor_pools import floor_first_pools
from krypton_onnx.rewriter.passes.global_pool import name_global_average_pool
from krypton_onnx.rewriter.passes.kept_axis import keep_gathered_axis
from krypton_onnx.rewriter.passes.known_shapes import write_known_shapes
from krypton_onnx.rewriter.passes.moved_axes import name_moved_axes
from krypton_onnx.rewriter.passes.moved_channels import name_moved_channels
from krypton_onnx.rewriter.passes.nested_concat import nest_concats
from krypton_onnx.rewriter.passes.pad_into_pool import fold_pad_into_pool
from krypton_onnx.rewriter.passes.shape_constants import fold_shape_constants
from krypton_onnx.rewriter.passes.wide_floats import has_float16, widen_floats
from krypton_onnx.rewriter.upgrade import upgraded
from krypton_onnx.rewriter.weights import export

# Types of an image beside float32: a model casts them first.
OTHER_IMAGE_TYPES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.UINT8)
BODY_OPSET = 18  # the function bodies use reductions and Shape as of opset 18
BATCH = "positions"
_FOLDING_ROUNDS = 64  # run-time shapes that depend on run-time shapes: one round a level, until nothing folds


@dataclass(frozen=True)
class Normalized:
    """A model ready to be rewritten, with the type of each of its tensors."""

    model: onnx.ModelProto
    image_input: str
    types: Mapping[str, TensorType]

    @property
    def opset(self) -> int:
        return opset_of(self.model)


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not initializers (old IR versions list both)."""
    initialized = {initializer.name for initializer in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initialized]


def input_dims(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...]:
    """Dimensions of a graph input: int where known, else its symbol or None."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else (dim.dim_param or None)
        for dim in value.type.tensor_type.shape.dim
    )


def _is_of(value: onnx.ValueInfoProto, types: tuple[int, ...]) -> bool:
    return value.type.tensor_type.elem_type in types


def find_image_input(model: onnx.ModelProto, name: str | None) -> str:
    """The name of the image input. Raises ModelError where there is none, or several and no choice was made.

    An input of another type than float32 is the image only where none is of that type.
    """
    pictures = [value for value in graph_inputs(model) if len(input_dims(value)) == 4]
    float_images = [value.name for value in pictures if _is_of(value, (onnx.TensorProto.FLOAT,))]
    others = [value.name for value in pictures if _is_of(value, OTHER_IMAGE_TYPES)]
    if name is not None:
        if name in (*float_images, *others):
            return name
        have = ", ".join([*float_images, *others]) or "none"
        raise ModelError(f"image input '{name}': no such image input of rank 4; the model has: {have}")
    float_images = float_images or others
    if not float_images:
        raise ModelError("the model has no image input (float32, float16 or uint8, of rank 4); is it an image model?")
    if len(float_images) > 1:
        names = ", ".join(float_images)
        raise ModelError(f"several inputs could be the image ({names}): choose one with --image-input NAME")
    return float_images[0]


def with_input_shape(model: onnx.ModelProto, image_input: str, shape: tuple[int, ...] | None) -> onnx.ModelProto:
    """The model with the image input's height, width and channels fixed. Raises ModelError where one stays unknown."""
    value = next(value for value in graph_inputs(model) if value.name == image_input)
    dims = list(input_dims(value))
    if shape is not None:
        if not isinstance(shape, Sequence) or not all(isinstance(size, (int, np.integer)) for size in shape):
            raise ModelError(f"input shape of '{image_input}' must be 4 integers, got {shape!r}")
        if len(shape) != 4:
            raise ModelError(f"input shape of '{image_input}' needs 4 dimensions, got {len(shape)}")
        if min(shape[1:]) < 1:
            raise ModelError(f"input shape {tuple(shape)} of '{image_input}' has no pixels")
        for axis in range(1, 4):
            if isinstance(dims[axis], int) and dims[axis] != shape[axis]:
                raise ModelError(
                    f"input shape {tuple(shape)} of '{image_input}' contradicts the model's {tuple(dims)}"
                )
            dims[axis] = int(shape[axis])
    if not all(isinstance(dim, int) for dim in dims[1:]):
        text = ",".join(str(dim if isinstance(dim, int) else "?") for dim in [1, *dims[1:]])
        raise ModelError(
            f"height or width of the image input '{image_input}' is unknown ({text}): "
            f"give it with --input-shape {image_input}:1,3,224,224"
        )
    for axis in range(1, 4):
        value.type.tensor_type.shape.dim[axis].dim_value = dims[axis]
    if not isinstance(dims[0], int):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    return model


def _fix_initializers(model: onnx.ModelProto) -> None:
    """Before IR version 4 every initializer is an input too, which may be overridden: nothing would be constant."""
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def normalize(
    model: onnx.ModelProto, image_input: str | None = None, input_shape: tuple[int, ...] | None = None
) -> Normalized:
    """Normalize `model` (changed in place where convenient).

    Raises ModelError where the image input is missing or ambiguous, its height or width unknown, ONNX Runtime cannot
    load the model; NotRewritable where its opset cannot be upgraded, its fixed batch cannot be made dynamic safely, or
    the images of a batch influence each other.
    """
    image = find_image_input(model, image_input)
    model = with_input_shape(model, image, input_shape)
    _fix_initializers(model)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    metadata = list(model.metadata_props)
    if has_float16(model.graph):
        tensor_types(model)  # ONNX Runtime must take it as it is
        widen_floats(model)
    model = upgraded(basic_optimized(model), BODY_OPSET)
    model, types = _with_true_shapes(model)
    graph = gs.import_onnx(model)
    image_tensor = next(tensor for tensor in graph.inputs if tensor.name == image)
    lower_flat_movement(graph, types)
    name_moved_channels(graph, types)
    reason = free_batch(graph, image_tensor, types, BATCH)
    if reason is not None:
        raise NotRewritable(f"the model's fixed batch cannot be made dynamic: {reason}; export it with a dynamic batch")
    graph.toposort()
    reason = mixed_images(graph, image_tensor, types)
    if reason is not None:
        raise NotRewritable(f"images of a batch influence each other: {reason}")
    name_casts(graph, types)
    fold_dequantized_constants(graph)
    lower_batch_norm(graph, types)
    fold_affine_into_conv(graph)
    keep_gathered_axis(graph)
    fold_pad_into_pool(graph)
    write_explicit_pads(graph, types)
    lower_dilated_average_pool(graph, types)
    name_global_average_pool(graph, types)
    graph.toposort()
    nest_concats(graph)
    _name_nodes(graph)
    graph.cleanup().toposort()
    model = _exported(graph, model)
    model.metadata_props.extend(metadata)
    types = tensor_types(model)
    for node in model.graph.node:
        shape = types.get(node.output[0], ("", ()))[1]
        if any(isinstance(dim, int) and dim < 1 for dim in shape):
            where = f"{node.op_type} node '{node.name}'"
            raise ModelError(f"{where} has an output of shape {shape}: is the image too small?")
    return Normalized(model, image, types)


def _with_true_shapes(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Mapping[str, TensorType]]:
    """The model with run-time shapes folded and ceil_mode written out, and the types of its tensors."""
    types = tensor_types(model)
    rounds = 0
    while True:
        graph = gs.import_onnx(model)
        graph.toposort()
        again = floor_first_pools(graph, types) or write_known_shapes(graph, types)
        again = again or name_moved_axes(graph, types) or multiply_cells(graph, types)
        model = _exported(graph, model)
        if again:
            types = tensor_types(model)
            continue
        if rounds == _FOLDING_ROUNDS or not fold_shape_constants(graph, types):
            return model, types
        model = basic_optimized(_exported(graph, model))
        types = tensor_types(model)
        rounds += 1


def _exported(graph: gs.Graph, like: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` as a ModelProto with the versions of `like` (graphsurgeon writes the newest IR otherwise)."""
    model = export(graph)
    model.ir_version = min(max(like.ir_version, 8), MAX_IR_VERSION)
    del model.opset_import[:]
    model.opset_import.extend(like.opset_import)
    del model.graph.value_info[:]
    return model


def _name_nodes(graph: gs.Graph) -> None:
    """Unnamed nodes take their output's name, so that every message can name one."""
    for node in graph.nodes:
        node.name = node.name or node.outputs[0].name
