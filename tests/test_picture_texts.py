"""Texts in pictures: none leaves the picture or meets another, whatever the names and the size of the map."""

from itertools import combinations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from maps_to_draw import black, image_for, random_map
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from krypton_onnx.runtime.pictures import texts

HOSTILE = (
    "$x^2$ $$ \\frac{1}{2} \\textbf{a} % & # _ ^ ~ {",
    "line one\nline two\r\n\n\nline three",
    "\x00\x07\ud800\ufffe\u200b\ufeff",
    "שלום עולם مرحبا بالعالم",
    "\u202eturned\u202c \u2066and\u2069",
    "👩‍👩‍👧‍👦 😀 漢字 한국어 ไทย नमस्ते",
    "a" * 500,
    "many short words " * 60,
    "<script>alert(1)</script> & \"quoted\" 'too'",
    "   ",
    "",
)
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60), st.text("Mi. ", max_size=200))


def boxes(figure):
    """(text, its box in dots) of all that is written."""
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text, text.get_window_extent(renderer)) for text in found]


def overlap(a, b, slack=1.0):
    """Whether two boxes share more than a dot."""
    return min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack


def assert_legible(figure):
    written = boxes(figure)
    assert written
    for text, box in written:
        assert text.get_fontsize() >= 8, text
        assert not text.get_parse_math() and not text.get_usetex()
        assert box.x0 >= -1 and box.y0 >= -1, (text, box)
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, (text, box)
    for (text, box), (other, another) in combinations(written, 2):
        assert not overlap(box, another), (text, other)
    for axes in figure.axes:
        inside = axes.get_window_extent()
        for text, box in written:
            # Numbers of extremes lie on the panel, nothing else on any.
            if text.axes is not axes or text is axes.title:
                assert not overlap(box, inside), (text, axes)


@settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    targets=st.integers(1, 7),
    over=st.booleans(),
    show=st.sampled_from(["drop", "score", "predicted"]),
    extremes=st.integers(0, 12),
    missing=st.sampled_from([0.0, 0.5]),
    scale=st.sampled_from([1.0, 1e-7, 1e8]),
    names=st.lists(NAMES, min_size=12, max_size=12),
    title=st.none() | NAMES,
    score_name=st.none() | NAMES,
    seed=st.integers(0, 1000),
)
@example(
    size=(30, 1), targets=7, over=True, show="drop", extremes=3, missing=0.5, scale=1e-7, names=[*HOSTILE, ""],
    title="".join(HOSTILE), score_name="".join(HOSTILE), seed=0,
)  # fmt: skip
@example(
    size=(1, 10), targets=4, over=False, show="drop", extremes=3, missing=0.0, scale=1.0, names=[HOSTILE[0]] * 12,
    title=None, score_name=None, seed=0,
)  # fmt: skip
@example(
    size=(30, 30), targets=1, over=True, show="drop", extremes=12, missing=0.0, scale=1.0, names=[*HOSTILE, ""],
    title=None, score_name=None, seed=1,
)  # fmt: skip
def test_no_text_meets_another(
    size, targets, over, show, extremes, missing, scale, names, title, score_name, seed
):
    heat_map = random_map(*size, targets=targets, missing=missing, scale=scale, seed=seed)
    image = image_for(heat_map) if over else None
    figure = heat_map.plot(
        image, title=title, score_name=score_name, labels=names, show=show, extremes=extremes,
        occluded=black(heat_map.patch),
    )  # fmt: skip
    assert_legible(figure)


@pytest.mark.parametrize("rows, cols", [(1, 1), (1, 300), (300, 1), (2, 7)])
@pytest.mark.parametrize("patch", [(1, 1), (60, 3)])
def test_any_shape_of_the_image(rows, cols, patch):
    heat_map = random_map(rows, cols, patch=patch)
    assert_legible(heat_map.plot(image_for(heat_map), extremes=3, occluded=black(patch)))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_drawn_as_they_are(name, tmp_path, recwarn):
    figure = random_map(3, 3, targets=2).plot(labels=[name, name], title=name, score_name=name)
    for form in ("png", "svg", "pdf"):
        figure.savefig(tmp_path / f"map.{form}")
    assert not recwarn.list
    words = {word for word in name.split() if word.isascii() and word.isprintable() and len(word) < 20}
    drawn = " ".join(text.get_text() for text in figure.findobj(Text)).split()
    assert words <= set(drawn)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(text=NAMES, width=st.floats(0.8, 6.0), lines=st.integers(1, 3), ending=st.sampled_from(["", "(class 967)"]))
def test_wrapped_text_fits(text, width, lines, ending):
    wrapped = texts.wrap(text, width, texts.SMALL, lines, ending).split("\n")
    assert len(wrapped) <= lines
    assert all(texts.width_of(line, texts.SMALL) <= width for line in wrapped)
    if ending:
        assert "".join(wrapped).replace(" ", "").endswith(ending.replace(" ", ""))


def test_long_names_keep_their_number():
    long = texts.wrap("a very long name of a class indeed", 2.0, texts.SMALL, 1, "(class 967)")
    assert long.startswith("a very long") and long.endswith("… (class 967)")
    assert texts.wrap("espresso", 2.0, texts.SMALL, 1, "(class 967)") == "espresso (class 967)"
    assert texts.wrap("one two", 0.3, texts.SMALL, 2) == "one\ntwo"
