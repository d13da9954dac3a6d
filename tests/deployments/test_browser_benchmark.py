"""benchmarks/browser.py, as a reader would run it, on a model so small that its times mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from report_pages import needs_chromium
from tiny_models import tiny

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
pytest_plugins = ("web_browser",)
pytestmark = needs_chromium


def test_it_measures_a_batch_and_a_map_with_all_threads_and_with_one(built, tmp_path):
    onnx.save(tiny(height=64, width=64), tmp_path / "small.onnx")
    written = tmp_path / "browser.json"
    small = ["--patch", "8", "--stride", "8", "--batch", "16", "--positions", "2", "--rounds", "2", "--threads", "0,1"]
    script = [sys.executable, str(ROOT / "benchmarks" / "browser.py"), str(tmp_path / "small.onnx"), *small]
    done = subprocess.run(
        [*script, "--json", str(written), "--", "--preset", "unit"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(written.read_text())
    both, one = told["measured"]
    assert one["threads"] == 1 <= both["threads"]
    for made in told["measured"]:
        assert made["batch"] == 16 and made["positions"] == 64 and made["difference"] <= 1e-4
        assert made["batch_factor"] == pytest.approx(made["naive_ms"] / made["batch_ms"])
        assert made["map_factor"] == pytest.approx(64 * made["naive_ms"] / made["map_ms"])
    printed = done.stdout
    assert f"{both['threads']} thread" in printed and "the map of 64 positions" in printed
    assert printed.splitlines()[-1].startswith("Chromium ")
