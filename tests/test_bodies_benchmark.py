"""benchmarks/bodies.py: the rewritten file alone, in stock ONNX Runtime."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import bodies  # noqa: E402

from krypton_onnx.rewriter import plan_of, rewrite_model  # noqa: E402
from krypton_onnx.runtime.grid import make_grid  # noqa: E402


@pytest.mark.parametrize("grouping", bodies.GROUPINGS)
@pytest.mark.parametrize("most", [None, 5])
def test_every_grouping_holds_every_position_once(grouping: str, most: int | None) -> None:
    plan = plan_of(rewrite_model(FAMILIES["vgg"](), None, None))
    grid = make_grid(plan.image_shape[1:], 6, 3)
    runs = bodies.grouped(plan, grid, grouping, most)
    places = np.concatenate(runs.origins)
    assert places.dtype == np.int64 and len(places) == grid.positions == len(np.unique(places, axis=0))
    assert max(map(len, runs.origins)) <= (most or 128) and runs.r > 0
    assert set(map(tuple, places.tolist())) == {(top, left) for top in grid.tops for left in grid.lefts}


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    onnx.save(FAMILIES["vgg"](), tmp_path / "vgg.onnx")
    command = [sys.executable, str(BENCHMARKS / "bodies.py"), "--models", str(tmp_path), "--only", "vgg", "--quick",
               "--patch", "6", "--groupings", "advised,tiles", "--json", str(tmp_path / "rows.json")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["grouping"] for row in rows] == ["advised", "tiles"]
    for row in rows:
        assert row["speedup"] == pytest.approx(np.median(row["naive"]) / np.median(row["bodies"]))
        assert row["difference"]["largest"] <= row["difference"]["allowed"] <= 1e-5
        assert row["difference"]["positions"] == row["positions"] == 6  # each was also computed by full inference
        assert f"| {bodies.GROUPINGS[row['grouping']]} | {row['runs']} |" in done.stdout
    wrong = subprocess.run([*command, "--groupings", "any"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "--groupings any: words of advised, tiles, order" in wrong.stderr
