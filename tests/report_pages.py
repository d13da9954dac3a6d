"""What a report shows in a browser, read from outside, and what it should show."""

import base64
import shutil

import numpy as np
import pytest
from report_cases import HEIGHT, WIDTH

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")


def told(page):
    """What the page says about the cell, as text by name."""
    names = ("drop", "score", "predicted", "cell", "pixels", "mean", "where")
    return page.evaluate("names => Object.fromEntries(names.map(n => [n, byId(n).textContent]))", names)


def expected(explanation, index, row, col):
    heat_map = explanation.heat_map
    (height, width), (rows, cols) = heat_map.patch, heat_map.computed.shape
    top, left = heat_map.tops[row], heat_map.lefts[col]
    return {
        "drop": f"{heat_map.drop[index, row, col]:.3g}",
        "score": f"{heat_map.scores[index, row, col]:.3g}",
        "predicted": explanation.name_of(int(heat_map.predicted[row, col])),
        "cell": f"row {row + 1} of {rows}, column {col + 1} of {cols}",
        "pixels": f"{left} to {left + width} across, {top} to {top + height} down",
    }


def agrees(page, explanation, index, row, col):
    want, have = expected(explanation, index, row, col), told(page)
    return {name: have[name] for name in want} == want


def pixels(page, selector):
    """uint8 (height, width, 3) of a canvas."""
    data, height, width = page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector);
            const context = canvas.getContext("2d");
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            let text = "";
            for (let at = 0; at < data.length; at += 4096) text += String.fromCharCode(...data.subarray(at, at + 4096));
            return [btoa(text), canvas.height, canvas.width];
        }""",
        selector,
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3]


def hover(page, y, x):
    """Point at a place of the image, in its pixels."""
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#cells").bounding_box()
    page.mouse.move(box["x"] + box["width"] * x / WIDTH, box["y"] + box["height"] * y / HEIGHT)


def first_cell(explanation, index=0):
    one = explanation.heat_map.extremes(explanation.heat_map.targets[index])[0]
    return one.row, one.col


def middle(page, explanation, row, col):
    heat_map = explanation.heat_map
    box = page.locator("#cells").bounding_box()
    y, x = heat_map.tops[row] + heat_map.patch[0] / 2, heat_map.lefts[col] + heat_map.patch[1] / 2
    return box["x"] + box["width"] * x / WIDTH, box["y"] + box["height"] * y / HEIGHT
