"""Loading a model, and choosing its image input: one clear line for everything that can be wrong."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from graph_builder import Graph
from onnx import TensorProto, helper

from krypton_onnx.errors import ModelError
from krypton_onnx.rewriter import load_model, plan_of, rewrite_model


def refused(call, *arguments: object) -> str:
    """The message of the ModelError; one line."""
    with pytest.raises(ModelError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


JUNK = {
    "empty": b"",
    "text": b"this is not a model, it is a note\n",
    "zeros": bytes(4096),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "noise": np.random.default_rng(0).bytes(5000),
}


class TestFiles:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        message = refused(load_model, tmp_path / "none.onnx")
        assert str(tmp_path / "none.onnx") in message and "no such file" in message

    def test_a_folder(self, tmp_path: Path) -> None:
        message = refused(load_model, str(tmp_path))
        assert str(tmp_path) in message and "folder" in message

    @pytest.mark.parametrize("content", JUNK.values(), ids=JUNK)
    def test_junk(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "junk.onnx"
        path.write_bytes(content)
        message = refused(load_model, path)
        assert str(path) in message and "not an ONNX model" in message
        assert "not an ONNX model" in refused(load_model, content)

    def test_a_truncated_file(self, tmp_path: Path) -> None:
        data = FAMILIES["vgg"]().SerializeToString()
        path = tmp_path / "half.onnx"
        path.write_bytes(data[: len(data) // 2])
        assert str(path) in refused(load_model, path)
        refused(load_model, data[: len(data) // 2])

    def test_a_file_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "secret.onnx"
        path.write_bytes(b"x")

        def denied(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(onnx, "load", denied)
        assert "Permission denied" in refused(load_model, path)

    def test_an_empty_model_proto(self) -> None:
        assert "the ModelProto" in refused(load_model, onnx.ModelProto())

    def test_every_kind_of_source_gives_the_same_model(self, tmp_path: Path) -> None:
        model = FAMILIES["vgg"]()
        onnx.save(model, str(tmp_path / "vgg.onnx"))
        data = model.SerializeToString()
        for source in (model, data, bytearray(data), tmp_path / "vgg.onnx", str(tmp_path / "vgg.onnx")):
            loaded = load_model(source)
            assert loaded == model and loaded is not model


class TestExternalData:
    @staticmethod
    def save(folder: Path, one_file: bool = True) -> Path:
        path = folder / "model.onnx"
        onnx.save(
            FAMILIES["vgg"](), str(path), save_as_external_data=True, all_tensors_to_one_file=one_file,
            location="weights.bin" if one_file else None, size_threshold=0,
        )  # fmt: skip
        return path

    @pytest.mark.parametrize("one_file", [True, False])
    def test_it_is_read_from_beside_the_model(self, one_file: bool, tmp_path: Path) -> None:
        path = self.save(tmp_path, one_file)
        assert len(list(tmp_path.iterdir())) > (1 if one_file else 10)
        rewritten = rewrite_model(path)
        assert rewritten.SerializeToString() == rewrite_model(FAMILIES["vgg"]()).SerializeToString()

    def test_missing_weights(self, tmp_path: Path) -> None:
        path = self.save(tmp_path)
        (tmp_path / "weights.bin").unlink()
        message = refused(load_model, path)
        assert str(path) in message and "weights.bin" in message

    def test_bytes_have_no_folder_to_read_weights_from(self, tmp_path: Path) -> None:
        data = self.save(tmp_path).read_bytes()
        refused(rewrite_model, data)


def two_images(**shapes: list) -> onnx.ModelProto:
    """Convolutions of several inputs, added up."""
    g = Graph(0, opset=18, ir=8)
    means = [
        g.node("GlobalAveragePool", g.conv(g.input(name, shape), 4, 3)) for name, shape in shapes.items()
    ]
    g.node("Flatten", means[0] if len(means) == 1 else g.node("Add", *means), name="y")
    return g.model({"y": ["N", 4]})


class TestImageInput:
    MODEL = staticmethod(lambda: two_images(left=["N", 3, 16, 14], right=["N", 3, 12, 10]))

    def test_two_candidates_must_be_chosen_from(self) -> None:
        message = refused(rewrite_model, self.MODEL())
        assert "left, right" in message and "--image-input" in message

    def test_a_choice_is_used(self) -> None:
        rewritten = rewrite_model(two_images(left=["N", 3, 16, 14], right=[1, 3, 12, 10]), "left")
        assert plan_of(rewritten).image_input == "left" and plan_of(rewritten).image_shape == (3, 16, 14)
        onnx.checker.check_model(rewritten, full_check=True)
        assert [value.name for value in rewritten.graph.input][:2] == ["left", "right"]

    def test_a_choice_that_does_not_exist_names_those_that_do(self) -> None:
        message = refused(rewrite_model, self.MODEL(), "up")
        assert "'up'" in message and "left, right" in message

    @pytest.mark.parametrize(("shape", "dtype"), [
        (["N", 3, 16], TensorProto.FLOAT), (["N", 10], TensorProto.FLOAT), (["N", 3, 16, 14], TensorProto.DOUBLE),
        (["N", 3, 16, 14], TensorProto.INT64),
    ])  # fmt: skip
    def test_a_model_without_one(self, shape: list, dtype: int) -> None:
        value = helper.make_tensor_value_info
        node = helper.make_node("Identity", ["x"], ["y"])
        graph = helper.make_graph([node], "g", [value("x", dtype, shape)], [value("y", dtype, shape)])
        assert "no image input" in refused(rewrite_model, helper.make_model(graph, ir_version=8))

    def test_weights_listed_as_inputs_are_no_candidates(self) -> None:
        """As IR versions before 4 must."""
        model = FAMILIES["vgg"]()
        for tensor in model.graph.initializer:
            listed = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(listed)
        rewritten = rewrite_model(model)
        assert plan_of(rewritten).image_input == "input"
        assert len(rewritten.graph.input) == 4


class TestInputShape:
    SHAPE = (1, 3, 44, 38)

    def test_unknown_sides_name_the_option(self) -> None:
        message = refused(rewrite_model, FAMILIES["dynamic_size"]())
        assert "--input-shape input:1,3,224,224" in message and "unknown" in message

    def test_a_given_shape_is_used(self) -> None:
        model = FAMILIES["dynamic_size"]()
        assert example_image(model).shape == self.SHAPE
        assert plan_of(rewrite_model(model, None, self.SHAPE)).image_shape == (3, 44, 38)

    def test_the_batch_of_a_given_shape_does_not_matter(self) -> None:
        plans = [plan_of(rewrite_model(FAMILIES["dynamic_size"](), None, (batch, 3, 44, 38))) for batch in (1, 7)]
        assert plans[0] == plans[1]

    def test_one_unknown_side_is_enough_to_ask(self) -> None:
        assert "1,3,16,?" in refused(rewrite_model, two_images(x=["N", 3, 16, "W"]))
        rewritten = rewrite_model(two_images(x=["N", 3, 16, "W"]), None, (1, 3, 16, 20))
        assert plan_of(rewritten).image_shape == (3, 16, 20)

    def test_a_shape_that_contradicts_the_model(self) -> None:
        message = refused(rewrite_model, FAMILIES["vgg"](), None, (1, 3, 224, 224))
        assert "(1, 3, 224, 224)" in message and "32" in message and "'input'" in message

    def test_a_shape_of_another_rank(self) -> None:
        assert "4 dimensions" in refused(rewrite_model, FAMILIES["dynamic_size"](), None, (3, 44, 38))

    @pytest.mark.parametrize("shape", [(1, 3, 0, 38), (1, 3, -44, 38)])
    def test_a_shape_without_pixels(self, shape) -> None:
        refused(rewrite_model, FAMILIES["dynamic_size"](), None, shape)

    def test_a_shape_too_small_for_the_model(self) -> None:
        """ONNX Runtime's own words, on one line."""
        g = Graph(0, opset=18, ir=8)
        g.node("Relu", g.conv(g.input("x", ["N", 3, "H", "W"]), 4, 7), name="y")
        refused(rewrite_model, g.model({"y": ["N", 4, "h", "w"]}), None, (1, 3, 4, 4))


class TestOnnxRuntimeRefuses:
    def test_an_operator_that_does_not_exist(self) -> None:
        g = Graph(0, opset=18, ir=8)
        x = g.conv(g.input("x", ["N", 3, 16, 14]), 4, 3)
        model = g.model({x: ["N", 4, 14, 12]})
        model.graph.node[0].op_type = "Convolve"
        assert "Convolve" in refused(rewrite_model, model)

    def test_an_opset_of_the_future(self) -> None:
        model = FAMILIES["vgg"]()
        model.opset_import[0].version = 99
        assert "99" in refused(rewrite_model, model)
