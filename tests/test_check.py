"""check: random occlusions tell a right rewrite from a wrong one, on every output and in both ways to run it."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES
from graph_builder import Graph
from onnx import TensorProto, helper, numpy_helper
from tiny_models import tiny, two_image_inputs, with_second_input
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx import checking, conversion
from krypton_onnx.check_trials import trials
from krypton_onnx.cli import app
from krypton_onnx.rewriter import plan_of, rewrite_model
from krypton_onnx.rewriter.plan import METADATA_KEY
from krypton_onnx.runtime import custom_ops
from krypton_onnx.runtime.engine import Engine
from krypton_onnx.tolerance import compare_scores

WAYS = {"function bodies", "base pass", *(["kernels"] if custom_ops.shim_path() is not None else [])}


def krypton(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# -- right ones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg", "vgg_nhwc", "resnet_dynamo_fixed_batch", "pads", "inception", "two_outputs"])
def test_a_right_rewrite_passes_on_every_output_in_every_way(name):
    model = FAMILIES[name]()
    report = kx.check(model, positions=12)
    assert report.passed and report.problems == () and report.against == "the original model"
    names = {output.name for output in model.graph.output}
    assert {(row.output, row.way) for row in report.outputs} == {(name, way) for name in names for way in WAYS}
    for row in report.outputs:
        assert 0 <= row.largest_difference <= row.tolerance < row.change and row.compared > 0
    assert report.input_shape == tuple(dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim)


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize("kind", ["vector", "shared", "number", "ids", "scales"])
def test_inputs_beside_the_image_are_not_zero(kind, batch):
    model = with_second_input(kind, batch)
    plan = plan_of(rewrite_model(model))
    others = [trial.others["more"] for seed in range(9) for trial in trials(rewrite_model(model), plan, 36, seed)]
    different = {more.tobytes() for more in others}
    assert len(different) == (2 if kind == "ids" else 18)  # of integers 0 and 1; else two images for each seed
    assert kx.check(model, positions=12).passed


def test_positions_are_at_corners_edges_and_inside_and_do_not_leave_the_image():
    model = rewrite_model(tiny())
    plan = plan_of(model)
    seen: dict[int, set] = {}
    for positions in (1, 5, 12, 36):
        tried = list(trials(model, plan, positions, 3))
        seen[positions] = set()
        assert sum(len(trial.tops) for trial in tried) == positions
        for trial in tried:
            bottom, right = 20 - trial.patch[0], 24 - trial.patch[1]
            assert len(trial.patches) in (1, len(trial.tops))
            for top, left in zip(trial.tops, trial.lefts, strict=True):
                assert 0 <= top <= bottom and 0 <= left <= right
                seen[positions].add((int(top > 0) + int(top == bottom), int(left > 0) + int(left == right)))
    assert seen[36] == {(y, x) for y in range(3) for x in range(3)}
    assert seen[12] >= {(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)}
    assert len({trial.patch for trial in tried}) == 3 and {trial.kind for trial in tried} == {"normal", "smooth"}
    assert all(0.8 < trial.image.std() < 1.2 for trial in tried)


def test_the_same_seed_gives_the_same_report_and_another_one_another():
    first, again, other = (kx.check(tiny(), positions=6, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.outputs[0].change != other.outputs[0].change


def test_a_rewritten_model_alone_is_checked_against_its_own_base_pass(tmp_path):
    for name in ("vgg", "vgg_nhwc", "two_outputs"):
        report = kx.check(rewrite_model(FAMILIES[name]()), positions=12)
        assert report.passed and report.against == "its own base pass"
        assert {row.way for row in report.outputs} == WAYS - {"base pass"}
    assert not kx.check(planted(rewrite_model(tiny()), "weight"), positions=12).passed


def test_open_height_and_width_need_a_shape():
    model = FAMILIES["dynamic_size"]()
    assert kx.check(model, input_shape=(1, 3, 40, 33), positions=6).input_shape == (1, 3, 40, 33)
    with pytest.raises(kx.ModelError, match="--input-shape"):
        kx.check(model)


def test_an_image_input_is_chosen():
    assert kx.check(two_image_inputs(), image_input="right", positions=6).image_input == "right"


# -- wrong ones --------------------------------------------------------------------------------------------------------


def last(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return [node for node in model.graph.node if node.op_type.startswith(kind)][-1]


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(one for one in node.attribute if one.name == name)


def with_other_weight(model: onnx.ModelProto, node: onnx.NodeProto, index: int, change: float) -> None:
    """One value of an operand of this node alone is changed."""
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[index])
    values = numpy_helper.to_array(weight).copy()
    values.flat[values.size // 2] += change
    model.graph.initializer.append(numpy_helper.from_array(values, "planted"))
    node.input[index] = "planted"


def planted(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """A rewritten model with one mistake, which loads and runs all the same."""
    conv, regions = last(model, "IncrementalConv"), last(model, "PlaceRegions")
    if kind == "weight":
        with_other_weight(model, conv, 3, 0.05)
    elif kind == "bias":
        with_other_weight(model, conv, 4, 0.05)
    elif kind == "pads":  # reads one row too low
        attribute(conv, "pads").ints[0] -= 1
    elif kind == "activation":  # of the function body; the kernel does not read it
        for function in model.functions:
            for node in function.node:
                node.op_type = "Identity" if node.op_type == "Relu" else node.op_type
    elif kind == "region begins late":
        attribute(regions, "before").ints[-1] -= 1
    elif kind == "region ends early":
        attribute(regions, "after").ints[-2] -= 2
    elif kind == "frame":  # one row short: only the lower border can tell
        attribute(regions, "frame").ints[-2] -= 1
    elif kind == "pool":
        attribute(last(model, "IncrementalMaxPool"), "pads").ints[1] -= 1
    elif kind == "origin":  # of another operator's region
        conv.input[1] = last(model, "IncrementalMaxPool").input[1]
    elif kind == "head":
        with_other_weight(model, [node for node in model.graph.node if "logits" in node.output][-1], 1, 0.05)
    elif kind == "base":
        with_other_weight(model, next(node for node in model.graph.node if node.op_type == "Conv"), 1, 0.05)
    elif kind == "batch":  # every position gets the first one's result
        node = [node for node in model.graph.node if "logits" in node.output][-1]
        node.output[0] = "planted_logits"
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "planted_first"))
        shape = helper.make_node("Shape", ["planted_logits"], ["planted_shape"])
        first = helper.make_node("Gather", ["planted_logits", "planted_first"], ["planted_row"], axis=0)
        again = helper.make_node("Expand", ["planted_row", "planted_shape"], ["logits"])
        model.graph.node.extend([shape, first, again])
    return model


PLANTS = ["weight", "bias", "pads", "activation", "region begins late", "region ends early", "frame", "pool", "origin",
          "head", "base", "batch"]  # fmt: skip


@pytest.mark.parametrize("kind", PLANTS)
def test_a_planted_mistake_is_found(kind):
    assert kx.check(tiny(), rewrite_model(tiny())).passed
    report = kx.check(tiny(), planted(rewrite_model(tiny()), kind))
    wrong = {row.way for row in report.outputs if not row.passed}
    assert "function bodies" in wrong and (("base pass" in wrong) == (kind == "base"))
    assert not report.passed and len(report.problems) == len(wrong)
    assert re.fullmatch(r"output 'logits' differs by \S+ \(allowed: \S+\) \([a-z ]+\)", report.problems[0])
    worst = report.outputs[0]
    assert worst.largest_difference == report.largest_difference or worst.largest_difference > worst.tolerance


@pytest.mark.parametrize("kind", PLANTS)
def test_a_planted_mistake_is_not_written(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "rewrite_model", lambda *given: planted(rewrite_model(*given), kind))
    with pytest.raises(kx.ModelError, match=r"differs from the original: output 'logits'.*nothing was written"):
        kx.convert(tiny(), tmp_path / "rewritten.onnx")
    assert not list(tmp_path.iterdir())
    assert kx.convert(tiny(), tmp_path / "rewritten.onnx", check=False).checked_positions == 0


@pytest.mark.skipif("kernels" not in WAYS, reason="no C compiler when this was installed")
def test_a_wrong_kernel_is_told_from_a_wrong_file(monkeypatch):
    run = Engine.run

    def wrong(self: Engine, *given: object) -> list[np.ndarray]:
        outputs = run(self, *given)
        outputs[0][-1, 0] += 0.01
        return outputs

    monkeypatch.setattr(Engine, "run", wrong)
    report = kx.check(tiny(), positions=6)
    assert {row.way for row in report.outputs if not row.passed} == {"kernels"}


def test_one_wrong_output_of_two_is_named():
    def two() -> onnx.ModelProto:
        model = tiny()
        model.graph.node.append(helper.make_node("Neg", ["logits"], ["negated"]))
        model.graph.output.append(helper.make_tensor_value_info("negated", TensorProto.FLOAT, ["batch", 4]))
        return model

    rewritten = rewrite_model(two())
    node = [node for node in rewritten.graph.node if "negated" in node.output][-1]
    node.op_type = "Identity"
    report = kx.check(two(), rewritten, positions=6)
    assert {row.output for row in report.outputs if not row.passed} == {"negated"}


# -- outputs of other kinds --------------------------------------------------------------------------------------------


def ending(*nodes: onnx.NodeProto, outputs: dict[str, tuple[int, list]], keep: bool = True) -> onnx.ModelProto:
    """`tiny` with more nodes behind its logits, and these outputs."""
    model = tiny()
    model.graph.node.extend(nodes)
    if not keep:
        del model.graph.output[:]
    for name, (dtype, shape) in outputs.items():
        model.graph.output.append(helper.make_tensor_value_info(name, dtype, shape))
    return model


def test_integers_must_be_equal():
    best = helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0)

    def model() -> onnx.ModelProto:
        return ending(best, outputs={"best": (TensorProto.INT64, ["batch"])})

    report = kx.check(model(), positions=24)
    rows = [row for row in report.outputs if row.output == "best"]
    assert report.passed and all(row.tolerance == 0 and row.compared >= 6 for row in rows)
    rewritten = rewrite_model(model())
    node = [node for node in rewritten.graph.node if "best" in node.output][-1]
    node.op_type = "ArgMin"
    report = kx.check(model(), rewritten, positions=24)
    assert re.search(r"output 'best' differs at \d+ of \d+ values", report.problems[0])


def test_nan_everywhere_is_no_success(tmp_path):
    nodes = [helper.make_node("Abs", ["logits"], ["size"]), helper.make_node("Neg", ["size"], ["below"]),
             helper.make_node("Sqrt", ["below"], ["root"])]  # fmt: skip
    model = ending(*nodes, outputs={"root": (TensorProto.FLOAT, ["batch", 4])}, keep=False)
    report = kx.check(model, positions=6)
    assert not report.passed and "nothing could be compared" in report.problems[0]
    with pytest.raises(kx.ModelError, match=r"nothing could be compared.*nothing was written"):
        kx.convert(model, tmp_path / "rewritten.onnx")
    onnx.save(model, tmp_path / "nan.onnx")
    result = krypton("check", tmp_path / "nan.onnx", "--positions", "6", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["passed"] is False


def test_nan_in_some_places_is_compared_where_it_is_not():
    model = ending(helper.make_node("Log", ["logits"], ["log"]), outputs={"log": (TensorProto.FLOAT, ["batch", 4])})
    report = kx.check(model, positions=12)
    assert report.passed
    for row in report.outputs:
        if row.output == "log" and row.way != "base pass":
            assert 0 < row.compared < 48


def with_positives(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model, original or rewritten, with one more output: where its logits are positive."""
    for prefix in ("", "unoccluded_") if plan_of(model) is not None else ("",):
        relu = helper.make_node("Relu", [f"{prefix}logits"], [f"{prefix}above"])
        model.graph.node.extend([relu, helper.make_node("NonZero", [f"{prefix}above"], [f"{prefix}where"])])
        model.graph.output.append(helper.make_tensor_value_info(f"{prefix}where", TensorProto.INT64, [2, "some"]))
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = dataclasses.replace(plan_of(model), outputs=("logits", "where")).to_json()
    return model


def test_outputs_whose_shape_depends_on_the_image_are_compared_one_by_one(tmp_path):
    model, rewritten = with_positives(tiny()), with_positives(rewrite_model(tiny()))
    report = kx.check(model, rewritten, positions=12)
    assert report.passed and all(row.compared for row in report.outputs)
    node = next(node for node in rewritten.graph.node if "where" in node.output)
    node.input[0] = "logits"
    problems = kx.check(model, rewritten, positions=12).problems
    assert any(re.search(r"output 'where' has shape \(2, \d\) instead of \(2, \d\)", problem) for problem in problems)


def test_a_model_that_is_not_rewritten_is_refused_with_its_reason(tmp_path):
    onnx.save(with_positives(tiny()), tmp_path / "model.onnx")
    written = tmp_path / "no.onnx"
    for refused in (lambda: kx.check(tmp_path / "model.onnx"), lambda: kx.convert(tmp_path / "model.onnx", written)):
        with pytest.raises(kx.ModelError, match=r"NonZero .* gives what it finds in all images together"):
            refused()
    result = krypton("check", tmp_path / "model.onnx", "--json")
    assert result.exit_code == 1 and result.stdout == "" and "NonZero" in result.stderr
    assert "NonZero" in krypton("inspect", tmp_path / "model.onnx").stdout


def test_an_output_that_depends_on_no_image_is_equal_and_said_to_hide_mistakes(tmp_path):
    constant = helper.make_tensor("value", TensorProto.FLOAT, [1, 2], [0.25, 3.0])
    node = helper.make_node("Constant", [], ["fixed"], value=constant)
    model = ending(node, outputs={"fixed": (TensorProto.FLOAT, [1, 2])})
    report = kx.check(model, positions=6)
    assert report.passed and all(row.change == 0 for row in report.outputs if row.output == "fixed")
    onnx.save(model, tmp_path / "model.onnx")
    result = krypton("check", tmp_path / "model.onnx", "--positions", "6")
    assert result.exit_code == 0 and "output 'fixed' hardly changes" in result.stdout


@pytest.mark.parametrize(
    ("actual", "expected", "problem", "compared"),
    [
        ([1.0, 2.0], [1.0, 2.0], "", 2),
        ([1.0, 2.0], [1.0, 2.1], r"differs by 0.1 \(allowed: 0.00011\)", 2),
        ([np.inf, 2.0], [np.inf, 2.1], r"differs by 0.1", 1),
        ([np.inf, 2.0], [-np.inf, 2.0], "is NaN or infinite elsewhere", 1),
        ([np.nan, 2.0], [np.nan, 2.0], "", 1),
        ([np.nan, 2.0], [1.0, 2.0], "is NaN or infinite elsewhere", 2),
        ([1.0, 2.0], [np.nan, 2.0], "is NaN or infinite elsewhere", 1),
        ([0.5, 0.5], [0.5, 0.50002], r"differs by 2e-05 \(allowed: 1e-05\)", 2),
        ([[1.0, 2.0]], [1.0, 2.0], r"has shape \(1, 2\) instead of \(2,\)", 0),
    ],
)
def test_what_is_not_finite_must_be_the_same(actual, expected, problem, compared):
    found = compare_scores(np.array(actual, np.float32), np.array(expected, np.float32))
    assert found.compared == compared and bool(found.problem) == bool(problem)
    assert re.match(problem, found.problem)
    integers = compare_scores(np.array(expected, np.float32), np.zeros(2, np.int64))
    assert integers.problem == "is float32 instead of int64"


def test_half_precision_may_round_and_no_more():
    expected = np.array([100.0, 3.0], np.float16)
    assert not compare_scores(np.nextafter(expected, np.float16(1000)), expected).problem
    assert compare_scores(expected + np.float16(1), expected).problem


# -- what cannot be checked --------------------------------------------------------------------------------------------


def test_models_that_do_not_belong_together_are_refused(tmp_path):
    rewritten = rewrite_model(tiny())
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: kx.check(rewritten, rewritten), "the first model is a rewritten one: name the original first"),
        (lambda: kx.check(tiny(), tiny()), "the second model is no rewritten one"),
        (lambda: kx.check(FAMILIES["vgg"](), rewritten), "another model's: its outputs are logits"),
        (lambda: kx.check(tiny(3, 30, 24), rewritten), "another model's: its image input 'image' is 3 x 20 x 24, the"),
        (lambda: kx.check(tmp_path / "no.onnx"), "no such file"),
    ]
    for attempt, message in cases:
        with pytest.raises(kx.ModelError, match=message) as raised:
            attempt()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("arguments", [{"positions": 0}, {"positions": 2.5}, {"seed": -1}, {"positions": True}])
def test_arguments_are_numbers(arguments):
    with pytest.raises(kx.ImageError, match="must be an integer of at least"):
        kx.check(tiny(), **arguments)


def test_a_model_that_fails_on_random_inputs_is_one_line():
    g = Graph(3, opset=17, ir=8)
    x = g.input("image", ["batch", 3, 12, 12])
    pooled = g.node("Flatten", g.node("GlobalAveragePool", g.conv_relu(x, 4, 3)), axis=1)
    g.inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"]))
    g.node("Gather", g.weight(1, 4, fan_in=1), "ids", axis=0, name="picked")  # a table of one row: 1 is out of range
    g.node("Add", pooled, "picked", name="scores")
    model = g.model({"scores": ["batch", 4]})
    with pytest.raises(kx.ModelError, match="does not run on random inputs") as raised:
        for seed in range(5):
            kx.check(model, positions=4, seed=seed)
    assert "\n" not in str(raised.value)


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    onnx.save(tiny(), folder / "model.onnx")
    kx.convert(tiny(), folder / "rewritten.onnx")
    onnx.save(planted(rewrite_model(tiny()), "weight"), folder / "wrong.onnx")
    onnx.save(FAMILIES["dynamic_size"](), folder / "open.onnx")
    return folder


@pytest.mark.parametrize("names", [("model",), ("model", "rewritten"), ("rewritten",)])
def test_check_prints_a_table(files, names):
    result = krypton("check", *(files / f"{name}.onnx" for name in names), "--positions", "12")
    assert result.exit_code == 0, result.output
    for way in WAYS - ({"base pass"} if names == ("rewritten",) else set()):
        assert re.search(rf"^ *logits +{way} +\S+ +\S+ +\S+ +passed *$", result.stdout, re.M), result.stdout
    assert result.stdout.startswith("12 occlusions of random images 1 x 3 x 20 x 24, patches 16 x 16, 5 x 3, 10 x 16")
    assert ("its own base pass" if names == ("rewritten",) else "the original model") in result.stdout
    assert "incremental inference is right here" in result.stdout and result.stderr == ""
    quiet = krypton("check", *(files / f"{name}.onnx" for name in names), "-q", "--positions", "6")
    assert quiet.exit_code == 0 and quiet.output == ""


def test_check_exits_with_1_where_something_is_wrong(files):
    for names in (("model", "wrong"), ("wrong",)):
        paths = [files / f"{name}.onnx" for name in names]
        result = krypton("check", *paths, "--positions", "12", "--seed", "5")
        assert result.exit_code == 1
        assert re.search(r"function bodies +\S+ +\S+ +\S+ +differs by \S+ \(allowed: \S+\)", result.stdout)
        assert "is right here" not in result.stdout
        told = r"krypton-onnx: error: incremental inference is wrong: output 'logits' [^\n]+\n"
        assert re.fullmatch(told, result.stderr)
        values = krypton("check", *paths, "--json", "--positions", "12", "--seed", "5")
        assert values.exit_code == 1
        data = json.loads(values.stdout)
        assert data["passed"] is False and data["seed"] == 5 and data["positions"] == 12
        report = kx.check(*paths, positions=12, seed=5)
        assert data == json.loads(json.dumps(report.to_dict()))


def test_check_refuses_in_one_line(files):
    for arguments, message in (
        ((files / "open.onnx",), "--input-shape"),
        ((files / "model.onnx", files / "model.onnx"), "the second model is no rewritten one"),
        ((files / "missing.onnx",), "no such file"),
    ):
        result = krypton("check", *arguments)
        assert result.exit_code == 1 and result.stdout == ""
        assert re.fullmatch(r"krypton-onnx: error: [^\n]+\n", result.stderr) and message in result.stderr
    assert krypton("check", files / "open.onnx", "--input-shape", "1,3,40,33", "-q", "--positions", "6").exit_code == 0
    assert krypton("check", files / "model.onnx", "--positions", "0").exit_code == 2


def test_inspect_says_of_every_global_operator_why_it_is_one(tmp_path):
    g = Graph(4, opset=17, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, 20, 24]), 6, 3, pads=1)
    gate = g.node("Sigmoid", g.conv(g.node("GlobalAveragePool", x, channels=6), 6, 1))
    x = g.conv_relu(g.node("Mul", x, gate, channels=6), 4, 3, pads=1)
    g.node("Flatten", g.node("GlobalAveragePool", x), axis=1, name="scores")
    onnx.save(g.model({"scores": ["batch", 4]}), tmp_path / "model.onnx")
    values = json.loads(krypton("inspect", tmp_path / "model.onnx", "--json").stdout)
    rows = [row for row in values["operators"] if row["kind"] == "global"]
    assert len(rows) > len(values["end_reasons"]) == 2
    assert all(isinstance(row["reason"], str) and " " in row["reason"] for row in rows)
    text = " ".join(krypton("inspect", tmp_path / "model.onnx").stdout.split())
    for reason in values["end_reasons"]:
        assert reason in text
    assert f"{len(rows) - 2} more operators: an operator before it ended the incremental part" in text


def test_convert_and_check_agree_on_the_largest_difference(tmp_path):
    report = kx.convert(tiny(), tmp_path / "rewritten.onnx")
    again = checking.check_models(
        tiny(), onnx.load(tmp_path / "rewritten.onnx"), plan_of(onnx.load(tmp_path / "rewritten.onnx")),
        report.checked_positions, kernels=False,
    )  # fmt: skip
    assert report.largest_difference == again.largest_difference and report.checked_positions == 12
