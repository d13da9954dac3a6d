"""The tables of docs/operators.md about exporters' networks: made from the files, complete, checked against a page."""

import sys
from pathlib import Path

import onnx
import pytest
from families import FAMILIES

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import coverage_tables  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two networks of two exporters, one that cannot be read."""
    onnx.save(FAMILIES["vgg"](), tmp_path / "torch_vgg.onnx")
    onnx.save(FAMILIES["vgg"](), tmp_path / "keras_vgg.onnx")
    onnx.save(FAMILIES["mobilenet_v2"](), tmp_path / "torch_mobile.onnx")
    (tmp_path / "keras_mobile.onnx").write_bytes(b"no model")
    return tmp_path


def test_a_row_a_network_a_column_an_exporter(folder: Path):
    lines = coverage_tables.of_exporters(folder)
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header == ["network", *coverage_tables.EXPORTERS.values()]
    assert len(set(header)) == len(header)
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4]}
    torch, keras = header.index("PyTorch, TorchScript"), header.index("Keras")
    assert rows["vgg"][torch] == rows["vgg"][keras] == rows["mobile"][torch] == "100.0 %"
    assert rows["mobile"][keras] == "refused"
    assert rows["vgg"][header.index("PyTorch, dynamo")] == ""


def test_ends_are_told_once_each_with_the_networks_that_have_them(folder: Path):
    ends = [line for line in coverage_tables.of_exporters(folder) if line.startswith("- ")]
    assert len(ends) == len(set(ends)) == 3
    assert any("mixes all cells" in line and line.endswith("(vgg)") for line in ends)
    assert any(line.startswith("- refused: ") and line.endswith("(mobile)") for line in ends)


def test_shares_are_rounded_down():
    assert coverage_tables.Coverage(0.99999, ()).shown == "99.9 %"
    assert coverage_tables.Coverage(1.0, ()).shown == "100.0 %"


def test_a_page_with_other_tables_is_told(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coverage_tables, "EXPORTED", folder)
    monkeypatch.setattr(coverage_tables, "document", lambda: "\n".join(coverage_tables.of_exporters(folder)))
    page = tmp_path / "page.md"
    page.write_text("# Operators\n\n" + coverage_tables.document() + "\n\nMore.\n")
    assert coverage_tables.main(["--check", str(page)]) == 0
    page.write_text(page.read_text().replace("100.0 %", "99.0 %"))
    assert coverage_tables.main(["--check", str(page)]) == 1
