"""benchmarks/service.py: a few seconds of it, with a worker killed in the middle."""

import json
import subprocess
import sys
from pathlib import Path

import service_server  # noqa: F401 (which skips this where the service is not installed)

pytest_plugins = ("service_fixtures",)
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "service.py"


def test_it_measures_what_it_says(files, tmp_path):
    done = subprocess.run(
        [
            sys.executable, SCRIPT, "--model", files / "model.onnx", "--image", files / "photo.jpg",
            "--preset", "imagenet", "--clients", "5", "--seconds", "8", "--queue", "1", "--concurrency", "1",
            "--stride", "2", "--kill", "--json", tmp_path / "service.json",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = json.loads((tmp_path / "service.json").read_text())
    assert set(found["statuses"]) == {"200", "429"}, done
    assert 0 < found["p50_s"] <= found["p95_s"] <= found["longest_s"] and found["recovered_s"] > 0
    assert len(found["server_mb"]) == len(found["workers_mb"]) >= 6 and min(found["server_mb"]) > 10
    assert done.returncode == (0 if found["sound"] else 1)
    assert "a worker was killed" in done.stdout
