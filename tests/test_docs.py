"""The Python examples of README and docs run as they stand, and give what the docs say."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from approximate_models import deep, scene
from families import FAMILIES, example_image
from naive import naive_map
from tolerances import assert_scores_equal

import krypton_onnx as kx

ROOT = Path(__file__).resolve().parents[1]


def examples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working directory with what the examples read; the model and the image."""
    monkeypatch.chdir(tmp_path)
    model = FAMILIES["densenet"]()  # no probabilities: nothing hides behind a softmax
    image = example_image(model)
    onnx.save(model, "model.onnx")
    np.save("image.npy", image[0])
    kx.convert(model, "rewritten.onnx")
    return model, image


def oracle(files, tops, lefts):
    model, image = files
    scores, baseline = naive_map(model, image, tops, lefts, np.zeros((3, 16, 16), np.float32))
    return scores.reshape(len(tops), len(lefts), -1), baseline


def test_the_readme(files, capsys):
    example, _ = examples("README.md")
    names: dict = {}
    exec(example, names)
    heat_map = names["heat_map"]
    scores, baseline = oracle(files, heat_map.tops, heat_map.lefts)
    [target] = heat_map.targets
    assert target == baseline.argmax()
    assert_scores_equal(heat_map.scores[0], scores[..., target], probabilities=False)
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    assert str(heat_map.scores.shape) in capsys.readouterr().out


def test_the_readme_on_approximate_maps(capsys):
    _, example = examples("README.md")
    names: dict = {"kx": kx, "session": kx.OcclusionSession(deep()), "image": scene(0)}
    exec(example, names)
    heat_map = names["heat_map"]
    assert heat_map.mode == "approximate" and heat_map.estimated_ssim > 0.8
    assert f"{heat_map.computed.mean()}" in capsys.readouterr().out


def test_the_rewritten_model_in_stock_and_in_registered_sessions(files):
    stock, registered = examples("docs/rewritten-model.md")
    names: dict = {}
    exec(stock, names)
    scores, baseline = oracle(files, names["tops"], names["lefts"])
    assert_scores_equal(names["scores"], scores, probabilities=False)
    assert_scores_equal(names["drop"], baseline - scores, probabilities=False)
    exec(registered, names)
    feeds = {**names["feeds"], "occlusion_origin": names["origins"]}
    [again] = names["session"].run([names["score"]], feeds)
    assert_scores_equal(again.reshape(scores.shape), scores, probabilities=False)
