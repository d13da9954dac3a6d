"""The site of `krypton-onnx web` as a visitor uses it, in headless Chromium; and what goes wrong."""

import base64
import io
import json
import re
import shutil

import numpy as np
import onnx
import pytest
from PIL import Image
from report_pages import needs_chromium, pixels
from tiny_models import tiny
from web_cases import krypton
from web_pages import (
    CUP,
    ESPRESSO,
    PATCH,
    PHOTO,
    TOLERANCE,
    assert_equal_maps,
    choose_file,
    complete,
    explained,
    running,
    set_image,
)

from krypton_onnx import demo
from krypton_onnx.images import prepare_image, read_image
from krypton_onnx.web.headers import HEADERS

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
pytest_plugins = ("web_browser",)
pytestmark = needs_chromium

expect = playwright.expect


# -- as a visitor uses it ----------------------------------------------------------------------------------------------


def drop_file(page, path):
    data = page.evaluate_handle(
        """([content, name]) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name));
            return data;
        }""",
        [base64.b64encode(path.read_bytes()).decode(), path.name],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("body", event, {"dataTransfer": data})


def test_from_an_image_dropped_to_what_is_kept(opened, squeezenet, exact, tmp_path):
    page = opened(squeezenet / "site")
    expect(page.get_by_role("heading", level=1)).to_have_text("SqueezeNet 1.1")
    drop_file(page, squeezenet / PHOTO)
    complete(page)
    best = page.locator("#predictions").get_by_role("button").first
    expect(best).to_contain_text("espresso")
    expect(best).to_have_attribute("aria-pressed", "true")
    maps = page.get_by_role("application")
    expect(maps).to_have_count(1)
    assert maps.get_attribute("aria-label").startswith("Occlusion map of espresso, probability ")

    # Another class, found by its name.
    box = page.get_by_role("combobox", name="Class explained")
    box.click()
    box.fill("cup")
    expect(page.get_by_role("listbox").get_by_role("option").first).to_contain_text("tea cup")
    box.press("Enter")
    expect(page.locator("#caption-0")).to_contain_text("tea cup")
    assert maps.get_attribute("aria-label").startswith("Occlusion map of tea cup, probability ")

    # Back, by the prediction; and two side by side.
    best.click()
    expect(page.locator("#caption-0")).to_contain_text("espresso")
    page.get_by_label("Compare with a second class").check()
    expect(maps).to_have_count(2)
    second = page.get_by_role("combobox", name="Second class")
    second.fill("968")
    second.press("Enter")
    expect(page.locator("#caption-1")).to_contain_text("tea cup")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    assert download.value.suggested_filename == f"occlusion-map-{ESPRESSO}-{CUP}.json"
    download.value.save_as(tmp_path / "map.json")
    assert_equal_maps(json.loads((tmp_path / "map.json").read_text()), exact)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PNG").click()
    download.value.save_as(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        picture.load()
        assert picture.format == "PNG" and picture.width > 1900 and picture.height > 1000
        colours = np.asarray(picture.convert("RGB"))[200:900, 60:900]
        assert (colours[..., 0].astype(int) - colours[..., 2] > 60).any(), "no cell is red"


def test_the_sample_is_explained_by_one_click(opened, squeezenet):
    page = opened(squeezenet / "site")
    expect(page.get_by_text("A cup of espresso. Photograph: Rachel Michetti")).to_be_visible()
    page.get_by_role("button", name="Use the sample").click()
    complete(page)
    expect(page.locator("#predictions").get_by_role("button").first).to_contain_text("espresso")


def test_the_keyboard_walks_over_the_cells(opened, squeezenet, exact):
    page = opened(squeezenet / "site")
    choose_file(page, squeezenet / PHOTO)
    canvas = page.get_by_role("application")
    canvas.focus()
    page.keyboard.press("Home")
    row, col = np.unravel_index(exact.drop[0].argmax(), exact.drop[0].shape)
    assert_told(page, exact, row, col)
    for key, (down, right) in {
        "ArrowUp": (-1, 0), "ArrowLeft": (0, -1), "ArrowDown": (1, 0), "ArrowRight": (0, 1),
    }.items():  # fmt: skip
        page.keyboard.press(key)
        row, col = (int(np.clip(at + step, 0, 7)) for at, step in ((row, down), (col, right)))
        assert_told(page, exact, row, col)
        expect(page.get_by_role("status").first).to_contain_text(f"row {row + 1} of 8, column {col + 1} of 8: Score")
    for _ in range(12):
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowLeft")
    assert_told(page, exact, 0, 0)
    hidden = pixels(page, "#occluded")
    assert hidden.shape == (demo.SIZE, demo.SIZE, 3)
    mean = np.round(demo.PREPARATION.mean[::-1])  # fill 0 is the mean colour, which the model has blue first
    np.testing.assert_array_equal(hidden[:PATCH, :PATCH], np.broadcast_to(mean, (PATCH, PATCH, 3)))
    shown = prepare_image(read_image(squeezenet / PHOTO), demo.PREPARATION).shown
    np.testing.assert_array_equal(hidden[PATCH:], shown[PATCH:])


def assert_told(page, heat_map, row, col):
    """The readout is that of a cell of the first map."""
    terms = page.locator("#readout dt").all_text_contents()
    told = dict(zip(terms, page.locator("#readout dd").all_text_contents(), strict=True))
    assert told["Position"] == f"top {heat_map.tops[row]}, left {heat_map.lefts[col]} px"
    assert float(told["Score"]) == pytest.approx(float(heat_map.scores[0, row, col]), rel=6e-3)
    assert told["Then predicted"] == demo.label(int(heat_map.predicted[row, col]))


def test_the_pointer_shows_the_cell_below_it(opened, squeezenet, exact):
    page = opened(squeezenet / "site")
    choose_file(page, squeezenet / PHOTO)
    canvas = page.get_by_role("application")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for row, col in ((0, 0), (4, 5), (7, 7)):
        y, x = exact.tops[row] + PATCH / 2, exact.lefts[col] + PATCH / 2
        page.mouse.move(box["x"] + box["width"] * x / demo.SIZE, box["y"] + box["height"] * y / demo.SIZE)
        assert_told(page, exact, row, col)


def test_cancel_keeps_the_map_as_far_as_it_is(opened, squeezenet):
    page = opened(squeezenet / "site")
    choose_file(page, squeezenet / PHOTO)
    page.get_by_label("Stride").fill("2")
    expect(page.locator("#positions")).to_contain_text("90 x 90 = 8100 positions")
    page.get_by_role("button", name="Explain").click()
    page.get_by_role("button", name="Cancel").click()
    stopped = page.get_by_text(re.compile(r"^Stopped at \d+ of 8100 positions")).first
    expect(stopped).to_be_visible(timeout=30_000)
    assert int(re.search(r"at (\d+) of", stopped.text_content())[1]) < 8100
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    page.get_by_label("Stride").fill("64")
    page.get_by_role("button", name="Explain").click()
    complete(page)


def test_the_map_comes_coarse_to_fine_and_is_shown_before_it_is_complete(opened, squeezenet):
    page = opened(squeezenet / "site")
    set_image(page, squeezenet / PHOTO)
    page.evaluate(
        """() => {
            window.seen = [];
            new MutationObserver(() => window.seen.push(document.querySelector("#progress-text").textContent))
                .observe(document.querySelector("#progress-text"), { childList: true });
        }"""
    )
    assert explained(page, stride=12, batch=16)["complete"]
    seen = " | ".join(page.evaluate("window.seen"))
    coarse, middle, fine = (seen.find(words) for words in ("every 8th row", "every 4th", "all positions"))
    assert 0 <= coarse < middle < fine, seen


def test_measure_tells_both_ways(opened, squeezenet):
    page = opened(squeezenet / "site")
    choose_file(page, squeezenet / PHOTO)
    made = page.evaluate("window.krypton.measure({ batch: 8, positions: 2 })")
    assert made["naive_ms"] > 0 and made["incremental_ms"] > 0
    assert made["factor"] == pytest.approx(made["naive_ms"] / made["incremental_ms"], rel=1e-6)
    assert made["difference"] <= TOLERANCE
    expect(page.locator("#measured")).to_contain_text("times faster here")


def test_nothing_leaves_the_site_even_if_a_script_tries(opened, squeezenet):
    for headers in (HEADERS, {}):  # as the server says, and as the page itself says where the server does not
        page = opened(squeezenet / "site", headers=headers, wrong=["Content Security Policy", "Refused to connect"])
        set_image(page, squeezenet / PHOTO)
        assert page.evaluate(
            "performance.getEntriesByType('resource').every((one) => new URL(one.name).origin === location.origin)"
        )
        for attempt in (
            "fetch('https://example.org/', { method: 'POST', mode: 'no-cors', body: 'pixels' })",
            "fetch('http://127.0.0.1:9/')",
            "new Promise((yes, no) => { const i = new Image(); i.onload = yes; i.onerror = () => no(Error('no')); "
            "i.src = 'https://example.org/?pixels'; })",
            "import('https://example.org/script.js')",
        ):
            with pytest.raises(playwright.Error):
                page.evaluate(attempt)


# -- for everybody -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opened, squeezenet, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened(squeezenet / "site", color_scheme=scheme)
    assert page.locator("html").get_attribute("data-theme") == scheme

    def look(state):
        results = axe.Axe().run(page)
        assert results.violations_count == 0, f"{state}: {results.generate_report()}"
        assert len(results.response["passes"]) > 15

    look("empty")
    choose_file(page, squeezenet / PHOTO)
    look("with a map")
    page.get_by_label("Compare with a second class").check()
    page.get_by_role("combobox", name="Class explained").click()
    look("comparing, with the list of classes")
    page.keyboard.press("Escape")
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_role("alert")).to_be_visible()
    look("with an error")


def test_the_theme_can_be_chosen(opened, squeezenet):
    page = opened(squeezenet / "site", color_scheme="light")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch to dark colours").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
    page.reload()
    expect(page.get_by_role("button", name="Switch to light colours")).to_be_visible()


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(opened, squeezenet, width):
    page = opened(squeezenet / "site", viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True)

    def fits():
        return page.evaluate("document.documentElement.scrollWidth") == width

    assert fits()
    choose_file(page, squeezenet / PHOTO)
    assert fits()
    assert page.get_by_role("application").bounding_box()["width"] > 0.8 * width
    page.get_by_label("Compare with a second class").check()
    expect(page.get_by_role("application")).to_have_count(2)
    assert fits()
    page.get_by_role("combobox", name="Second class").click()
    assert fits()


def test_hostile_names_stay_text(opened, built, tmp_path, squeezenet):
    hostile = ["<img src=x onerror='window.hacked = 1'>", "</script><script>hacked = 2</script>", "a " * 200, "é̂猫"]
    (tmp_path / "labels.txt").write_text("\n".join(hostile))
    onnx.save(tiny(), tmp_path / "small.onnx")
    title = "<b onclick=alert(1)>X</b>"
    result = krypton(
        "web", tmp_path / "small.onnx", "-o", tmp_path / "site", "--preset", "unit", "--labels",
        tmp_path / "labels.txt", "--title", title, "--stride", "4", "--patch", "4",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    page = opened(tmp_path / "site")
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    choose_file(page, squeezenet / PHOTO)
    for number in range(4):
        page.evaluate("(target) => window.krypton.explain({ targets: [target] })", number)
        expect(page.locator("#caption-0")).to_contain_text(hostile[number].strip()[:20])
    assert page.evaluate("window.hacked") is None
    assert page.locator("#predictions b, #caption-0 img, h1 b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def alert(page):
    """The one line that the page tells."""
    line = page.get_by_role("alert")
    expect(line).to_be_visible(timeout=30_000)
    text = line.text_content()
    assert "\n" not in text and 10 < len(text) < 300
    return text


def test_a_broken_image_is_told_and_the_next_one_is_taken(opened, squeezenet, tmp_path):
    page = opened(squeezenet / "site")
    truncated = (squeezenet / PHOTO).read_bytes()[:200]
    clear = io.BytesIO()
    Image.new("RGBA", (40, 40), (1, 2, 3, 100)).save(clear, "PNG")
    deep = io.BytesIO()
    Image.fromarray(np.full((40, 40), 3000, np.uint16)).save(deep, "PNG")
    for content, why in (
        (b"this is no picture", "cannot be read"), (truncated, "cannot be read"), (b"", "cannot be read"),
        (clear.getvalue(), "transparent"), (deep.getvalue(), "more than 8 bits"),
    ):  # fmt: skip
        page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": content})
        expect(page.get_by_role("alert")).to_contain_text(why)
        alert(page)
    choose_file(page, squeezenet / PHOTO)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_settings_that_cannot_be_are_told(opened, squeezenet):
    page = opened(squeezenet / "site")
    choose_file(page, squeezenet / PHOTO)
    for label, value, why in (("Patch", "300", "300"), ("Stride", "many", "a number"), ("Stride", "0", "stride")):
        page.get_by_label("Patch", exact=True).fill("16")
        page.get_by_label("Stride").fill("24")
        page.get_by_label(label, exact=True).fill(value)
        page.get_by_role("button", name="Explain").click()
        assert why in alert(page)


@pytest.mark.parametrize("missing", ["model/manifest.json", "model/rewritten.onnx", "truncated", "other", "newer"])
def test_a_site_without_its_model_says_so(opened, squeezenet, tmp_path, missing):
    site = tmp_path / "site"
    shutil.copytree(squeezenet / "site", site)
    model, manifest = site / "model" / "rewritten.onnx", site / "model" / "manifest.json"
    if missing == "truncated":
        model.write_bytes(model.read_bytes()[:100_000])
    elif missing == "other":
        content = bytearray(model.read_bytes())
        content[-1000] ^= 1
        model.write_bytes(content)
    elif missing == "newer":
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    else:
        (site / missing).unlink()
    page = opened(site, ready=False, wrong=["404"])
    text = alert(page)
    assert {
        "model/manifest.json": "model/manifest.json is missing", "model/rewritten.onnx": "the server answers 404",
        "truncated": "not the one that model/manifest.json names", "other": "not the one that", "newer": "format",
    }[missing] in text  # fmt: skip
    expect(page.get_by_role("heading", level=1)).to_have_text("No model")


def test_a_server_that_goes_away_does_not_matter_once_the_model_is_there(browser, squeezenet, exact):
    context = browser.new_context()
    with running(squeezenet / "site") as address:
        page = context.new_page()
        page.goto(address)
        page.evaluate("window.krypton.ready")
    set_image(page, squeezenet / PHOTO)
    assert_equal_maps(explained(page, targets=[ESPRESSO, CUP]), exact)
    context.close()
