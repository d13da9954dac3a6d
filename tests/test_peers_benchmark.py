"""The benchmark beside other libraries: its maps are equal, its table has every way, and stands where it belongs."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_builder import Graph
from tiny_models import image_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import peers  # noqa: E402


def small() -> onnx.ModelProto:
    """The operators of the benchmark's SqueezeNet."""
    g = Graph(70, opset=13, ir=8)
    x = g.pool("MaxPool", g.conv_relu(g.input("data", ["N", 3, 33, 33]), 6, 3, stride=2), 3, 2)
    x = g.conv_relu(g.concat(g.conv_relu(x, 5, 1), g.conv_relu(x, 6, 3, pads=1)), 4, 1)
    g.node("Softmax", g.node("Flatten", g.node("GlobalAveragePool", x)), name="prob", axis=1)
    return g.model({"prob": ["N", 4]})


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> peers.Bench:
    torch = pytest.importorskip("torch")
    pytest.importorskip("captum")
    pytest.importorskip("monai")
    monkeypatch.setattr(peers, "BATCHES", (1, 4))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # of this whole process
    return peers.Bench(small(), image_of(1, 3, 33, 33), 9, 4, 1)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_all_ways_give_one_map(bench: peers.Bench) -> None:
    assert bench.networks_differ < 1e-6 and bench.positions == 49
    ways = peers.measure(bench, rounds=2)
    maps = [way.compute() for way in ways]
    assert len(maps) == 8 and maps[0].shape == (33, 33) and np.ptp(maps[0]) > 1e-4
    for way, result in zip(ways, maps, strict=True):
        np.testing.assert_allclose(result, maps[0], atol=1e-6, err_msg=way.name)
        assert len(way.seconds) == 2 and way.difference < 1e-6
        assert way.batch in (None, 1, 4)
    table = peers.to_markdown(ways, bench, threads=1, other_work=0.25)
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [way.name for way in ways]
    assert "49 positions" in table and "25%" in table and "4 classes" in table


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_map_that_differs_is_told(bench: peers.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "demo", _Demo)
    monkeypatch.setattr(peers, "prepare_image", lambda picture, preparation: _Prepared)
    asked = ["--patch", "9", "--stride", "8", "--rounds", "1"]
    assert peers.main(asked) == 0
    own = peers.Bench._from_scores
    monkeypatch.setattr(peers.Bench, "_from_scores", lambda *arguments: own(*arguments) + 1e-4)
    assert peers.main(asked) == 1


class _Demo:
    SIZE, PREPARATION = 33, None
    squeezenet = staticmethod(small)

    @staticmethod
    def photograph() -> np.ndarray:
        return np.zeros((33, 33, 3), np.uint8)


class _Prepared:
    array = image_of(1, 3, 33, 33)


def test_the_table_stands_between_its_marks() -> None:
    first, last = peers.MARKS
    page = f"# Head\n\n{first}\n\nold\n\n{last}\n\ntail\n"
    written = peers.between_marks(page, "| new |\n")
    assert written == f"# Head\n\n{first}\n\n| new |\n\n{last}\n\ntail\n"
    assert peers.between_marks(written, "| new |\n") == written
    for broken in ("", first, f"{last} {first}", page + first):
        with pytest.raises(ValueError, match="must hold"):
            peers.between_marks(broken, "")
    assert peers.between_marks((BENCHMARKS.parent / "docs" / "comparison.md").read_text(), "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--patch", "16"], "must be a multiple"),
        (["--patch", "3", "--stride", "4"], "must be a multiple"),
        (["--stride", "0"], "must be a multiple"),
        (["--rounds", "0"], "--rounds: at least 1"),
        (["--json", "no/such/folder.json"], "cannot write"),
        (["--markdown", "README.md"], "must hold"),
    ],
)
def test_usage(arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(BENCHMARKS.parent)
    with pytest.raises(SystemExit) as ended:
        peers.main(arguments)
    assert ended.value.code == 2 and told in capsys.readouterr().err
