"""The report for everybody, in headless Chromium: by ear, by keyboard alone, in the dark, on a phone, on paper."""

import itertools
import re

import pytest
from report_cases import made_up
from report_pages import agrees, expected, middle, needs_chromium

pytest.importorskip("jinja2", reason="Jinja2 is not installed (the extra report)")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
pytest_plugins = ("report_browser",)
pytestmark = needs_chromium
SCHEMES = ("light", "dark")


def test_everything_has_a_role_and_a_name(shown, explanation):
    page = shown(explanation)
    name = explanation.name_of(explanation.heat_map.targets[0])
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    found = page.get_by_role("heading").all()
    headings = [(int(one.evaluate("e => e.localName[1]")), one.text_content()) for one in found]
    assert [text for level, text in headings if level == 2] == [
        "Map", "With the patch hidden", "Largest drops", "What this map is, and what it is not", "How it was computed",
        "Specification",
    ]  # fmt: skip
    assert headings[0] == (1, name)
    assert all(below - above <= 1 for (above, _), (below, _) in itertools.pairwise(headings))
    snapshot = page.locator("body").aria_snapshot()
    for line in (
        f'application "Occlusion map of {name}"', 'group "Show"', 'radio "Drop" [checked]', 'slider "Opacity"',
        'combobox "Class"', 'checkbox "Mark the largest drops" [checked]', 'button "Copy"', 'img "The image with the',
        'region "Largest drops"', "status", "columnheader", "rowheader",
    ):  # fmt: skip
        assert f"- {line}" in snapshot, (line, snapshot)
    bar = page.get_by_role("img", name=re.compile("Drop of the .* from -.* Blue: speaks against .* Red: supports"))
    assert bar.count() == 1
    described = page.locator("#" + page.locator("#map").get_attribute("aria-describedby"))
    for key in ("Home", "End", "Page Up", "Page Down", "[", "]", "1", "9", "←"):
        assert key in described.text_content()
    assert page.title() == "Occlusion map of photo.png"
    assert page.locator("html").get_attribute("lang") == "en"


def test_tab_goes_through_the_page_in_order_and_is_seen(shown, explanation):
    page = shown(explanation)
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stop, outline = page.evaluate(
            """() => {
                const it = document.activeElement;
                const seen = it.name === "view" ? it.parentElement : it;
                return [it.id || it.value || it.textContent, getComputedStyle(seen).outlineStyle];
            }"""
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        assert outline != "none", stop
        stops.append(stop)
    buttons = page.locator("#drops-body button").all_text_contents()
    assert stops == ["class", "drop", "map", "opacity", "marked", "together", *buttons, "copy", "toml"]


def test_what_is_at_the_cell_is_said_once_it_is_still(shown, explanation):
    page, heat_map = shown(explanation), explanation.heat_map
    spoken = page.get_by_role("status").first
    assert spoken.get_attribute("aria-live") == "polite" and spoken.text_content() == ""
    page.evaluate(
        """() => {
            window.said = [];
            new MutationObserver(() => said.push(byId("spoken").textContent))
                .observe(byId("spoken"), { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.focus("#map")
    for key in ("PageUp", "Home", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    playwright.expect(spoken).not_to_be_empty()
    want = expected(explanation, 0, 1, 2)
    (said,) = page.evaluate("said")
    assert said == (
        f"Row 2, column 3, drop {want['drop']}, {heat_map.score_name} {want['score']}, predicted {want['predicted']}."
    )


CONTRASTS = """() => {
    const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (it) => {
        for (let at = it; at; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const it = walker.currentNode.parentElement;
        const text = walker.currentNode.textContent.trim();
        if (!text || !it.checkVisibility() || ["SCRIPT", "NOSCRIPT"].includes(it.tagName)) continue;
        const pair = [parse(getComputedStyle(it).color), behind(it)].map(light).sort((a, b) => b - a);
        found.push([(pair[0] + 0.05) / (pair[1] + 0.05), text]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_from_its_ground(shown, explanation, scheme):
    page = shown(made_up(mode="approximate", note="a note"), color_scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100 and min(found)[0] >= 4.5, min(found)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground))) < 64) == (scheme == "dark")


@pytest.mark.parametrize(
    "how", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 700}}]
)
def test_axe_finds_nothing(shown, explanation, how):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = shown(explanation, **how)
    results = axe.Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert len(results.response["passes"]) > 20


def test_nothing_moves_by_itself(shown, explanation):
    page = shown(explanation)
    durations = page.evaluate(
        """[...document.querySelectorAll("*")].flatMap((e) => {
            const { animationName, transitionDuration, scrollBehavior } = getComputedStyle(e);
            return [animationName, transitionDuration, scrollBehavior];
        })"""
    )
    assert set(durations) <= {"none", "0s", "auto"}


def test_forced_colours_keep_what_is_chosen_and_focused_visible(shown, explanation):
    page = shown(explanation, forced_colors="active")
    grounds = [one.evaluate("e => getComputedStyle(e).backgroundColor") for one in page.locator(".views label").all()]
    assert grounds[0] not in grounds[1:] and len(set(grounds[1:])) == 1
    page.focus("#map")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#map").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"


@pytest.mark.parametrize("width", [320, 360, 768])
def test_it_fits_a_phone(shown, explanation, width):
    page = shown(explanation, viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#cells").bounding_box()["width"] > 0.8 * min(width, 600)
    page.locator("#map").scroll_into_view_if_needed()
    page.touchscreen.tap(*middle(page, explanation, 4, 6))
    playwright.expect(page.locator("#cell")).to_contain_text("row 5 of")
    assert agrees(page, explanation, 0, 4, 6)


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_it_prints_on_two_pages_whatever_the_scheme(shown, explanation, paper):
    page = shown(explanation, color_scheme="dark")
    pdf = page.pdf(format=paper)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) in (1, 2)
    page.emulate_media(media="print", color_scheme="dark")
    for gone in ("#opacity", "#copy", "#keys", ".views"):
        assert not page.locator(gone).is_visible()
    for kept in ("#image", "#cells", "#occluded", "#bar", "#drops", "#toml", "#ends"):
        assert page.locator(kept).is_visible()
    assert page.locator("#toml").evaluate("e => e.scrollHeight <= e.clientHeight + 1")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
