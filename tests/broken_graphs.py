"""Broken models: versions, metadata, nodes and names, functions and control flow."""


import numpy as np
import onnx
from broken_base import (
    BROKEN,
    EITHER,
    SOUND,
    add_case,
    before_the_first,
    case,
    node_of,
    set_attribute,
)
from onnx import TensorProto, helper, numpy_helper

# -- what surrounds the graph -----------------------------------------------------------------------------

@case(BROKEN)
def no_graph(model: onnx.ModelProto) -> None:
    model.ClearField("graph")


@case(EITHER)
def no_operator_sets(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


for _opset in (0, -1, 99, 2**31, -(2**62)):
    add_case(BROKEN, f"opset_{_opset}", lambda model, o=_opset: setattr(model.opset_import[0], "version", o))
add_case(EITHER, "opset_1", lambda model: setattr(model.opset_import[0], "version", 1))
add_case(EITHER, "opset_7", lambda model: setattr(model.opset_import[0], "version", 7))
add_case(BROKEN, "ir_0", lambda model: setattr(model, "ir_version", 0))
for _ir in (-5, 1, 2, 99, 2**40):
    add_case(EITHER, f"ir_{_ir}", lambda model, ir=_ir: setattr(model, "ir_version", ir))


@case(EITHER)
def two_versions_of_one_set(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("", 11))
    model.opset_import.append(helper.make_opsetid("ai.onnx", 9))


@case(SOUND)
def an_unused_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 3))


@case(SOUND)
def odd_metadata(model: onnx.ModelProto) -> None:
    for key in ("", "krypton", "key", "key"):
        model.metadata_props.add(key=key, value="\n\t\u2028" * 3)


for _name, _plan in {
    "text": "no json", "empty": "", "a_list": "[]", "a_number": "3", "null": "null", "another_format": '{"format": 1}',
    "nothing_in_it": '{"format": 3}', "deep": "[" * 100000,
    "wrong_types": '{"format": 3, "geometries": 4, "operators": 3, "image_shape": null}',
}.items():  # fmt: skip
    add_case(
        BROKEN, f"a_plan_of_{_name}", lambda m, p=_plan: m.metadata_props.add(key="krypton.plan", value=p) and None
    )
add_case(
    EITHER, "a_tuning_of_nothing", lambda model: model.metadata_props.add(key="krypton.tuning", value="{}") and None
)


# -- graphs -----------------------------------------------------------------------------------------------

@case(BROKEN)
def no_nodes(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


@case(BROKEN)
def no_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


@case(BROKEN)
def no_inputs(model: onnx.ModelProto) -> None:
    del model.graph.input[:]


@case(BROKEN)
def no_weights(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]


@case(BROKEN)
def a_weight_is_missing(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]


@case(BROKEN)
def an_output_that_nothing_makes(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "elsewhere"


@case(EITHER)
def an_output_twice(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


@case(BROKEN)
def an_input_twice(model: onnx.ModelProto) -> None:
    model.graph.input.append(model.graph.input[0])


@case(EITHER)
def a_weight_twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


@case(BROKEN)
def a_node_twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node[0])


@case(BROKEN)
def a_node_that_reads_itself(model: onnx.ModelProto) -> None:
    node = node_of(model, "Relu")
    node.input[0] = node.output[0]


@case(BROKEN)
def a_cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


@case(BROKEN)
def a_cycle_beside_the_network(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["b"], ["a"]))
    model.graph.node.append(helper.make_node("Relu", ["a"], ["b"]))


@case(EITHER)
def nodes_in_reverse(model: onnx.ModelProto) -> None:
    nodes = list(reversed(model.graph.node))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


@case(EITHER)
def nodes_of_one_name(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = "node"


@case(SOUND)
def nodes_without_a_name(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = ""


@case(EITHER)
def names_of_many_lines(model: onnx.ModelProto) -> None:
    for number, node in enumerate(model.graph.node):
        node.name = f"a\nb\r\u2028c\x00{number}"
    set_attribute(model, "Conv", "group", 7)


@case(BROKEN)
def an_error_in_a_node_of_many_lines(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = "first\nsecond\rthird"
    set_attribute(model, "Conv", "kernel_shape", [9])


@case(EITHER)
def names_that_are_ours(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = name.replace("Relu", "krypton/Relu")


@case(EITHER)
def the_image_is_called_as_our_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "occlusion_origin"


@case(BROKEN)
def an_unknown_operator(model: onnx.ModelProto) -> None:
    node_of(model, "Relu").op_type = "Unheard"


@case(BROKEN)
def an_empty_operator(model: onnx.ModelProto) -> None:
    node_of(model, "Relu").op_type = ""


@case(BROKEN)
def an_unknown_domain(model: onnx.ModelProto) -> None:
    node_of(model, "Relu").domain = "com.example"


@case(BROKEN)
def an_unknown_domain_that_is_imported(model: onnx.ModelProto) -> None:
    node_of(model, "Relu").domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


@case(BROKEN)
def one_of_our_operators(model: onnx.ModelProto) -> None:
    node = node_of(model, "Relu")
    node.domain, node.op_type = "ai.krypton", "Window"
    model.opset_import.append(helper.make_opsetid("ai.krypton", 1))


@case(BROKEN)
def nodes_without_inputs(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        del node.input[:]


@case(BROKEN)
def nodes_without_outputs(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        del node.output[:]


@case(EITHER)
def a_node_of_nothing(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], [""], value_int=1))


@case(BROKEN)
def too_many_inputs(model: onnx.ModelProto) -> None:
    node_of(model, "Relu").input.extend(["image"] * 2000)


@case(EITHER)
def many_inputs_of_one_sum(model: onnx.ModelProto) -> None:
    node = node_of(model, "Add")
    node.op_type = "Sum"
    node.input.extend([node.input[1]] * 100)


@case(SOUND)
def a_deep_chain(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Relu", [f"x{n}" if n else "image"], [f"x{n + 1}"]) for n in range(300)]
    nodes.append(helper.make_node("Identity", ["x300"], ["changed"]))
    before_the_first(model, *nodes)


@case(SOUND)
def weights_that_nothing_reads(model: onnx.ModelProto) -> None:
    for number in range(200):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 2), np.float32), f"unused{number}"))


@case(EITHER)
def strings_beside_the_network(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"\xff"]))
    model.graph.node.append(helper.make_node("Identity", ["words"], ["said"]))
    model.graph.output.append(helper.make_tensor_value_info("said", TensorProto.STRING, [2]))


@case(EITHER)
def the_image_is_an_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(model.graph.input[0])


@case(EITHER)
def a_weight_is_an_output(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    model.graph.output.append(helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))


@case(EITHER)
def only_a_constant_comes_out(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3), np.float32), "always"))
    model.graph.node.append(helper.make_node("Identity", ["always"], ["logits2"]))
    model.graph.output[0].name = "logits2"


# -- functions and control flow ---------------------------------------------------------------------------

def _function(name: str, *calls: str) -> onnx.FunctionProto:
    nodes, last = [], "x"
    for number, call in enumerate(calls):
        domain = "own" if call.startswith("F") else ""
        nodes.append(helper.make_node(call, [last], [f"y{number}"], domain=domain))
        last = f"y{number}"
    nodes.append(helper.make_node("Identity", [last], ["z"]))
    return helper.make_function(
        "own", name, ["x"], ["z"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    )


def _with_functions(model: onnx.ModelProto, *functions: onnx.FunctionProto) -> None:
    node = node_of(model, "Relu")
    node.domain, node.op_type = "own", "F"
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.extend(functions)


add_case(SOUND, "a_function", lambda m: _with_functions(m, _function("F", "Relu", "Abs")))
add_case(
    SOUND, "functions_in_functions",
    lambda m: _with_functions(m, _function("F", "FG", "Relu"), _function("FG", "Relu")),
)  # fmt: skip
add_case(BROKEN, "a_function_that_calls_itself", lambda m: _with_functions(m, _function("F", "F")))
add_case(
    BROKEN, "functions_that_call_each_other",
    lambda m: _with_functions(m, _function("F", "FG"), _function("FG", "F")),
)  # fmt: skip
add_case(BROKEN, "a_function_that_is_missing", lambda m: _with_functions(m, _function("F", "FG")))
add_case(EITHER, "a_function_twice", lambda m: _with_functions(m, _function("F", "Relu"), _function("F", "Abs")))
add_case(BROKEN, "a_function_of_nothing", lambda m: _with_functions(m, onnx.FunctionProto(name="F", domain="own")))
add_case(
    EITHER, "functions_that_double",
    lambda m: _with_functions(
        m, *(_function("F" * n, "F" * (n + 1), "F" * (n + 1)) for n in range(1, 24)), _function("F" * 24, "Relu")
    ),
)  # fmt: skip


def _nested(depth: int) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(f"out{depth}", 1, None)
    if not depth:
        return helper.make_graph([helper.make_node("Relu", ["image"], ["out0"])], "inner", [], [value])
    inner = _nested(depth - 1)
    node = helper.make_node("If", ["yes"], [f"out{depth}"], then_branch=inner, else_branch=inner)
    return helper.make_graph([node], "outer", [], [value])


def _with_branches(model: onnx.ModelProto, depth: int) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    branch = _nested(depth)
    before_the_first(model, helper.make_node("If", ["yes"], ["changed"], then_branch=branch, else_branch=branch))


add_case(EITHER, "control_flow", lambda m: _with_branches(m, 0))
add_case(EITHER, "control_flow_6_deep", lambda m: _with_branches(m, 6))
