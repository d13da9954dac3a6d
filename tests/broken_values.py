"""Broken models: types, shapes, attributes, weights, and constants that unfold."""


import numpy as np
import onnx
from broken_base import (
    BROKEN,
    EITHER,
    HUGE,
    SIZE,
    SOUND,
    Change,
    add_case,
    before_the_first,
    case,
    set_attribute,
    set_shape,
)
from onnx import AttributeProto, TensorProto, helper, numpy_helper

# -- inputs and shapes ------------------------------------------------------------------------------------

for _name, _dims in {
    "rank_0": (), "rank_1": (2,), "rank_3": (2, SIZE, SIZE), "rank_5": (1, 2, SIZE, SIZE, 1),
    "other_channels": ("batch", 5, SIZE, SIZE), "a_huge_image": ("batch", 2, HUGE, HUGE),
    "a_large_image": (1, 2, 400_000, 400_000), "a_huge_height": (1, 2, 2**62, 1), "channels_of_0": (1, 0, SIZE, SIZE),
    "huge_channels": (1, HUGE, SIZE, SIZE), "nothing_known": (None,) * 4,
    "open_channels": ("n", "c", "h", "w"),
}.items():  # fmt: skip
    add_case(BROKEN, f"image_of_{_name}", lambda model, dims=_dims: set_shape(model, *dims))
for _name, _dims in {
    "batch_of_4": (4, 2, SIZE, SIZE), "batch_of_0": (0, 2, SIZE, SIZE), "batch_of_minus_1": (-1, 2, SIZE, SIZE),
    "one_name_for_all": ("n", "n", SIZE, SIZE), "a_height_of_0": ("batch", 2, 0, SIZE),
    "a_negative_width": ("batch", 2, SIZE, -3), "a_tiny_size": ("batch", 2, 1, 1),
}.items():  # fmt: skip
    add_case(EITHER, f"image_of_{_name}", lambda model, dims=_dims: set_shape(model, *dims))

for _type in ("UINT8", "DOUBLE", "STRING", "UNDEFINED", "COMPLEX64", "INT4", "FLOAT8E4M3FN"):
    add_case(
        BROKEN, f"image_of_type_{_type}",
        lambda m, t=_type: setattr(m.graph.input[0].type.tensor_type, "elem_type", getattr(TensorProto, t)),
    )  # fmt: skip
add_case(BROKEN, "image_of_type_77", lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77))


@case(BROKEN)
def an_image_without_a_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].ClearField("type")


@case(BROKEN)
def an_image_that_is_a_sequence(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("image", 1, [1, 2, SIZE, SIZE]))


@case(BROKEN)
def an_image_without_a_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


@case(BROKEN)
def two_images(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", 1, [1, 2, SIZE, SIZE]))


@case(EITHER)
def another_input_of_a_huge_shape(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", 1, [HUGE, HUGE]))


@case(EITHER)
def another_input_that_is_a_sequence(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_sequence_value_info("other", 1, [3]))


@case(EITHER)
def another_input_of_strings(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.STRING, [2]))


@case(EITHER)
def another_input_without_a_type(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.ValueInfoProto(name="other"))


for _name, _dims in {"other_sizes": ["batch", 7], "a_huge_size": ["batch", HUGE], "rank_0": []}.items():
    add_case(
        EITHER, f"an_output_declared_with_{_name}",
        lambda m, d=_dims: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", 1, d)),
    )  # fmt: skip
add_case(BROKEN, "an_output_of_another_type", lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 7))


@case(EITHER)
def wrong_value_info(model: onnx.ModelProto) -> None:
    for node in model.graph.node[:-1]:
        model.graph.value_info.append(helper.make_tensor_value_info(node.output[0], 7, [3, HUGE, 1]))


# -- attributes -------------------------------------------------------------------------------------------

for _op, _attr, _value in [
    ("Conv", "kernel_shape", [0, 0]), ("Conv", "kernel_shape", [-3, 3]), ("Conv", "kernel_shape", [3, 3, 3]),
    ("Conv", "kernel_shape", [HUGE, HUGE]), ("Conv", "kernel_shape", 3), ("Conv", "strides", [0, 0]),
    ("Conv", "strides", [-1, 1]), ("Conv", "strides", [1]), ("Conv", "strides", [HUGE, 1]),
    ("Conv", "dilations", [0, 1]), ("Conv", "dilations", [-1, -1]), ("Conv", "dilations", [HUGE, HUGE]),
    ("Conv", "pads", [-9, -9, -9, -9]), ("Conv", "pads", [1, 1]), ("Conv", "pads", [HUGE] * 4),
    ("Conv", "pads", [2**61] * 4), ("Conv", "pads", [200_000] * 4), ("Conv", "pads", "1,1,1,1"),
    ("Conv", "group", 0), ("Conv", "group", -1), ("Conv", "group", 2**33), ("Conv", "auto_pad", "SOMEHOW"),
    ("Conv", "auto_pad", b"\xff\xfe"), ("Conv", "pads", [1] * 100_000),
    ("MaxPool", "kernel_shape", None), ("MaxPool", "kernel_shape", [0, 0]), ("MaxPool", "kernel_shape", [-1, -1]),
    ("MaxPool", "strides", [0, 1]), ("MaxPool", "strides", [-2, -2]), ("MaxPool", "pads", [9, 9, 9, 9]),
    ("MaxPool", "kernel_shape", [HUGE, HUGE]), ("MaxPool", "dilations", [0, 0]), ("MaxPool", "ceil_mode", "yes"),
    ("MaxPool", "storage_order", 5), ("MaxPool", "strides", [2**62, 2**62]), ("Flatten", "axis", 9),
    ("Flatten", "axis", HUGE), ("Gemm", "transB", HUGE), ("Gemm", "alpha", "one"), ("Relu", "unheard", 1.0),
    ("Conv", "dilations", [2**62, 2**62]),
]:  # fmt: skip
    _text = str(_value)[:24].replace(" ", "")
    add_case(EITHER, f"{_op}_{_attr}_{_text}", lambda m, o=_op, a=_attr, v=_value: set_attribute(m, o, a, v))


@case(EITHER)
def an_attribute_of_no_type(model: onnx.ModelProto) -> None:
    for attribute in model.graph.node[0].attribute:
        attribute.type = 0


@case(BROKEN)
def an_attribute_of_an_unknown_type(model: onnx.ModelProto) -> bytes:
    model.graph.node[0].attribute[0].type = AttributeProto.GRAPHS
    return model.SerializeToString()


@case(EITHER)
def an_attribute_twice(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [2, 2]))


@case(BROKEN)
def an_attribute_that_refers_to_no_function(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "strides", "elsewhere", AttributeProto.INTS


# -- weights ----------------------------------------------------------------------------------------------

def _weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return model.graph.initializer[0]


def _set_dims(tensor: onnx.TensorProto, dims: list[int]) -> None:
    del tensor.dims[:]
    tensor.dims.extend(dims)


@case(BROKEN)
def weights_too_short(model: onnx.ModelProto) -> None:
    _weight(model).raw_data = _weight(model).raw_data[:-5]


@case(BROKEN)
def weights_without_data(model: onnx.ModelProto) -> None:
    _weight(model).ClearField("raw_data")


@case(BROKEN)
def weights_too_long(model: onnx.ModelProto) -> None:
    _weight(model).raw_data += bytes(64)


for _name, _dims in {
    "huge": [HUGE, HUGE], "negative": [-3, 2, 3, 3], "overflowing": [2**32, 2**32], "zero": [0, 2, 3, 3], "none": [],
    "large": [2**33],
}.items():  # fmt: skip
    add_case(BROKEN, f"weights_of_{_name}_dims", lambda m, d=_dims: _set_dims(_weight(m), d))
for _type in ("STRING", "INT64", "BOOL", "UNDEFINED", "DOUBLE", "COMPLEX128", "BFLOAT16"):
    add_case(
        BROKEN, f"weights_of_type_{_type}",
        lambda m, t=_type: setattr(_weight(m), "data_type", getattr(TensorProto, t)),
    )  # fmt: skip
add_case(BROKEN, "weights_of_type_99", lambda m: setattr(_weight(m), "data_type", 99))


@case(BROKEN)
def strings_as_weights(model: onnx.ModelProto) -> None:
    tensor = _weight(model)
    count = int(np.prod(tensor.dims))
    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.STRING, list(tensor.dims), ["x"] * count))


def _filled(model: onnx.ModelProto, value: float) -> None:
    for tensor in model.graph.initializer:
        array = np.full(numpy_helper.to_array(tensor).shape, value, np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


add_case(BROKEN, "weights_of_nan", lambda model: _filled(model, np.nan))
add_case(BROKEN, "weights_of_infinity", lambda model: _filled(model, np.inf))
add_case(EITHER, "weights_of_1e38", lambda model: _filled(model, 1e38))
add_case(SOUND, "weights_of_0", lambda model: _filled(model, 0.0))
add_case(SOUND, "weights_of_1e_minus_44", lambda model: _filled(model, 1e-44))


@case(EITHER)
def one_weight_is_nan(model: onnx.ModelProto) -> None:
    array = numpy_helper.to_array(_weight(model)).copy()
    array.flat[3] = np.nan
    _weight(model).CopyFrom(numpy_helper.from_array(array, _weight(model).name))


@case(EITHER)
def sparse_weights(model: onnx.ModelProto) -> None:
    tensor = _weight(model)
    array = numpy_helper.to_array(tensor).copy().ravel()
    values = numpy_helper.from_array(array[:2], tensor.name)
    indices = numpy_helper.from_array(np.array([0, 1], np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, list(tensor.dims)))
    del model.graph.initializer[0]


@case(BROKEN)
def sparse_weights_outside_their_shape(model: onnx.ModelProto) -> None:
    sparse_weights(model)
    sparse = model.graph.sparse_initializer[0]
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([5, 2**40], np.int64), "indices"))


@case(BROKEN)
def sparse_weights_of_a_huge_shape(model: onnx.ModelProto) -> None:
    sparse_weights(model)
    del model.graph.sparse_initializer[0].dims[:]
    model.graph.sparse_initializer[0].dims.extend([HUGE, 2, 3, 3])


@case(EITHER)
def weights_in_pieces(model: onnx.ModelProto) -> None:
    _weight(model).segment.begin, _weight(model).segment.end = 0, 5


# -- constants that unfold --------------------------------------------------------------------------------

def _unfolding(op_type: str, *inputs: object, **attributes: object) -> Change:
    """The image plus the sum of something enormous, made of a few bytes."""

    def change(model: onnx.ModelProto) -> None:
        names = []
        for number, value in enumerate(inputs):
            names.append(f"input{number}")
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        made = helper.make_node(op_type, names, ["enormous"], **attributes)
        cast = helper.make_node("Cast", ["enormous"], ["floats"], to=1)
        summed = helper.make_node("ReduceMean", ["floats"], ["mean"], keepdims=0)
        before_the_first(model, made, cast, summed, helper.make_node("Add", ["image", "mean"], ["changed"]))

    return change


_FLOAT = np.zeros(1, np.float32)
for _name, _change in {
    "ConstantOfShape": _unfolding("ConstantOfShape", np.array([HUGE], np.int64)),
    "ConstantOfShape_of_8_gb": _unfolding("ConstantOfShape", np.array([2**31], np.int64)),
    "Expand": _unfolding("Expand", _FLOAT, np.array([2**35], np.int64)),
    "Tile": _unfolding("Tile", _FLOAT, np.array([2**35], np.int64)),
    "Range": _unfolding("Range", np.int64(0), np.int64(2**40), np.int64(1)),
    "Pad": _unfolding("Pad", _FLOAT, np.array([2**34, 2**34], np.int64)),
    "Resize": _unfolding("Upsample", _FLOAT, np.array([1e11], np.float32)),
    "negative_ConstantOfShape": _unfolding("ConstantOfShape", np.array([-5], np.int64)),
    "Range_of_step_0": _unfolding("Range", np.int64(0), np.int64(9), np.int64(0)),
    "Range_of_nan": _unfolding("Range", np.float32(0), np.float32(np.nan), np.float32(1)),
}.items():
    add_case(BROKEN, f"an_enormous_{_name}", _change)


@case(BROKEN)
def an_enormous_activation(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 40_000, 40_000], np.float32), "scales"))
    before_the_first(model, helper.make_node("Resize", ["image", "", "scales"], ["changed"]))


@case(BROKEN)
def an_enormous_pad(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([0, 0, 10**6, 10**6, 0, 0, 10**6, 10**6], np.int64), "pads")
    )
    before_the_first(model, helper.make_node("Pad", ["image", "pads"], ["changed"]))
