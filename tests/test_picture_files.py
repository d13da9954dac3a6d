"""Saved pictures: the same bytes every time, text as text, and the map in words inside the file."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from maps_to_draw import black, image_for, one_class, random_map, two_classes
from PIL import Image

NAMES = {7: "tea & <milk>", 3: "coffee"}


def drawn():
    heat_map = two_classes()
    return heat_map.plot(image_for(heat_map), labels=NAMES, extremes=2, occluded=black((4, 6)), title="cups")


def saved(figure, form, **how):
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_two_saves_are_equal_byte_for_byte(form, monkeypatch, tmp_path):
    first = saved(drawn(), form)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")  # another day
    drawn().savefig(tmp_path / f"map.{form}")
    assert (tmp_path / f"map.{form}").read_bytes() == first


@pytest.mark.parametrize("shape", [(6, 16), (6, 16, 1), (6, 16, 3)])
def test_the_figure_is_saved_as_a_picture(tmp_path, shape):
    one_class().plot(np.zeros(shape, np.uint8)).savefig(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.format == "PNG" and picture.width > 500
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_words_are_text_in_svg():
    root = ElementTree.fromstring(saved(drawn(), "svg"))
    written = ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"cups", "tea & <milk> (class 7)", "probability 0.9", "red: supports the class"} <= set(written)


def test_the_map_in_words_is_in_the_file():
    figure = drawn()
    assert "tea & <milk> (class 7)" in figure.description
    with Image.open(io.BytesIO(saved(figure, "png"))) as picture:
        assert picture.info["Description"] == figure.description
    texts = ElementTree.fromstring(saved(figure, "svg")).itertext()
    assert figure.description in list(texts)
    assert b"/Subject" in saved(figure, "pdf") and b"CreationDate" not in saved(figure, "pdf")
    with Image.open(io.BytesIO(saved(figure, "png", metadata={"Description": "mine"}))) as picture:
        assert picture.info["Description"] == "mine"


def test_a_notebook_shows_the_figure_without_pyplot():
    data, metadata = drawn()._repr_png_()
    assert data == saved(drawn(), "png") and metadata == {"alt": drawn().description}


def test_saving_sets_no_setting_for_good():
    before = matplotlib.rcParams.copy()
    saved(drawn(), "svg")
    assert matplotlib.rcParams.copy() == before


def embedded(svg: bytes) -> list[np.ndarray]:
    data = re.findall(rb'href="data:image/png;base64,([^"]+)"', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGBA")) for one in data]


def test_weak_cells_let_the_image_through_in_svg_too():
    drop = np.zeros((5, 5), np.float32)
    drop[2, 3] = 0.5
    heat_map = random_map(5, 5)
    heat_map = replace(heat_map, scores=heat_map.baseline[:, None, None] - drop[None])
    _, panel, _ = embedded(saved(heat_map.plot(image_for(heat_map)), "svg"))  # the image, the map over it, the bar
    grey = np.round(0.75 * 200)
    share = (np.abs(panel[:, :, :3] - grey) <= 1).all(axis=2).mean()
    cell = 4 / np.prod(heat_map.frame)  # of 2 x 2 pixels
    assert share == pytest.approx(1 - cell, abs=0.01)
