"""Models beyond 2 GB, where weights travel apart from the protobuf message: here beyond some kilobytes."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from families import FAMILIES, example_image
from google.protobuf.message import EncodeError
from onnx import numpy_helper
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx import saving
from krypton_onnx.rewriter import load_model, rewrite_model, weights

PATCH, STRIDE = (9, 7), (11, 13)
NAMES = ["vgg", "resnet18_legacy", "squeezenet_fixed_batch", "vgg_nhwc", "two_outputs"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(weights, "INLINE_BYTES", 4096)
    monkeypatch.setattr(weights, "WEIGHT_BYTES", 512)
    yield


def external(name: str, folder: Path) -> Path:
    """A model of an exporter that keeps the weights in another file."""
    path = folder / f"{name}.onnx"
    onnx.save(FAMILIES[name](), str(path), save_as_external_data=True, location="weights.bin", size_threshold=512)
    return path


def explained(model: object, name: str, mode: str) -> np.ndarray:
    image = example_image(FAMILIES[name]())
    output = FAMILIES[name]().graph.output[0].name
    session = kx.OcclusionSession(model)
    return session.explain(image, targets=range(3), patch=PATCH, stride=STRIDE, mode=mode, output=output).scores


@pytest.mark.parametrize("name", NAMES)
def test_explained_converted_and_explained_again(name: str, tmp_path: Path) -> None:
    source = external(name, tmp_path)
    naive = explained(source, name, "naive")
    for mode in ("exact", "naive"):
        assert_scores_equal(explained(source, name, mode), naive, probabilities=False)
        assert_scores_equal(explained(load_model(source), name, mode), naive, probabilities=False)
    target = tmp_path / "out" / "rewritten.onnx"
    target.parent.mkdir()
    kx.convert(source, target)
    assert len(os.listdir(target.parent)) == 2
    assert_scores_equal(explained(target, name, "exact"), naive, probabilities=False)
    # The two files are an ordinary ONNX model.
    onnx.checker.check_model(str(target))
    assert ort.InferenceSession(str(target), providers=["CPUExecutionProvider"]).get_inputs()


def described(model: onnx.ModelProto) -> set[tuple[str, ...]]:
    """Nodes, in any order; ONNX Runtime writes default values of attributes out in one case and not in the other."""
    return {(node.op_type, *node.input, *node.output) for node in model.graph.node}


@pytest.mark.parametrize("name", NAMES)
def test_the_rewritten_model_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = rewrite_model(FAMILIES[name]())
    monkeypatch.undo()
    whole = rewrite_model(FAMILIES[name]())
    values = [{one.name: numpy_helper.to_array(one) for one in model.graph.initializer} for model in (apart, whole)]
    assert set(values[0]) == set(values[1])
    for one, value in values[0].items():
        np.testing.assert_array_equal(value, values[1][one])
    assert described(apart) == described(whole)


def test_nothing_is_written_copied_or_read_in_one_piece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stands in for protobuf's own limit: a message of more bytes than the nodes have cannot be serialized."""
    source = external("vgg", tmp_path)
    naive = explained(source, "vgg", "naive")
    sizes: list[int] = []
    bytes_of = weights.as_bytes

    def limited(model: onnx.ModelProto) -> bytes:
        data = bytes_of(model)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(weights, "as_bytes", limited)
    monkeypatch.setattr(onnx, "save", lambda *_, **__: pytest.fail("onnx.save copies the model"))
    assert_scores_equal(explained(load_model(source), "vgg", "exact"), naive, probabilities=False)
    kx.convert(source, tmp_path / "rewritten.onnx")
    total = weights.weight_bytes(load_model(source))
    assert len(sizes) > 5 and max(sizes) < total


def test_run_leaves_the_callers_options_alone(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    image = example_image(FAMILIES["vgg"]())
    session = kx.OcclusionSession(FAMILIES["vgg"](), options)
    name = session.image_input
    first = session.run(None, {name: image})[0]
    other = kx.OcclusionSession(FAMILIES["vgg"](), options)
    np.testing.assert_array_equal(other.run(None, {name: image})[0], first)
    whole = ort.InferenceSession(FAMILIES["vgg"]().SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(whole.run(None, {name: image})[0], first, atol=1e-6)


def test_a_given_model_keeps_its_weights() -> None:
    model = FAMILIES["vgg"]()
    before = model.SerializeToString()
    kx.OcclusionSession(model).explain(example_image(model), patch=16, stride=16)
    assert model.SerializeToString() == before


# -- writing ---------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_writing_again_leaves_one_pair(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    (tmp_path / "model.onnx.0123456789ab.weights").write_bytes(b"of somebody else")
    saving.write_model(FAMILIES["vgg"](), target)
    first = contents(tmp_path)
    saving.write_model(FAMILIES["resnet18_legacy"](), target)
    second = contents(tmp_path)
    assert len(first) == len(second) == 3 and len(set(first) & set(second)) == 2
    assert second["model.onnx.0123456789ab.weights"] == b"of somebody else"
    assert_same_model(load_model(target), FAMILIES["resnet18_legacy"]())


def test_a_small_model_takes_the_place_of_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.onnx"
    saving.write_model(FAMILIES["vgg"](), target)
    monkeypatch.undo()
    saving.write_model(FAMILIES["vgg"](), target)
    assert list(contents(tmp_path)) == ["model.onnx"]
    assert_same_model(load_model(target), FAMILIES["vgg"]())


DISK_FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["weights", "model", "replace"])
@pytest.mark.parametrize("error", [DISK_FULL, KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_what_fails_leaves_the_old_pair(
    where: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.onnx"
    saving.write_model(FAMILIES["vgg"](), target)
    before = contents(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise error

    if where == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:
        monkeypatch.setattr(weights, "refer" if where == "weights" else "as_bytes", fail)
    expected = kx.KryptonError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        saving.write_model(FAMILIES["resnet18_legacy"](), target)
    assert contents(tmp_path) == before
    assert_same_model(load_model(target), FAMILIES["vgg"]())


def assert_same_model(model: onnx.ModelProto, expected: onnx.ModelProto) -> None:
    """Weights that came back from a file have other fields set."""
    assert list(model.graph.node) == list(expected.graph.node)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for tensor in expected.graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], numpy_helper.to_array(tensor))
    assert len(found) == len(expected.graph.initializer)


# -- what is too large even so ---------------------------------------------------------------------------------------


def test_one_tensor_of_more_than_2_gb_is_told() -> None:
    model = FAMILIES["vgg"]()
    # By its shape alone: the values are not there, and nobody asks for them.
    large = onnx.TensorProto(name="huge", data_type=onnx.TensorProto.FLOAT, dims=[1 << 15, 1 << 15])
    with pytest.raises(kx.ModelError, match="initializer 'huge' alone is larger than 2 GB"):
        weights.extend_initializers(model, [large])


def test_a_message_that_is_too_large_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class TooLarge:
        def SerializeToString(self) -> bytes:
            raise EncodeError("Failed to serialize proto")

    with pytest.raises(kx.ModelError, match="larger than 2 GB even without its large initializers"):
        weights.as_bytes(TooLarge())  # type: ignore[arg-type]
