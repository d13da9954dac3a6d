"""The site builds without a warning and without a network, and says what the code says."""

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import krypton_onnx as kx
from krypton_onnx.cli import app
from krypton_onnx.specification_keys import KEYS, PREPARATION, TABLES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
READABLE = ("color-contrast", "link-in-text-block", "image-alt", "heading-order", "document-title", "html-has-lang")
EMPTY = (None, dataclasses.MISSING)

needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="MkDocs Material is not installed (the extra docs)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built with every warning an error, and with no way out: a proxy that nobody answers at."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Links(HTMLParser):
    """What a page loads, what it links to, and the anchors it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors.update(given[name] for name in ("id", "name") if given.get(name))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif given.get("src"):
            self.loads.append(given["src"])
        elif tag == "link" and given.get("href") and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(given["href"])


@needs_mkdocs
def test_nothing_is_loaded_from_elsewhere_and_all_that_is_loaded_is_there(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        for url in Links(page).loads:
            if url.startswith("data:"):
                continue
            parts = urlsplit(url)
            assert not parts.scheme and not parts.netloc, f"{page.relative_to(site)} loads {url}"
            start = site if page.name == "404.html" else page.parent  # that one has paths from the root
            assert (start / unquote(parts.path).lstrip("/")).is_file(), f"{page.relative_to(site)}: {url}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s*)['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@needs_mkdocs
def test_links_between_pages_lead_somewhere(site):
    read = {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    for page, links in read.items():
        for url in links.links:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.relative_to(site)}: {url}"
            if parts.fragment and target in read and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in read[target].anchors, f"{page.relative_to(site)}: {url}"


@needs_mkdocs
def test_the_reference_has_every_public_name_and_the_command_line_every_option(site):
    anchors = {anchor.rpartition(".")[2] for anchor in Links(site / "reference.html").anchors}
    assert set(kx.__all__) <= anchors
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert "<li><code>targets</code>: class ids" in reference.replace("\n", "")  # one argument, one item
    commands = (site / "command-line.html").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f'id="krypton-onnx-{command.callback.__name__.replace("_", "-")}"' in commands
    for option in ("--save-spec", "--min-ssim", "--max-memory", "--providers"):
        assert f"<code>{option} " in commands


@needs_mkdocs
def test_a_search_finds_a_page_without_a_server(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any("incremental" in entry["text"] for entry in index["docs"])
    assert (site / "search" / "search_index.js").is_file()  # what a page opened from a folder reads


@pytest.fixture(scope="module")
def browser():
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no Chromium on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@needs_mkdocs
def test_the_search_works_from_a_folder(site, browser):
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "how-to" / "choosing.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("saturated classifiers")
    page.wait_for_selector(".md-search-result__link", timeout=20_000)
    links = [link.get_attribute("href") for link in page.locator(".md-search-result__link").all()]
    assert any("choosing.html" in link for link in links)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    page.close()


@needs_mkdocs
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read_by_everybody(site, browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (the extra dev)")
    for name in ("index", "concepts", "notebook", "how-to/choosing", "specification"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((site / f"{name}.html").as_uri())
        found = axe.Axe().run(page).response["violations"]
        # What is left are names and landmarks of the theme's own parts.
        wrong = {one["id"]: one["nodes"][0]["html"] for one in found if one["id"] in READABLE}
        assert wrong == {}, f"{name}, {scheme}"
        page.close()


def rows():
    """{table: {key: default}} as the page on specifications has them."""
    found: dict[str, dict[str, str]] = {}
    for line in (DOCS / "specification.md").read_text().splitlines():
        if match := re.match(r"\| \*\*\[(\w+)\]\*\* \|", line):
            keys = found.setdefault(match[1], {})
        elif match := re.match(r"\| `(\w+)` \| (?:`(.*?)`)? ?\|", line):
            keys[match[1]] = match[2] or ""
    return found


def test_the_page_on_specifications_has_every_key_and_its_default():
    defaults = {
        holder: {field.name: field.default for field in dataclasses.fields(holder)}
        for holder in (kx.ExplanationSpec, kx.Preparation)
    }
    expected: dict[str, dict[str, str]] = {table: {} for table in TABLES}
    for key in KEYS:
        default = defaults[kx.Preparation if key.table == PREPARATION else kx.ExplanationSpec][key.field]
        value = list(default) if isinstance(default, tuple) else default
        expected[key.table][key.name] = "" if value in EMPTY else json.dumps(value)
    assert rows() == expected
