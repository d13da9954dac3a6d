"""benchmarks/quality.py and its report on a small model: every image left out, explained and compared."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from approximate_models import deep
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import measuring  # noqa: E402
import models  # noqa: E402
import quality  # noqa: E402
import quality_report  # noqa: E402

from krypton_onnx.runtime import policy  # noqa: E402


@pytest.fixture
def pictures(tmp_path) -> list[str]:
    """Files SOURCE-NUMBER.png; two of them are of one source."""
    rng = np.random.default_rng(0)
    names = []
    for name in ("a-0", "a-1", "b-0", "c-0"):
        pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        names.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(pixels).resize((80, 64)).save(names[-1])
    return names


def test_images_of_one_source_are_left_out_together(pictures) -> None:
    assert [quality.source(name) for name in pictures] == ["a", "a", "b", "c"]
    assert quality.source("coffee") == "coffee"
    assert quality.picture(pictures[0]).size == (64, 64)


def test_every_image_is_explained_and_reported(pictures, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(measuring, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(quality, "NAIVE_SECONDS", 0.01)
    monkeypatch.setattr(policy, "RUNG_COST", 0.0)
    onnx.save(deep(), tmp_path / "deep.onnx")
    model = models.Model("deep", tmp_path / "deep.onnx", models.UNKNOWN)
    laboratory = quality.Laboratory(model, tmp_path)
    laboratory.score = "output"
    observations = [laboratory.observation(name, list(policy.CANDIDATES)) for name in pictures]
    again = laboratory.observation(pictures[0], list(policy.CANDIDATES))  # from the cache
    for fidelity, values in observations[0].maps.items():
        np.testing.assert_array_equal(again.maps[fidelity], values)
    result = quality.left_out(laboratory, observations, 0.9)
    assert [image["image"] for image in result["images"]] == ["a-0", "a-1", "b-0", "c-0"]
    assert all(0.5 < image["ssim"] <= 1 and image["speedup"] > 0 for image in result["images"])
    assert [point["min_ssim"] for point in result["curve"]] == list(quality.TARGETS)
    assert all(point["speedup"] >= 1 for point in result["curve"])
    assert "| deep | output | 4 (3) |" in quality_report.summary({"deep": result})
    assert quality_report.per_image(result).count("\n") == 5
    assert "light, reach 1.7" in quality_report.rungs(result)
    quality_report.draw_maps({"deep": result}, tmp_path, tmp_path / "maps.png")
    quality_report.draw_curve({"deep": result}, tmp_path / "curve.png")
    quality_report.draw_calibration({"deep": result}, tmp_path / "calibration.png")
    with Image.open(tmp_path / "maps.png") as figure:
        assert figure.width > 500
