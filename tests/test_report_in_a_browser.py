"""The report as people use it, in headless Chromium: by pointer and by keyboard, and what it draws."""

import itertools

import numpy as np
import pytest
from report_cases import HEIGHT, HOSTILE, WIDTH, explained, hidden, made_up
from report_pages import agrees, first_cell, hover, middle, needs_chromium, pixels, told

import krypton_onnx as kx
from krypton_onnx import report

pytest.importorskip("jinja2", reason="Jinja2 is not installed (the extra report)")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
pytest_plugins = ("report_browser",)
pytestmark = needs_chromium


# -- keyboard and pointer ----------------------------------------------------------------------------------------------


def test_arrows_read_the_values_of_the_heat_map(shown, explanation):
    page, shape = shown(explanation), explanation.heat_map.computed.shape
    row, col = first_cell(explanation)
    assert agrees(page, explanation, 0, row, col)
    page.focus("#map")
    steps = {
        "ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1),
        "Home": (0, -99), "End": (0, 99), "PageUp": (-99, 0), "PageDown": (99, 0),
    }  # fmt: skip
    walk = ("Home", "ArrowLeft", "ArrowRight", "PageUp", "ArrowUp", "ArrowDown", "ArrowRight", "End", "ArrowRight")
    for key in (*steps, *walk):
        page.keyboard.press(key)
        row = int(np.clip(row + steps[key][0], 0, shape[0] - 1))
        col = int(np.clip(col + steps[key][1], 0, shape[1] - 1))
        assert agrees(page, explanation, 0, row, col), (key, row, col, told(page))
    assert told(page)["where"] == "At the chosen cell"


@pytest.mark.parametrize("how", [{}, {"fill": 0.5}, {"patch_shape": "ellipse", "fill": "black"}])
def test_the_pointer_shows_the_value_and_the_occluded_image_of_its_cell(shown, tmp_path, how):
    explanation = explained(tmp_path, **how)
    page, heat_map = shown(explanation), explanation.heat_map
    (height, width), (rows, cols) = heat_map.patch, heat_map.computed.shape
    for row, col in [(0, 0), (rows - 1, cols - 1), (3, 5), (7, 2)]:
        hover(page, heat_map.tops[row] + height / 2, heat_map.lefts[col] + width / 2)
        assert agrees(page, explanation, 0, row, col), (row, col, told(page))
        assert told(page)["where"] == "Under the pointer"
        np.testing.assert_array_equal(pixels(page, "#occluded"), hidden(explanation, row, col))
    page.mouse.click(*middle(page, explanation, 3, 5))
    page.mouse.move(1, 1)
    assert agrees(page, explanation, 0, 3, 5)  # which the click chose
    hover(page, 1, 1)  # at the edge: of the patch that hides it
    assert agrees(page, explanation, 0, 0, 0)


def test_where_no_patch_was_laid_the_pointer_shows_nothing(shown, tmp_path):
    explanation = explained(tmp_path, region=(30, 30, 60, 60))
    page, (row, col) = shown(explanation), first_cell(explanation)
    hover(page, 5, 5)
    assert agrees(page, explanation, 0, row, col) and told(page)["where"] == "At the chosen cell"


def test_the_table_jumps_to_the_largest_drops(shown, explanation):
    page, heat_map = shown(explanation), explanation.heat_map
    found = [one for one in heat_map.extremes(heat_map.targets[0], 8) if one.drop > 0]
    assert page.locator("#drops-body tr").count() == len(found) > 1
    for place, one in enumerate(found):
        cells = page.locator("#drops-body tr").nth(place).locator("th, td").all_text_contents()
        turned = explanation.name_of(int(heat_map.predicted[one.row, one.col]))
        assert cells == [str(place + 1), f"{one.left}, {one.top}", f"{one.drop:.3g}", f"{one.score:.3g}", turned]
        page.get_by_role("button", name=f"Show drop {place + 1},").click()
        assert agrees(page, explanation, 0, one.row, one.col)
        assert page.evaluate("document.activeElement.id") == "map"


def test_a_map_without_a_drop_says_so(shown):
    page = shown(made_up(scores=np.full((2, 17, 15), 0.75, np.float32)))
    assert page.get_by_text("Hiding a patch lowers the probability nowhere.").is_visible()
    assert not page.locator("#drops").is_visible()
    assert told(page)["cell"] == "row 9 of 17, column 8 of 15"


# -- what is drawn -----------------------------------------------------------------------------------------------------


def at_cell(page, explanation, row, col):
    """The colour of a cell of the map."""
    canvas, heat_map = pixels(page, "#cells").astype(int), explanation.heat_map
    y = (heat_map.tops[row] + heat_map.patch[0] / 2) * canvas.shape[0] / HEIGHT
    x = (heat_map.lefts[col] + heat_map.patch[1] / 2) * canvas.shape[1] / WIDTH
    return canvas[round(y), round(x)]


def test_the_slider_goes_from_the_image_to_the_map(shown, explanation):
    from krypton_onnx.runtime.pictures import colors

    page = shown(explanation)
    slider = page.get_by_role("slider", name="Opacity")
    slider.fill("0")
    canvas = pixels(page, "#cells")
    zoom = canvas.shape[0] // HEIGHT
    assert canvas.shape == (HEIGHT * zoom, WIDTH * zoom, 3) and zoom >= 10
    np.testing.assert_array_equal(canvas[zoom // 2 :: zoom, zoom // 2 :: zoom], explanation.picture)
    slider.focus()
    page.keyboard.press("End")
    assert page.locator("#opacity-value").text_content() == "100 %"
    # One scale for all classes: the first is not the one that falls most.
    page.get_by_label("One scale for all classes").uncheck()
    drop = explanation.heat_map.drop[0]
    for row, col in (first_cell(explanation), np.unravel_index(drop.argmin(), drop.shape)):
        limit = np.abs(drop).max()
        if abs(drop[row, col]) < colors.FADE * limit:
            continue
        want = np.array(colors.diverging()((drop[row, col] / limit + 1) / 2, bytes=True)[:3], int)
        assert np.abs(at_cell(page, explanation, row, col) - want).max() <= 6


def test_colours_have_one_scale_for_all_classes_or_one_each(shown, explanation):
    page, drop = shown(explanation), explanation.heat_map.drop

    def end():
        return float(page.locator("#ticks span").last.text_content())

    assert end() == pytest.approx(np.abs(drop).max(), rel=6e-3)
    page.get_by_label("One scale for all classes").uncheck()
    for index in range(3):
        page.get_by_label("Class", exact=True).select_option(index=index)
        assert end() == pytest.approx(np.abs(drop[index]).max(), rel=6e-3)


def test_a_class_is_chosen_by_list_or_key(shown, explanation):
    page = shown(explanation)
    row, col = first_cell(explanation)
    names = [explanation.name_of(target) for target in explanation.heat_map.targets]
    assert page.get_by_label("Class", exact=True).locator("option").all_text_contents() == names
    before = pixels(page, "#cells")
    page.get_by_label("Class", exact=True).select_option(names[1])
    assert agrees(page, explanation, 1, row, col)
    assert page.get_by_role("heading", level=1).text_content() == names[1]
    assert (pixels(page, "#cells") != before).any()
    page.focus("#map")
    for key, index in (("3", 2), ("[", 1), ("]", 2), ("]", 2), ("1", 0), ("[", 0), ("9", 0)):
        page.keyboard.press(key)
        assert agrees(page, explanation, index, row, col), key
        assert page.get_by_label("Class", exact=True).input_value() == names[index]
    assert np.array_equal(pixels(page, "#cells"), before)


def test_scores_means_and_classes_are_shown_instead_of_drops(shown, explanation):
    page, heat_map = shown(explanation), explanation.heat_map
    page.get_by_role("radio", name="Score").check()
    every = [*heat_map.scores[0].ravel(), heat_map.baseline[0]]
    ends = [float(page.locator("#ticks span").nth(at).text_content()) for at in (0, -1)]
    assert ends == pytest.approx([min(every), max(every)], rel=6e-3, abs=1e-6)

    page.get_by_role("radio", name="Per pixel").check()
    means = heat_map.per_pixel()[0]
    for y, x in ((10, 20), (33, 41), (0, 0), (59, 69)):
        hover(page, y + 0.5, x + 0.5)
        assert float(told(page)["mean"]) == pytest.approx(means[y, x], rel=6e-3)
    in_page = page.evaluate("new OcclusionMap(JSON.parse(byId('data').textContent)).perPixel(0).join(' ')")
    np.testing.assert_allclose(np.array(in_page.split(), float).reshape(means.shape), means, rtol=1e-5, atol=1e-7)

    page.get_by_role("radio", name="Predicted class").check()
    classes, counts = np.unique(heat_map.predicted, return_counts=True)
    listed = " ".join(page.locator("#legend-entries li").all_text_contents())
    for class_id, count in zip(classes, counts, strict=True):
        assert f"{explanation.name_of(int(class_id))} {100 * count / counts.sum():.0f} %" in listed
    assert not page.locator("#scale").is_visible()


def test_means_of_pixels_that_a_mask_hides_in_part(shown):
    mask = np.random.default_rng(0).random((8, 6), np.float32)
    mask[0, 0] = 0
    explanation = made_up(mask=mask)
    page, means = shown(explanation), explanation.heat_map.per_pixel()[0]
    in_page = page.evaluate("new OcclusionMap(JSON.parse(byId('data').textContent)).perPixel(0).join(' ')")
    np.testing.assert_allclose(np.array(in_page.split(), float).reshape(means.shape), means, rtol=1e-5, atol=1e-7)
    assert np.isnan(means).any()


def test_what_is_not_known_is_not_invented(shown):
    explanation = made_up(mode="approximate", complete=False)
    heat_map = explanation.heat_map
    heat_map.scores[:, 0, 1], heat_map.predicted[0, 1:3], heat_map.computed[0, 1:3] = np.nan, -1, False
    page = shown(explanation)
    page.focus("#map")
    for key in ("PageUp", "Home", "ArrowRight"):
        page.keyboard.press(key)
    assert {told(page)[name] for name in ("drop", "score", "predicted")} == {"not computed"}
    page.keyboard.press("ArrowRight")
    assert told(page)["drop"] == f"{heat_map.drop[0, 0, 2]:.3g}" and told(page)["predicted"] == "not computed"
    assert page.locator("#how-known").text_content() == " (interpolated)"
    page.get_by_role("radio", name="Predicted class").check()
    assert page.get_by_text("This map is not complete").is_visible()


def test_what_there_is_not_is_not_offered(shown):
    page = shown(made_up(classes=1, predicted=None))
    for hint in ("Class", "One scale for all classes"):
        assert not page.get_by_label(hint, exact=True).is_visible()
    assert page.get_by_role("radio").count() == 3 and not page.get_by_text("change the class").is_visible()


def test_infinite_scores_are_told_and_drawn(shown):
    explanation = made_up(classes=1, score_name="log-odds")
    explanation.heat_map.scores[0, 2, 3] = -np.inf
    page = shown(explanation)
    page.focus("#map")
    for key in ("PageUp", "Home", *2 * ["ArrowDown"], *3 * ["ArrowRight"]):
        page.keyboard.press(key)
    assert told(page)["score"] == "-infinite" and told(page)["drop"] == "infinite"


# -- names -------------------------------------------------------------------------------------------------------------


def test_hostile_names_stay_text(shown):
    explanation = made_up(
        labels=HOSTILE, classes=4, note=HOSTILE[0], steps=HOSTILE, source=HOSTILE[1], score_name=HOSTILE[1]
    )
    page = shown(explanation)
    tags = "[...new Set([...document.body.querySelectorAll('*')].map(e => e.localName))]"
    before = {*page.evaluate(tags), "li"}  # of the legend
    page.focus("#map")
    names = [explanation.name_of(target).replace("\u202e", "") for target in range(4)]
    for key, view in itertools.product("1234", ("score", "pixel", "class", "drop")):
        page.keyboard.press(key)
        page.evaluate("view => document.querySelector(`input[value=${view}]`).click()", view)
        assert page.get_by_role("heading", level=1).text_content() == names[int(key) - 1]
        page.focus("#map")
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("window.hacked") is None
    assert set(page.evaluate(tags)) <= before
    assert page.evaluate("document.images.length") == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_other_script_or_style_runs(browser, tmp_path):
    path = tmp_path / "out.html"
    text = report.page(made_up())
    path.write_text(text.replace("</main>", "<script>window.hacked = 1</script><p style='color: red'>x</p></main>"))
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(path.as_uri())
    page.wait_for_selector("html.ready")
    assert page.evaluate("window.hacked") is None and len(refused) == 2
    assert all("Content Security Policy" in one for one in refused)
    page.close()


def test_the_specification_is_copied_whole(shown, explanation):
    page = shown(explanation, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert kx.ExplanationSpec.from_toml(copied) == explanation.spec
