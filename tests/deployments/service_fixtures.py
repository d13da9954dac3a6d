"""A service and what it is asked about. A plugin of the tests that use it (pytest_plugins), not imported."""

from pathlib import Path

import doc_files
import onnx
import pytest
from service_server import PREPARING, running


def write_files(folder: Path) -> Path:
    """What doc_files writes, and a model that is no model."""
    doc_files.write(folder)
    (folder / "broken.onnx").write_bytes(onnx.load(folder / "model.onnx").SerializeToString()[:700])
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def service(files):
    """One for the tests of a module; at its end nothing was an error of its own."""
    with running(files, "model.onnx", *PREPARING) as one:
        yield one
