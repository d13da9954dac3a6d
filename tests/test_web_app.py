"""The page of `krypton-onnx web` as files: what it takes from Python is current, and what it depends on is stated."""

from __future__ import annotations

import json
import re

import PIL
import pytest
import web_fixtures

STALE = "run python tests/web_fixtures.py"

# It resizes tall pictures in another order since 13, which changes some pixels by one.
NEW_PILLOW = int(PIL.__version__.split(".")[0]) >= 13


@pytest.mark.skipif(not NEW_PILLOW, reason="the page resizes as Pillow 13 and newer do")
def test_pixels_of_the_page_are_those_of_python():
    assert web_fixtures.PIXELS.read_text(encoding="utf-8") == web_fixtures.pixels(), STALE


def test_colours_of_the_page_are_those_of_python():
    assert web_fixtures.PALETTE.read_text(encoding="utf-8") == web_fixtures.palette(), STALE


def test_the_lock_file_names_no_host_but_the_registry():
    text = (web_fixtures.APP / "package-lock.json").read_text(encoding="utf-8")
    assert set(re.findall(r'"resolved": "https?://([^/"]+)', text)) <= {"registry.npmjs.org"}


def test_dependencies_are_of_one_version_each():
    package = json.loads((web_fixtures.APP / "package.json").read_text(encoding="utf-8"))
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values()), versions


def test_nothing_is_inline_and_no_other_host_is_named():
    page = (web_fixtures.APP / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'content="(default-src[^"]*)"', page)
    assert policy is not None
    assert "unsafe-inline" not in policy.group(1)
    assert "'unsafe-eval'" not in policy.group(1)
    assert not re.search(r"<style|<script(?![^>]* src=)| style=| on[a-z]+=|https?://", page)
