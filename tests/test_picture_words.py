"""A map in words, and as HTML for notebooks."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from maps_to_draw import DROP, one_class, partial, random_map, two_classes
from PIL import Image

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.heat_map import HeatMap
from krypton_onnx.runtime.pictures.words import describe_predicted, share


def test_a_map_in_words():
    assert one_class().describe(labels={7: "tea"}) == (
        "Occlusion map of tea (class 7): its probability is 0.9 for the whole image. "
        "Hiding the patch of 4 x 6 pixels at the lower centre (row 4, column 8) lowers it most, by 0.3 to 0.6. "
        "It falls by more than half of that at 33 % of the positions. Hidden elsewhere, it rises by up to 0.1."
    )


def test_a_class_that_never_drops():
    words = two_classes().describe(3)
    assert "class 3: its probability is 0.1" in words
    assert words.endswith("Hiding the patch of 4 x 6 pixels lowers it nowhere.")


def test_a_class_that_only_rises():
    words = one_class(np.full_like(DROP, -0.5)).describe()
    assert "lowers it nowhere. Hidden elsewhere, it rises by up to 0.5." in words


def test_maps_that_are_not_whole():
    assert "17 % of the positions are not computed." in partial().describe()
    assert one_class(np.full_like(DROP, np.nan)).describe().endswith("No position is computed yet.")


def test_infinite_scores():
    words = one_class(np.array([[np.inf, 0.1, 0.2], [-np.inf, -0.3, 0.0]], np.float32)).describe()
    assert "by infinite to -infinite" in words and "rises by up to infinite" in words


def test_without_the_size_of_the_image_the_place_is_in_pixels():
    assert "at row 4, column 8 lowers it most" in one_class(frame=None).describe()


def test_another_class_is_refused():
    with pytest.raises(ImageError, match="class 5 was not explained"):
        one_class().describe(5)


def test_labels_by_number_may_be_few_or_empty():
    assert "of class 7:" in one_class().describe(labels=["a", "b"])
    assert "of class 7:" in one_class().describe(labels=[""] * 8)
    assert "of a\N{REPLACEMENT CHARACTER} b (class 7):" in one_class().describe(labels={7: "a\ud800\n\x00b"})


def test_predicted_classes_in_words():
    assert describe_predicted(one_class(), {7: "tea"}) == (
        "Map of the class predicted when a patch is hidden: tea (class 7) at 67 %, class 12 at 17 %, class 3 at 17 % "
        "of the positions."
    )
    assert "and 7 more" in describe_predicted(random_map(20, 20))


def test_a_share_is_all_or_nothing_only_where_it_is():
    assert [share(part) for part in (0, 0.001, 0.5, 0.999, 1)] == ["0 %", "under 1 %", "50 %", "over 99 %", "100 %"]


# -- HTML ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What is in a fragment: its elements, its text, and whether every element is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @property
    def images(self):
        return [attributes for tag, attributes in self.elements if tag == "img"]


def test_a_notebook_shows_the_picture_and_how_it_was_made():
    how = {"mode": "approximate", "estimated_ssim": 0.931, "expected_ssim": 0.95, "note": "Cut short."}
    heat_map = two_classes(**how, complete=False)
    page = Page(heat_map._repr_html_())
    (image,) = page.images
    assert image["alt"] == f"{heat_map.describe(7)} {heat_map.describe(3)}"
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.width > 300
    for expected in ("probability", "0.9", "0.3 at the lower centre", "approximate", "0.931", "0.950", "Cut short."):
        assert expected in page.text
    assert "patch 4 x 6, stride 2 x 5 px" in page.text and "100 % of 6 positions computed" in page.text


def test_what_is_not_ours_is_escaped():
    source = one_class(note='<script>alert("1")</script>', score_name='"><b>x</b>', mode="<i>")._repr_html_()
    page = Page(source)
    assert {tag for tag, _ in page.elements} <= {
        "figure", "img", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "p",
    }  # fmt: skip
    assert '<script>alert("1")</script>' in page.text and not re.search(r"https?://", source)


@pytest.mark.parametrize(
    "heat_map",
    [
        one_class(np.full_like(DROP, np.nan), complete=False),
        one_class(np.full_like(DROP, np.inf)),
        one_class(np.full_like(DROP, -np.inf)),
        one_class(np.zeros_like(DROP)),
        one_class(frame=None, predicted=None, score_name=""),
        one_class(score_name="\ud800", note="\ud800\x00"),
        partial(),
        random_map(1, 1),
        random_map(1, 500),
        random_map(500, 1),
        random_map(4, 4, targets=1000),
        random_map(30, 30, missing=0.5, scale=1e30),
    ],
    ids=lambda heat_map: None,
)
def test_a_notebook_shows_any_map(heat_map: HeatMap):
    source = heat_map._repr_html_()
    source.encode("utf-8")
    page = Page(source)
    assert len(page.images) == int(np.isfinite(heat_map.scores).any())
    if len(heat_map.targets) > 8:
        assert "and 992 more classes" in page.text
