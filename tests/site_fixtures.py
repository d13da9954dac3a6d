"""Fixtures that stand for what Node builds the page from. A plugin of the tests that use it (pytest_plugins)."""

import json

import onnx
import pytest
from tiny_models import tiny
from web_cases import Builder

from krypton_onnx.web import building


@pytest.fixture
def sources(tmp_path_factory, monkeypatch):
    """Sources of a page in a folder of their own, nothing packaged, and an empty cache."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "app" / "src").mkdir(parents=True)
    (folder / "app" / "src" / "main.ts").write_text("one")
    (folder / "app" / "package-lock.json").write_text("{}")
    (folder / "app" / "package.json").write_text(json.dumps({"engines": {"node": ">=20.19"}}))
    monkeypatch.setattr(building, "SOURCES", folder / "app")
    monkeypatch.setattr(building, "PACKAGED", folder / "built")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder / "app"


@pytest.fixture
def builder(sources, monkeypatch):
    builder = Builder()
    monkeypatch.setattr(building, "npm_build", builder)
    return builder


@pytest.fixture
def model(tmp_path_factory):
    """image (batch, 3, 20, 24) -> logits (batch, 4)."""
    path = tmp_path_factory.mktemp("model") / "finder.onnx"
    onnx.save(tiny(), path)
    return path
