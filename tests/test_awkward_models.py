"""Models of unusual form: exact equals naive inference, or there is a reason why not yet."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graph_builder import Graph
from naive import occluded, session_of
from tiny_models import CLASSES, image_of, tiny
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.rewriter import rewrite_model

IMAGE = image_of(1, 3, 20, 24)
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {}


def awkward(build: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    MODELS[build.__name__] = build
    return build


def begin(height: int = 20, width: int = 24) -> tuple[Graph, str]:
    g = Graph(70, opset=17, ir=8)
    return g, g.input("image", ["batch", 3, height, width])


def end(g: Graph, x: str, pool: str = "GlobalAveragePool") -> onnx.ModelProto:
    g.gemm(g.node("Flatten", g.node(pool, x)), g.channels[x], CLASSES, gain=16, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


@awkward
def nothing_but_a_product() -> onnx.ModelProto:
    g, x = begin()
    g.gemm(g.node("Flatten", x), 3 * 20 * 24, CLASSES, name="logits")
    return g.model({"logits": ["batch", CLASSES]})


@awkward
def an_image_of_one_pixel() -> onnx.ModelProto:
    g, x = begin(1, 1)
    return end(g, g.conv_relu(x, 6, 3, pads=1))


@awkward
def an_image_of_one_row() -> onnx.ModelProto:
    g, x = begin(1, 24)
    return end(g, g.conv_relu(x, 6, (1, 3), pads=[0, 1, 0, 1]))


@awkward
def pixels_that_nothing_reads() -> onnx.ModelProto:
    g, x = begin()
    return end(g, g.relu(g.conv(x, 6, 1, stride=4)))


@awkward
def the_image_read_twice() -> onnx.ModelProto:
    g, x = begin()
    halved = g.conv_relu(g.pool("AveragePool", x, 2, 2), 6, 1)
    return end(g, g.node("Add", g.conv_relu(x, 6, 3, stride=2, pads=1), halved), "GlobalMaxPool")


@awkward
def a_kernel_as_large_as_the_image() -> onnx.ModelProto:
    g, x = begin()
    return end(g, g.relu(g.conv(x, 6, (20, 24), pads=[10, 12, 9, 11])))


@awkward
def one_number_an_image() -> onnx.ModelProto:
    g, x = begin()
    g.node("ReduceMean", g.conv_relu(x, 6, 3, pads=1), axes=[1, 2, 3], keepdims=0, name="mean")
    return g.model({"mean": ["batch"]})


@awkward
def scores_of_rank_four() -> onnx.ModelProto:
    g, x = begin()
    g.node("Softmax", g.node("GlobalAveragePool", g.conv_relu(x, 6, 3, pads=1)), axis=1, name="prob")
    return g.model({"prob": ["batch", 6, 1, 1]})


@awkward
def weights_listed_as_inputs() -> onnx.ModelProto:
    model = tiny()
    for weight in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        )
    return model


def scores_of(
    model: onnx.ModelProto, image: np.ndarray | dict, heat_map: kx.HeatMap, output: int = 0
) -> np.ndarray:
    """(classes, rows, cols), one full inference after another. image: alone, or with the other inputs."""
    session = session_of(model)
    feeds = image if isinstance(image, dict) else {"image": image}
    patch = np.full((3, *heat_map.patch), 0.3, np.float32)
    images = [occluded(feeds["image"], patch, top, left) for top in heat_map.tops for left in heat_map.lefts]
    rows = [np.ravel(session.run(None, {**feeds, "image": one})[output]) for one in images]
    return np.stack(rows, axis=1).reshape(-1, *heat_map.computed.shape)


@pytest.mark.parametrize("name", MODELS)
def test_exact_equals_full_inference(name: str) -> None:
    model = MODELS[name]()
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    image = image_of(1, *shape)
    small, whole = (min(5, shape[1]), min(4, shape[2])), tuple(shape[1:])
    for source, patch in [(model, small), (rewrite_model(model), whole)]:
        heat_map = kx.OcclusionSession(source).explain(image, 0, patch=patch, stride=3, fill=0.3)
        assert_scores_equal(heat_map.scores, scores_of(model, image, heat_map)[:1], probabilities=False)


def test_an_output_of_integers_may_be_scored() -> None:
    model = tiny()
    model.graph.node.append(onnx.helper.make_node("ArgMax", ["logits"], ["best"], axis=1))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("best", onnx.TensorProto.INT64, ["batch", 1])
    )
    image = image_of(1, 3, 20, 24)
    heat_map = kx.OcclusionSession(model).explain(image, patch=9, stride=2, fill=0.3, output="best")
    assert heat_map.targets == (0,) and heat_map.scores.dtype == np.float32
    np.testing.assert_array_equal(heat_map.scores, scores_of(model, image, heat_map, output=1))


def test_an_output_that_is_constant() -> None:
    model = tiny()
    model.graph.node.append(onnx.helper.make_node("Identity", [model.graph.initializer[1].name], ["bias"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("bias", onnx.TensorProto.FLOAT, [6]))
    heat_map = kx.OcclusionSession(model).explain(IMAGE, range(CLASSES), patch=9, fill=0.3, output="logits")
    assert_scores_equal(heat_map.scores, scores_of(model, IMAGE, heat_map), probabilities=False)


# -- what the rewriter does not do yet -------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["output", "logit"])
def test_logits_that_are_an_output_too(score: str) -> None:
    model = tiny()
    model.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["prob"], axis=1))
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("prob", onnx.TensorProto.FLOAT, ["batch", CLASSES])
    )
    heat_map = kx.OcclusionSession(model).explain(
        IMAGE, range(CLASSES), patch=9, fill=0.3, output="prob", score=score
    )
    expected = scores_of(model, IMAGE, heat_map, output=1 if score == "output" else 0)
    assert_scores_equal(heat_map.scores, expected, probabilities=False)


def test_logits_before_a_softmax_that_is_flattened() -> None:
    g, x = begin()
    pooled = g.node("GlobalAveragePool", g.conv_relu(x, CLASSES, 3, pads=1), name="pooled")
    g.node("Flatten", g.node("Softmax", pooled, axis=1), name="prob")
    model = g.model({"prob": ["batch", CLASSES]})
    heat_map = kx.OcclusionSession(model).explain(IMAGE, range(CLASSES), patch=9, fill=0.3, score="logit")
    model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name="pooled"))
    assert_scores_equal(heat_map.scores, scores_of(model, IMAGE, heat_map), probabilities=False)


@pytest.mark.parametrize("mode", ["exact", "naive"])
def test_a_second_input_that_is_concatenated(mode: str) -> None:
    g, x = begin()
    features = g.node("Flatten", g.node("GlobalAveragePool", g.conv_relu(x, 6, 3, pads=1)))
    g.gemm(g.concat(features, g.input("more", ["batch", 2], channels=2)), 8, CLASSES, gain=16, name="logits")
    model = g.model({"logits": ["batch", CLASSES]})
    feeds = {"image": IMAGE, "more": np.array([[2, -1]], np.float32)}
    heat_map = kx.OcclusionSession(model).explain(feeds, range(CLASSES), patch=9, fill=0.3, mode=mode)
    assert_scores_equal(heat_map.scores, scores_of(model, feeds, heat_map), probabilities=False)
