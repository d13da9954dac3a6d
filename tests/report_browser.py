"""Fixtures that open reports in headless Chromium. A plugin of the tests that use it (pytest_plugins), not imported."""

import pytest
from report_cases import explained
from report_pages import CHROMIUM

from krypton_onnx import report

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def explanation(tmp_path_factory):
    return explained(tmp_path_factory.mktemp("report"))


@pytest.fixture
def shown(browser, tmp_path):
    """Opens the report of an explanation; at the end nothing was asked for but the file, and nothing went wrong."""
    asked, wrong, contexts = [], [], []

    def show(explanation, **how):
        path = tmp_path / f"{len(contexts)}.html"
        report.write(explanation, path)
        contexts.append(browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **how}))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html.ready")
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [
        (tmp_path / f"{number}.html").as_uri() for number in range(len(contexts))
    ]
