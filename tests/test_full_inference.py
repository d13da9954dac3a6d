"""Models that are not rewritten are explained all the same, by full inference, one image at a time, and say why."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graph_builder import Graph
from naive import occluded, session_of
from onnx import TensorProto, helper
from tiny_models import CLASSES, image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.errors import NotRewritable
from krypton_onnx.numba_kernels import CPU_KERNELS
from krypton_onnx.rewriter import rewrite_model
from krypton_onnx.runtime.custom_ops import shim_path

IMAGE = image_of(1, 3, 20, 24)
FILL = 0.3
needs_shim = pytest.mark.skipif(shim_path() is None, reason="installed without a C compiler")
Build = Callable[[], onnx.ModelProto]


def begin(batch: int | str = "batch", opset: int = 17) -> tuple[Graph, str]:
    g = Graph(90, opset=opset, ir=8)
    return g, g.input("image", [batch, 3, 20, 24])


def head(g: Graph, x: str, name: str = "logits") -> str:
    return g.gemm(g.node("Flatten", g.node("GlobalAveragePool", x)), g.channels[x], CLASSES, gain=16, name=name)


def branch(g: Graph, op: str, x: str) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node(op, [x], [op])], op, [], [helper.make_tensor_value_info(op, 1, None)])


def chosen_by_the_image(branches: Callable[[Graph, str], tuple[onnx.GraphProto, onnx.GraphProto]]) -> onnx.ModelProto:
    """An If whose condition is about the brightest pixel of one corner, so that occlusions take either branch."""
    g, image = begin()
    corner = g.node(
        "Slice", image, *(g.initializer(bounds, np.int64) for bounds in ([0, 0], [6, 6], [2, 3]))
    )
    condition = g.node("Greater", g.node("ReduceMax", corner, axes=[1, 2, 3], keepdims=0), g.initializer(1.5))
    x = g.conv_relu(image, 6, 3, pads=1)
    then, other = branches(g, x)
    y = g.node("If", condition, then_branch=then, else_branch=other, channels=6)
    head(g, y)
    return g.model({"logits": ["batch", CLASSES]})


def an_if() -> onnx.ModelProto:
    return chosen_by_the_image(lambda g, x: (branch(g, "Sqrt", x), branch(g, "Neg", x)))


def an_if_in_an_if() -> onnx.ModelProto:
    """Only the innermost graph reads what depends on the image; the conditions are an input of their own."""
    g, image = begin()
    x = g.conv_relu(image, 6, 3, pads=1)
    g.inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    branches = {"then_branch": branch(g, "Sqrt", x), "else_branch": branch(g, "Neg", x)}
    inner = helper.make_node("If", ["flag"], ["inner"], **branches)
    outer = helper.make_graph([inner], "outer", [], [helper.make_tensor_value_info("inner", 1, None)])
    y = g.node("If", "flag", then_branch=outer, else_branch=branch(g, "Abs", x), channels=6)
    head(g, y)
    return g.model({"logits": ["batch", CLASSES]})


def a_loop() -> onnx.ModelProto:
    """As many rounds as the image is bright."""
    g, image = begin()
    x = g.conv_relu(image, 6, 3, pads=1)
    brightest = g.node("ReduceMax", image, axes=[1, 2, 3], keepdims=0)
    rounds = g.node("Cast", brightest, to=TensorProto.INT64)
    body = helper.make_graph(
        [helper.make_node("Sqrt", ["before"], ["after"]), helper.make_node("Identity", ["go"], ["going"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", 1, None),
        ],
        [helper.make_tensor_value_info("going", TensorProto.BOOL, []), helper.make_tensor_value_info("after", 1, None)],
    )
    y = g.node("Loop", rounds, g.initializer(True, np.bool_), x, body=body, channels=6)
    head(g, y)
    return g.model({"logits": ["batch", CLASSES]})


def a_fixed_batch_that_is_merged() -> onnx.ModelProto:
    g, image = begin(1)
    x = g.node("ReduceMean", g.node("Flatten", g.conv_relu(image, 6, 3, pads=1), axis=2), axes=[1], keepdims=0)
    row = g.node("Reshape", x, g.initializer([1, 6], np.int64))
    g.gemm(row, 6, CLASSES, gain=16, name="logits")
    return g.model({"logits": [1, CLASSES]})


def a_vector_without_a_batch() -> onnx.ModelProto:
    g, image = begin(1)
    head(g, g.conv_relu(image, 6, 3, pads=1), "row")
    g.node("Reshape", "row", g.initializer([-1], np.int64), name="logits")
    return g.model({"logits": [CLASSES]})


def four_images_at_once() -> onnx.ModelProto:
    g, image = begin(4)
    x = g.node("Mul", g.conv_relu(image, 6, 3, pads=1), g.initializer(np.arange(1.0, 5).reshape(4, 1, 1, 1)))
    head(g, x)
    return g.model({"logits": [4, CLASSES]})


def a_softmax_over_the_batch() -> onnx.ModelProto:
    g, image = begin()
    g.node("Add", g.node("Softmax", head(g, g.conv_relu(image, 6, 3, pads=1), "row"), axis=0), "row", name="logits")
    return g.model({"logits": ["batch", CLASSES]})


def statistics_of_the_batch() -> onnx.ModelProto:
    g, image = begin()
    x = g.conv_relu(image, 6, 3, pads=1)
    head(g, g.node("Relu", g.node("Sub", x, g.node("ReduceMean", x, axes=[0, 2, 3], keepdims=1))))
    return g.model({"logits": ["batch", CLASSES]})


def a_reserved_name() -> onnx.ModelProto:
    g, image = begin()
    g.nodes.append(helper.make_node("Relu", [g.conv(image, 6, 3, pads=1)], ["occlusion_patch"]))
    g.channels["occlusion_patch"] = 6
    head(g, "occlusion_patch")
    return g.model({"logits": ["batch", CLASSES]})


REASONS: dict[Build, str] = {
    an_if: "If node 'node_If_12' depends on the image",
    an_if_in_an_if: "depends on the image",
    a_loop: "Loop node",
    a_fixed_batch_that_is_merged: "Flatten node 'node_Flatten",
    a_vector_without_a_batch: "Reshape node 'node_logits' mixes the batch",
    four_images_at_once: "fixed batch 4",
    a_softmax_over_the_batch: "Softmax node 'node_Softmax",
    statistics_of_the_batch: "ReduceMean node 'node_ReduceMean",
    a_reserved_name: "names a tensor 'occlusion_patch'",
}
"""What of its reason every model must be told."""


def feeds_of(model: onnx.ModelProto) -> dict:
    return {"image": IMAGE} | ({"flag": np.array(True)} if len(model.graph.input) > 1 else {})


def expected(model: onnx.ModelProto, heat_map: kx.HeatMap, output: str = "logits") -> np.ndarray:
    """(classes, rows, cols): one full inference after another; of a fixed batch, copies of the one image."""
    session = session_of(model)
    batch = session.get_inputs()[0].shape[0]
    copies = batch if isinstance(batch, int) else 1
    patch = np.full((3, *heat_map.patch), FILL, np.float32)
    rows = []
    for top in heat_map.tops:
        for left in heat_map.lefts:
            image = np.repeat(occluded(IMAGE, patch, top, left), copies, axis=0)
            scores = session.run([output], {**feeds_of(model), "image": image})[0]
            rows.append(np.ravel(scores)[: CLASSES])
    return np.stack(rows, axis=1).reshape(CLASSES, *heat_map.computed.shape)


@pytest.mark.filterwarnings("ignore:every position is computed by full inference")
@pytest.mark.parametrize("build", REASONS, ids=lambda build: build.__name__)
def test_every_mode_answers_and_says_why(build: Build) -> None:
    model = build()
    with pytest.raises(NotRewritable) as refusal:
        rewrite_model(model)
    assert REASONS[build] in str(refusal.value) and "\n" not in str(refusal.value)
    session = kx.OcclusionSession(model)
    asked = {"targets": range(CLASSES), "patch": 5, "stride": 4, "fill": FILL}
    for mode in ("exact", "naive", "approximate"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="mode='approximate' without a tuning")
            heat_map = session.explain(feeds_of(model), mode=mode, **asked)
        assert_scores_equal(heat_map.scores, expected(model, heat_map), probabilities=False)
        assert heat_map.mode == mode and heat_map.complete
        told = "computed by full inference: " + str(refusal.value)
        assert heat_map.note.startswith(told) if mode != "naive" else not heat_map.note
    plan = session.plan()
    assert plan.refusal == str(refusal.value) and {operator.kind for operator in plan.operators} == {"global"}


def test_the_warning_comes_once_a_session() -> None:
    session = kx.OcclusionSession(an_if())
    with pytest.warns(UserWarning, match="computed by full inference, one image after another: If node") as told:
        session.explain(IMAGE, patch=9)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.explain(IMAGE, patch=9)
        kx.OcclusionSession(an_if()).explain(IMAGE, patch=9, mode="naive")


def test_inspect_tells_and_convert_refuses(tmp_path: Path) -> None:
    inspection = kx.inspect(an_if(), patch=5)
    (reason,) = inspection.end_reasons
    assert "depends on the image" in reason and inspection.incremental_share == 0
    assert inspection.redundancy_ratio == inspection.achieved_redundancy_ratio == 1
    assert inspection.input_shape == (1, 3, 20, 24) and inspection.operators[0].kind == "global"
    with pytest.raises(kx.ModelError, match="depends on the image"):
        kx.convert(an_if(), tmp_path / "rewritten.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_loaded_is_no_such_model() -> None:
    model = an_if()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(kx.ModelError, match="cannot load the model") as raised:
        kx.OcclusionSession(model).explain(IMAGE, patch=9)
    assert type(raised.value) is kx.ModelError


def test_an_approximate_map_infers_fewer_positions() -> None:
    session = kx.OcclusionSession(an_if())
    with pytest.warns(UserWarning):
        heat_map = session.explain(IMAGE, 0, patch=3, stride=1, fill=FILL, mode="approximate", min_ssim=0.01)
    assert heat_map.complete and heat_map.computed.mean() < 0.7
    scores = expected(an_if(), heat_map)[0]
    assert_scores_equal(heat_map.scores[0][heat_map.computed], scores[heat_map.computed], probabilities=False)


@pytest.mark.filterwarnings("ignore:every position is computed by full inference")
def test_a_defect_of_the_rewriter_costs_speed_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(normalized, *rest):
        raise KeyError("tensor\n17")

    monkeypatch.setattr("krypton_onnx.rewriter.rewrite", fails)
    reason = "rewriting it failed (KeyError: 'tensor\\n17'), which is an error of krypton-onnx"
    heat_map = kx.OcclusionSession(tiny()).explain(IMAGE, range(CLASSES), patch=5, fill=FILL)
    assert_scores_equal(heat_map.scores, expected(tiny(), heat_map), probabilities=False)
    assert reason in heat_map.note
    with pytest.raises(kx.ModelError, match="an error of krypton-onnx"):
        kx.convert(tiny(), tmp_path / "rewritten.onnx")


@needs_shim
@pytest.mark.filterwarnings("ignore:every position is computed by full inference")
def test_operators_that_the_given_options_know() -> None:
    """Ours, here: those with a kernel run without their bodies too, where they are registered."""
    model = rewrite_model(tiny())
    bodies = [body for body in model.functions if body.name not in {kernel.op_type for kernel in CPU_KERNELS}]
    assert len(bodies) < len(model.functions)
    del model.functions[:], model.metadata_props[:]
    model.functions.extend(bodies)
    options = ort.SessionOptions()
    kx.register(options)
    patch = np.full((1, 3, 5, 5), FILL, np.float32)
    others = {
        "occlusion_origin": np.zeros((1, 2), np.int64), "occlusion_patch": patch,
        "propagation_threshold": np.ones(1, np.float32),
    }  # fmt: skip
    session = kx.OcclusionSession(model, options, image_input="image")
    feeds = {"image": IMAGE, **others}
    heat_map = session.explain(feeds, range(CLASSES), patch=5, stride=4, fill=FILL, output="unoccluded_logits")
    assert_scores_equal(heat_map.scores, expected(tiny(), heat_map), probabilities=False)
    assert "computed by full inference: ONNX Runtime cannot load the model" in heat_map.note
    with pytest.raises(kx.ModelError, match="cannot load the model"):
        kx.OcclusionSession(model, image_input="image").explain(feeds, patch=5, output="logits")


# -- scores --------------------------------------------------------------------------------------------------


def detections() -> onnx.ModelProto:
    """Boxes (found, 6), as many as there are cells that score: another number at every position."""
    g, image = begin()
    x = g.conv_relu(image, 4, 3, stride=2, pads=1)
    where = g.node("Transpose", g.node("NonZero", g.node("Greater", x, g.initializer(1.0))), perm=[1, 0])
    g.node("GatherND", x, where, name="scores")
    g.node("Identity", where, name="cells")
    model = g.model({"cells": ["found", 4], "scores": ["found"]})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def best_and_sum(outputs: dict) -> np.ndarray:
    assert outputs["cells"].shape == (len(outputs["scores"]), 4)
    return np.array([[outputs["scores"].max(initial=0), outputs["scores"].sum()]])


@pytest.mark.filterwarnings("ignore:every position is computed by full inference")
@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_detections_are_scored_one_image_at_a_time(mode: str) -> None:
    model = detections()
    heat_map = kx.OcclusionSession(model).explain(
        IMAGE, [0, 1], patch=5, stride=4, fill=FILL, mode=mode, score=best_and_sum
    )
    session, patch = session_of(model), np.full((3, 5, 5), FILL, np.float32)
    found = set()
    for row, top in enumerate(heat_map.tops):
        for column, left in enumerate(heat_map.lefts):
            cells, scores = session.run(None, {"image": occluded(IMAGE, patch, top, left)})
            found.add(len(cells))
            np.testing.assert_allclose(heat_map.scores[:, row, column], [scores.max(), scores.sum()], rtol=1e-5)
    assert len(found) > 2


@pytest.mark.filterwarnings("ignore:every position is computed by full inference")
def test_a_wrong_score_of_one_image() -> None:
    session = kx.OcclusionSession(detections())
    for score, message in [
        (lambda outputs: outputs["scores"], "score returned shape"),
        ("output", "output 'cells' has shape"),
    ]:
        output = "cells" if isinstance(score, str) else None
        with pytest.raises(kx.ImageError, match=message) as raised:
            session.explain(IMAGE, patch=5, score=score, output=output)
        assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:every position is computed by full inference")
@pytest.mark.parametrize("score", ["logit", "margin"])
def test_logits_of_a_model_that_is_not_rewritten(score: str) -> None:
    model = an_if()
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["softmax"], axis=1))
    model.graph.node.append(helper.make_node("Identity", ["softmax"], ["prob"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["batch", CLASSES]))
    heat_map = kx.OcclusionSession(model).explain(IMAGE, range(CLASSES), patch=5, fill=FILL, score=score)
    logits = expected(an_if(), heat_map)
    if score == "margin":
        ranked = np.sort(logits, axis=0)
        logits = logits - np.where(logits == ranked[-1], ranked[-2], ranked[-1])
    assert_scores_equal(heat_map.scores, logits, probabilities=False)


def test_logits_inside_control_flow_are_refused() -> None:
    g, image = begin()
    row = head(g, g.conv_relu(image, 6, 3, pads=1), "row")
    condition = g.node("Greater", g.node("ReduceMax", image, axes=[1, 2, 3], keepdims=0), g.initializer(1.5))
    g.node("If", condition, then_branch=branch(g, "Softmax", row), else_branch=branch(g, "Sigmoid", row), name="prob")
    session = kx.OcclusionSession(g.model({"prob": ["batch", CLASSES]}))
    with warnings.catch_warnings(), pytest.raises(kx.ImageError, match="'prob' comes from control flow") as raised:
        warnings.simplefilter("ignore")
        session.explain(IMAGE, patch=5, score="logit")
    assert "\n" not in str(raised.value)


def test_batch_normalization_in_training_mode_is_not_rewritten() -> None:
    """ONNX Runtime changes its statistics with every run, so there is no map to compare with."""
    g, image = begin()
    x = g.conv_relu(image, 6, 3, pads=1)
    constants = [g.initializer(np.full(6, value)) for value in (1.0, 0.5, 0.0, 1.0)]
    outputs = ["normalized", "mean", "variance"]
    g.nodes.append(helper.make_node("BatchNormalization", [x, *constants], outputs, training_mode=1))
    g.channels["normalized"] = 6
    head(g, g.node("Relu", "normalized"))
    with pytest.raises(NotRewritable, match=r"BatchNormalization node '.*' is in training mode"):
        rewrite_model(g.model({"logits": ["batch", CLASSES]}))


# -- what is no reason ---------------------------------------------------------------------------------------


def attention() -> onnx.ModelProto:
    """The batch moves to another axis and back, as in torch's attention."""
    g, image = begin()
    x = g.conv_relu(image, 8, 4, stride=4)
    x = g.node("Reshape", x, g.initializer([0, 8, -1], np.int64))
    x = g.node("Transpose", x, perm=[2, 0, 1])  # cells, batch, channels
    x = g.node("Softmax", g.node("MatMul", x, g.weight(8, 8, fan_in=8)), axis=0)
    x = g.node("ReduceMean", g.node("Transpose", x, perm=[1, 0, 2]), axes=[1], keepdims=0)
    g.gemm(x, 8, CLASSES, gain=400, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


def test_a_batch_on_another_axis_is_followed() -> None:
    rewrite_model(attention())
    heat_map = kx.OcclusionSession(attention()).explain(IMAGE, range(CLASSES), patch=5, stride=4, fill=FILL)
    assert_scores_equal(heat_map.scores, expected(attention(), heat_map), probabilities=False)
    assert "computed by full inference" not in heat_map.note


def test_batch_and_cells_merged_and_parted_again_are_no_reason() -> None:
    """Windows of an attention: (batch x windows, cells, channels)."""
    g, image = begin()
    x = g.conv_relu(image, 8, 4, stride=4)
    x = g.node("Reshape", g.node("Transpose", x, perm=[0, 2, 3, 1]), g.initializer([-1, 6, 8], np.int64))
    x = g.node("Softmax", x, axis=1)
    x = g.node("ReduceMean", g.node("Reshape", x, g.initializer([-1, 30, 8], np.int64)), axes=[1], keepdims=0)
    g.gemm(x, 8, CLASSES, gain=400, name="logits")
    rewrite_model(g.model({"logits": ["batch", CLASSES]}))


def test_an_ordinary_model_is_rewritten_and_has_no_note() -> None:
    heat_map = kx.OcclusionSession(tiny()).explain(IMAGE, patch=5)
    assert heat_map.note == "" and kx.OcclusionSession(tiny()).plan().refusal is None
