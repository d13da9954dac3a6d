"""The front page in headless Chromium: an image goes in, the map is seen to fill, the report is shown."""

import re

import pytest
from report_pages import needs_chromium
from service_server import PREPARING, SLOW, running

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
pytest_plugins = ("service_fixtures", "report_browser")
pytestmark = needs_chromium
expect = playwright.expect


@pytest.fixture
def opened(browser, service):
    """Opens a page of a service; at the end no other origin was asked, and nothing went wrong."""
    asked, wrong, contexts, urls = [], [], [], [service.url]

    def opening(path="/", url=service.url, ready="html.ready", **how):
        urls.append(url)
        contexts.append(browser.new_context(**how))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.goto(url + path)
        page.wait_for_selector(ready)
        return page

    opening.wrong = wrong
    yield opening
    for context in contexts:
        context.close()
    assert wrong == []
    own = ("data:", "blob:", "about:", *(f"{one}/" for one in urls))
    assert [url for url in asked if not url.startswith(own)] == []


def explain(page, files, **fields) -> None:
    page.set_input_files("#image", files / "photo.jpg")
    for name, value in fields.items():
        if name in ("fill", "score", "mode"):
            page.select_option(f"#{name}", value)
        else:
            page.fill(f"#{name}", value)
    page.click("#explain")


def test_an_image_is_explained_and_the_report_shown(opened, service, files):
    page = opened(viewport={"width": 1200, "height": 900})
    assert page.text_content("#model") == "model.onnx, 64 x 64 pixels"
    assert page.get_attribute("#stride", "placeholder") == "4,4"
    explain(page, files, stride="4", top="2", fill="mean")
    expect(page.locator("#told")).to_contain_text("The map is complete", timeout=30_000)
    frame = page.frame_locator("#report")
    expect(frame.locator("html.ready")).to_have_count(1)
    want = service.explain(files / "photo.jpg", stride="4", top="2", fill="mean").json()
    assert frame.locator("#class option").all_text_contents() == want["names"]
    assert frame.locator("h1").text_content() == want["names"][0]
    assert frame.locator(".eyebrow").text_content() == "Occlusion map of photo.jpg"
    expect(page.locator("#told")).to_contain_text(want["names"][0])
    # It is a page of its own, too.
    with page.expect_download() as download:
        page.click("#save")
    assert 'id="data"' in download.value.path().read_text()
    # And a second one in its place.
    explain(page, files, stride="16", top="", target="espresso")
    expect(page.locator("#told")).to_contain_text("complete: espresso")


def test_the_map_is_seen_while_it_fills_and_can_be_stopped(opened, service, files):
    page = opened()
    slow = {name: value for name, value in SLOW.items() if name in ("stride", "patch", "fill")}
    explain(page, files, **slow)
    expect(page.locator("#done")).to_have_text(re.compile(r"[1-9]\d* of 3721 positions"), timeout=30_000)
    expect(page.locator("#preview")).to_be_visible()
    colours = page.evaluate(
        """() => {
            const { width, height } = byId("preview");
            const data = byId("preview").getContext("2d").getImageData(0, 0, width, height).data;
            return [width, height, new Set(Array.from({ length: width * height }, (_, i) =>
                data.slice(4 * i, 4 * i + 3).join())).size];
        }"""
    )
    assert colours[:2] == [61, 61] and colours[2] > 3
    page.click("#stop")
    expect(page.locator("#told")).to_have_text("Stopped.")
    expect(page.locator("#explain")).to_be_enabled()


def test_what_is_wrong_is_told(opened, service, files, tmp_path):
    page = opened()
    explain(page, files, target="no such class")
    expect(page.locator("#told")).to_have_text(re.compile("Not explained: no class is called"))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page.set_input_files("#image", tmp_path / "broken.png")
    page.fill("#target", "")
    page.click("#explain")
    expect(page.locator("#told")).to_have_text(re.compile("Not explained: the image: "))


def test_a_file_can_be_dropped(opened, service, files):
    page = opened()
    page.evaluate(
        """() => {
            const given = new DataTransfer();
            given.items.add(new File(["x"], "dropped.png", { type: "image/png" }));
            byId("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: given, cancelable: true, bubbles: true }));
        }"""
    )
    assert page.evaluate("byId('image').files[0].name") == "dropped.png"


def test_without_scripts_the_form_gives_the_report(opened, service, files):
    page = opened(java_script_enabled=False, ready="#form")
    explain(page, files, stride="16")
    page.wait_for_url("**/explain?format=html")
    assert page.locator("h1").text_content().endswith(")")
    assert page.title() == "Occlusion map of photo.jpg"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_for_everybody(opened, service, files, scheme):
    from axe_playwright_python.sync_playwright import Axe

    for viewport in ({"width": 1200, "height": 900}, {"width": 360, "height": 740}):
        page = opened(color_scheme=scheme, viewport=viewport, reduced_motion="reduce", bypass_csp=True)
        for state in ("empty", "explained"):
            if state == "explained":
                explain(page, files, stride="16")
                expect(page.locator("#told")).to_contain_text("complete")
            found = Axe().run(page).response["violations"]
            assert found == [], (state, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_asks_for_the_token(opened, files, tmp_path):
    token = "a-token-of-32-characters-0123456"
    with running(files, "model.onnx", *PREPARING, KRYPTON_TOKEN=token) as one:
        page = opened(url=one.url)
        assert page.is_visible("#token")
        explain(page, files, stride="16")
        expect(page.locator("#told")).to_have_text(re.compile("Not explained: give the token"))
        page.fill("#token", token)
        page.dispatch_event("#token", "change")
        page.click("#explain")
        expect(page.locator("#told")).to_contain_text("complete", timeout=30_000)
        # The browser's own lines about 401.
        assert all("401" in line for line in opened.wrong)
        opened.wrong.clear()


def test_the_api_is_described_without_other_origins(opened, service):
    page = opened("/docs", ready=".opblock")
    titles = page.locator(".opblock-summary-path").all_text_contents()
    assert {title.replace("\u200b", "") for title in titles} == {
        "/explain", "/explain/stream", "/healthz", "/readyz", "/model", "/metrics"
    }  # fmt: skip
