"""The table of common classifiers: what it shows, how it resumes, and one small run from end to end."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import zoo  # noqa: E402
from report import Difference, Environment  # noqa: E402
from zoo_report import HEADER, ZooReport, ZooRow  # noqa: E402

from krypton_onnx.runtime.grid import make_grid  # noqa: E402

PLACE = Environment(onnxruntime="1.31.1", cores=2, cpu="A processor", kernels=True, date="2026-01-31")
RESNET = ZooRow(
    model="resnet18", origin="torchvision resnet18, dynamo exporter", sides=(224, 200), patch=16, stride=14,
    positions=225, multiply_adds=1_814_000_000, true_r=3.021, achieved_r=2.9, incremental_share=0.99996,
    ends=("GlobalAveragePool: it averages",), naive_batch=8, naive=(30.0, 90.0, 32.0), exact=(10.0, 11.0, 16.0),
    difference=Difference(2e-5, 1e-4, 48), other_work=0.01, seconds=20.0,
)  # fmt: skip
GATED = dataclasses.replace(
    RESNET, model="efficientnet_b0", incremental_share=0.038, ends=("Mul: it joins", "Add: it joins"),
    naive=(10.0, 10.0, 10.0), exact=(9.0, 10.0, 11.0), note="by full inference, which is as fast here",
)  # fmt: skip
SLOW = dataclasses.replace(GATED, model="slow", note="", exact=(11.0, 12.0, 13.0))


def row_of(markdown: str, model: str) -> dict[str, str]:
    """The cells of the table's row of this model, by the header."""
    lines = [line for line in markdown.splitlines() if line.startswith(f"| {model} |")]
    assert len(lines) == 1, markdown
    return dict(zip(HEADER, [cell.strip() for cell in lines[0].strip("|").split("|")], strict=True))


def test_speedup_is_the_median_of_the_paired_ratios():
    assert RESNET.ratios == (pytest.approx(3.0), pytest.approx(90 / 11), pytest.approx(2.0))
    assert RESNET.speedup == pytest.approx(3.0)  # that of the medians would be 32 / 11


def test_markdown_shows_every_figure():
    assert row_of(ZooReport(PLACE, (RESNET,)).to_markdown(), "resnet18") == {
        "model": "resnet18", "input px": "224 x 200", "multiply-adds": "1814 M", "true R": "3.02",
        "achieved R": "2.90", "incremental": "99.9 %", "naive ms/position (batch)": "32.00 (8)",
        "exact ms/position": "11.00", "speedup": "**3.00**", "range": "2.00 - 8.18", "positions (stride)": "225 (14)",
        "exact": "yes",
    }  # fmt: skip


def test_models_that_end_early_say_where_and_the_others_do_not():
    markdown = ZooReport(PLACE, (GATED, RESNET)).to_markdown()
    assert "- efficientnet_b0, 3.8 %: Mul: it joins; Add: it joins" in markdown
    assert "it averages" not in markdown
    assert "2 models; at least 99 % incremental: 1; median speedup 2.00." in markdown
    assert "- efficientnet_b0: by full inference, which is as fast here" in markdown
    assert markdown.index("| resnet18 ") < markdown.index("| efficientnet_b0 ")  # the fastest first


def test_slower_wrong_and_failed_models_are_told_and_are_failures():
    assert ZooReport(PLACE, (RESNET, GATED)).good
    slow = ZooReport(PLACE, (RESNET, SLOW))
    assert not slow.good
    assert "- slow: **slower than full inference** (0.83)" in slow.to_markdown()
    wrong = ZooReport(PLACE, (dataclasses.replace(RESNET, difference=Difference(2e-4, 1e-4, 48)),))
    assert not wrong.good
    assert row_of(wrong.to_markdown(), "resnet18")["exact"] == "**NO**"
    failed = ZooReport(PLACE, (RESNET,)).with_failure("vgg", "out of memory")
    assert not failed.good
    assert "- vgg: **failed**: out of memory" in failed.to_markdown()
    busy = ZooReport(PLACE, (dataclasses.replace(RESNET, other_work=0.4),))
    assert "- resnet18: other processes were working" in busy.to_markdown()


def test_a_report_comes_back_from_json_without_its_failures():
    report = ZooReport(PLACE, (RESNET, GATED)).with_failure("vgg", "out of memory")
    again = ZooReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == ZooReport(PLACE, (RESNET, GATED))
    assert again.names == {"resnet18", "efficientnet_b0"}
    with pytest.raises(ValueError, match="format"):
        ZooReport.from_dict({**report.to_dict(), "format": 0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small models, one with a note of where it is from."""
    for name in ("vgg", "mobilenet_v2"):
        model = FAMILIES[name]()
        model.doc_string = "a test" if name == "vgg" else ""
        onnx.save(model, tmp_path / f"{name}.onnx")
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "PATCH", 6)
    monkeypatch.setattr(zoo, "BATCHES", (1, 4))


def test_two_small_models_from_end_to_end(folder: Path, capsys: pytest.CaptureFixture, quick: None):
    found = folder / "zoo.json"
    arguments = [str(folder), "--json", str(found), "--seconds", "0.3"]
    code = zoo.main([*arguments, "--only", "vgg"])
    first = json.loads(found.read_text())["models"]
    assert [row["model"] for row in first] == ["vgg"]
    assert first[0]["origin"] == "a test"
    assert len(first[0]["ratios"]) == zoo.ROUNDS
    assert 0 < first[0]["difference"]["positions"] <= first[0]["positions"]
    assert first[0]["difference"]["largest"] <= first[0]["difference"]["allowed"]
    assert first[0]["multiply_adds"] > 0 and first[0]["achieved_r"] > 1
    assert code in (0, 1)  # so small a model may be slower, which is no matter here
    capsys.readouterr()
    zoo.main([*arguments, "--resume"])
    printed = capsys.readouterr()
    assert json.loads(found.read_text())["models"][0] == first[0]  # not measured again
    assert [row["model"] for row in json.loads(found.read_text())["models"]] == ["vgg", "mobilenet_v2"]
    assert "[1/1] mobilenet_v2" in printed.err
    row_of(printed.out, "vgg")
    row_of(printed.out, "mobilenet_v2")


def test_a_broken_model_does_not_lose_the_others(folder: Path, capsys: pytest.CaptureFixture, quick: None):
    (folder / "a_broken.onnx").write_bytes(b"no model")
    assert zoo.main([str(folder), "--seconds", "0.3", "--only", "a_broken,vgg"]) == 1
    printed = capsys.readouterr().out
    assert "- a_broken: **failed**: " in printed
    row_of(printed, "vgg")


@pytest.mark.parametrize(
    "arguments, said",
    [(["--only", "nothing"], "nothing: no such model"), (["--resume"], "--resume needs --json"),
     (["--json", "nowhere/zoo.json"], "no folder")],
)  # fmt: skip
def test_wrong_arguments_are_told(folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stopped:
        zoo.main([str(folder), *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_an_empty_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        zoo.main([str(tmp_path)])
    assert "export_zoo.py" in capsys.readouterr().err


def test_the_best_batch_of_full_inference_is_among_those_measured(folder: Path, monkeypatch: pytest.MonkeyPatch):
    model = onnx.load(folder / "vgg.onnx")
    height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:])
    image = np.zeros((1, 3, height, width), np.float32)
    monkeypatch.setattr(zoo, "BATCHES", (2, 3))
    naive = zoo.SampledNaive(folder / "vgg.onnx", image, "NCHW", make_grid((height, width), 6, 7), 1)
    assert set(naive.probed) == {2, 3}
    assert naive.probed[naive.batch] == min(naive.probed.values())
    assert naive.slice(1e-9) > 0  # one batch at least
