"""convert: the file is checked against the original before it is written, and is all that anybody needs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from families import FAMILIES, example_image
from naive import naive_map, session_of
from onnx import numpy_helper
from tiny_models import image_of, tiny, with_second_input
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx import conversion
from krypton_onnx.rewriter import rewrite_model

PATCH, STRIDE = (6, 5), (9, 11)


def assert_file_is_right(path: Path, model: onnx.ModelProto, image: np.ndarray) -> None:
    """Reopened by OcclusionSession and by plain ONNX Runtime, it gives the original's scores of occluded images."""
    heat_map = kx.OcclusionSession(path).explain(
        image, targets=range(4), patch=PATCH, stride=STRIDE, fill=0.3
    )
    patch = np.full((3, *PATCH), 0.3, np.float32)
    scores, baseline = naive_map(model, image, heat_map.tops, heat_map.lefts, patch)
    assert_scores_equal(heat_map.scores, scores[:, :4].T.reshape(heat_map.scores.shape), probabilities=False)
    assert_scores_equal(heat_map.baseline, baseline[:4], probabilities=False)
    plain = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {
        model.graph.input[0].name: image,
        "occlusion_origin": np.array(
            [(top, left) for top in heat_map.tops for left in heat_map.lefts], np.int64
        ),
        "occlusion_patch": patch[None],
        "propagation_threshold": np.ones(1, np.float32),
    }
    output = model.graph.output[0].name
    occluded, unoccluded = plain.run([output, f"unoccluded_{output}"], feeds)
    assert_scores_equal(occluded, scores, probabilities=False)
    assert_scores_equal(unoccluded[0], baseline, probabilities=False)


@pytest.mark.parametrize("name", ["vgg", "vgg_nhwc", "resnet_dynamo_fixed_batch", "pads"])
def test_the_file_replaces_the_original(name: str, tmp_path: Path) -> None:
    model = FAMILIES[name]()
    path = tmp_path / "rewritten.onnx"
    report = kx.convert(model, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["rewritten.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert_file_is_right(path, model, example_image(model))
    assert report.path == path and report.image_input == model.graph.input[0].name
    assert report.input_shape == example_image(model).shape
    assert report.outputs == tuple(output.name for output in model.graph.output)
    assert report.checked_positions > 0 and 0 <= report.largest_difference < 1e-4
    inspection = kx.inspect(model, patch=16)
    assert report.redundancy_ratio == inspection.redundancy_ratio > 1
    assert report.incremental_share == inspection.incremental_share == 1
    assert report.end_reasons == inspection.end_reasons


def test_the_model_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(tiny(), str(path))
    before = path.read_bytes()
    with pytest.raises(kx.KryptonError, match="it is what is read; name another file"):
        kx.convert(str(path), path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_weights_in_a_file_beside_the_model_go_into_the_one_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source" / "model.onnx", tmp_path / "target" / "rewritten.onnx"
    source.parent.mkdir()
    target.parent.mkdir()
    onnx.save(tiny(), str(source), save_as_external_data=True, location="weights.bin", size_threshold=0)
    kx.convert(source, target)
    (source.parent / "weights.bin").unlink()
    assert [entry.name for entry in target.parent.iterdir()] == ["rewritten.onnx"]
    assert_file_is_right(target, tiny(), image_of(1, 3, 20, 24))


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    onnx.save(tiny(), str(source), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(kx.ModelError, match=r"model\.onnx: cannot be read: .*weights\.bin") as raised:
        kx.convert(source, tmp_path / "rewritten.onnx")
    assert "\n" not in str(raised.value) and not (tmp_path / "rewritten.onnx").exists()


def test_unknown_height_and_width_are_fixed_by_the_input_shape(tmp_path: Path) -> None:
    model = FAMILIES["dynamic_size"]()
    path = tmp_path / "rewritten.onnx"
    report = kx.convert(model, path, input_shape=(1, 3, 40, 33))
    assert report.input_shape == (1, 3, 40, 33)
    assert_file_is_right(path, model, image_of(1, 3, 40, 33))
    with pytest.raises(kx.ImageError, match="wants 3 x 40 x 33"):
        kx.OcclusionSession(path).explain(image_of(1, 3, 40, 34))


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize("kind", ["vector", "shared", "number", "ids", "scales"])
def test_a_second_input_takes_part_in_the_check(kind: str, batch: int | str, tmp_path: Path) -> None:
    report = kx.convert(with_second_input(kind, batch), tmp_path / "rewritten.onnx")
    assert report.largest_difference is not None and report.largest_difference < 1e-4


def test_an_output_of_integers_is_compared_too(tmp_path: Path) -> None:
    model = tiny()
    model.graph.node.append(onnx.helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0))
    model.graph.output.append(onnx.helper.make_tensor_value_info("best", onnx.TensorProto.INT64, ["batch"]))
    path = tmp_path / "rewritten.onnx"
    assert kx.convert(model, path).outputs == ("logits", "best")
    image = image_of(2, 3, 20, 24)
    expected = session_of(model).run(["best"], {"image": image})[0]
    actual = kx.OcclusionSession(path).run(["best"], {"image": image})[0]
    assert actual.dtype == np.int64
    np.testing.assert_array_equal(actual, expected)


def test_a_rewritten_model_is_not_converted_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    kx.convert(tiny(), first)
    with pytest.raises(kx.ModelError, match="rewritten already: convert the original one"):
        kx.convert(first, second)
    assert not second.exists()


# -- the check -----------------------------------------------------------------------------------------------


def spoiled(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """A rewritten model whose incremental part is wrong: its base pass is right, so only a check can tell."""
    graph = model.graph
    conv = [node for node in graph.node if node.op_type.startswith("IncrementalConv")][-1]
    if kind == "weight":
        weight = next(tensor for tensor in graph.initializer if tensor.name == conv.input[3])
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += 0.5
        graph.initializer.append(numpy_helper.from_array(values, "wrong"))
        conv.input[3] = "wrong"
    else:
        pads = next(attribute for attribute in conv.attribute if attribute.name == "pads")
        pads.ints[0] -= 1  # reads one row too low
    return model


@pytest.mark.parametrize("kind", ["weight", "pads"])
def test_a_wrong_rewrite_is_found_and_not_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        conversion, "rewrite_model", lambda *arguments: spoiled(rewrite_model(*arguments), kind)
    )
    path = tmp_path / "rewritten.onnx"
    with pytest.raises(kx.ModelError, match=r"differs .* output 'logits' .*nothing was written") as raised:
        kx.convert(tiny(), path)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())
    path.write_bytes(b"something of the user's")
    with pytest.raises(kx.ModelError):
        kx.convert(tiny(), path)
    assert path.read_bytes() == b"something of the user's" and len(list(tmp_path.iterdir())) == 1
    report = kx.convert(tiny(), path, check=False)
    assert report.checked_positions == 0 and report.largest_difference is None and path.stat().st_size > 1000


def test_a_rewrite_that_does_not_run_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments):
        model = rewrite_model(*arguments)
        next(node for node in model.graph.node if node.op_type.startswith("IncrementalConv")).input[3] = (
            "nothing"
        )
        return model

    monkeypatch.setattr(conversion, "rewrite_model", broken)
    with pytest.raises(kx.ModelError, match="ONNX Runtime cannot load the rewritten model") as raised:
        kx.convert(tiny(), tmp_path / "rewritten.onnx")
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "rewrite_model", lambda *_: pytest.fail("worked for nothing"))
    for path, message in [(tmp_path, "is a folder"), (tmp_path / "no" / "model.onnx", "no folder")]:
        with pytest.raises(kx.KryptonError, match=message):
            kx.convert(tiny(), path)
