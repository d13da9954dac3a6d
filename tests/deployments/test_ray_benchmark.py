"""benchmarks/ray_scaling.py: its rates by hand, and a run on a model so small that its times mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import doc_files
import onnx
import pytest
from ray_cases import ray

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import ray_scaling  # noqa: E402


def test_the_steady_rate_counts_only_while_all_work():
    even = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert ray_scaling.steady_rate([even]) == pytest.approx(1)
    late = [2.5, 3.0, 3.5, 4.0, 9.0]
    # From 2.5 to 4: the first ends one image in one second, the second three in one and a half.
    assert ray_scaling.steady_rate([even, late]) == pytest.approx(1 + 2)
    assert ray_scaling.steady_rate([even, [3.5, 3.6]]) != ray_scaling.steady_rate([even, [3.5, 3.6]])  # not a number


def test_a_run_from_end_to_end(tmp_path):
    onnx.save(doc_files.classifier(), tmp_path / "small.onnx")
    small = ["--images", "8", "--rounds", "1", "--patch", "5", "--stride", "1", "--side", "64"]
    script = [sys.executable, str(BENCHMARKS / "ray_scaling.py"), "--model", str(tmp_path / "small.onnx"), *small]
    done = subprocess.run(
        [*script, "--json", str(tmp_path / "scaling.json")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "scaling.json").read_text())
    assert [one["workers"] for one in measured["runs"]] == [1, 2] and measured["ray"] == ray.__version__
    one, two = measured["runs"]
    assert measured["medians"]["2"]["whole_gain"] == pytest.approx(two["whole"] / one["whole"])
    assert measured["difference"] <= 1e-5 and "2 workers: " in done.stdout
