"""The report of an explanation: what it holds, that it holds all of it, and that it stays small."""

import base64
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_cases import HEIGHT, HOSTILE, WIDTH, explained, made_up, noise

import krypton_onnx as kx
from krypton_onnx import report
from krypton_onnx.report import contents, images
from krypton_onnx.report.facts import fill_words, plain

pytest.importorskip("jinja2", reason="Jinja2 is not installed (the extra report)")


class Elements(HTMLParser):
    """Every element with its attributes, and the text in styles, scripts and the specification."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inside, self.open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag in ("style", "script", "pre"):
            self.open = [tag, dict(attributes), ""]

    def handle_data(self, data):
        if self.open:
            self.open[2] += data

    def handle_endtag(self, tag):
        if self.open and self.open[0] == tag:
            self.inside.append(tuple(self.open))
            self.open = None


@pytest.fixture(scope="module")
def explanation(tmp_path_factory):
    return explained(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(explanation):
    return report.page(explanation)


def array_of(data, name, kind):
    return np.frombuffer(base64.b64decode(data[name]), kind)


def picture_of(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))


def facts_of(data):
    rows = [(one["title"], row) for one in data["facts"] for row in one["rows"]]
    return {(title, row["name"]): row.get("value", row.get("steps")) for title, row in rows}


def test_the_data_are_those_of_the_map(explanation):
    data, heat_map = report.data(explanation), explanation.heat_map
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    shape = heat_map.scores.shape
    np.testing.assert_array_equal(array_of(data, "scores", "<f4").reshape(shape), heat_map.scores)
    np.testing.assert_array_equal(array_of(data, "baseline", "<f4"), heat_map.baseline)
    np.testing.assert_array_equal(array_of(data, "predicted", "<i4").reshape(shape[1:]), heat_map.predicted)
    assert [target["id"] for target in data["targets"]] == list(heat_map.targets)
    assert data["grid"]["tops"] == heat_map.tops.tolist() and data["grid"]["lefts"] == heat_map.lefts.tolist()
    assert (data["image"]["height"], data["image"]["width"]) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(picture_of(data["image"]["src"]), explanation.picture)
    for target, found in zip(heat_map.targets, data["extremes"], strict=True):
        assert found == [[one.row, one.col] for one in heat_map.extremes(target, 8) if one.drop > 0]


def test_the_colours_are_those_of_the_pictures(explanation):
    from krypton_onnx.runtime.pictures import colors

    of_page = report.data(explanation)["colors"]
    for name, cmap in (("diverging", colors.diverging()), ("sequential", colors.sequential())):
        table = array_of(of_page, name, "u1").reshape(256, 3)
        np.testing.assert_array_equal(table, cmap(np.linspace(0, 1, 256), bytes=True)[:, :3])
    blue, red = array_of(of_page, "diverging", "u1").reshape(256, 3)[[40, 215]].astype(int)
    assert blue[2] > blue[0] and red[0] > red[2]


def test_it_says_how_the_map_was_computed(explanation):
    told, spec = facts_of(report.data(explanation)), explanation.spec
    assert told["Image", "File"] == "photo.png"
    assert told["Image", "SHA-256"] == explanation.source_sha256 and len(explanation.source_sha256) == 64
    assert told["Image", "Preparation"] == list(explanation.steps)
    assert told["Model", "File"] == "model.onnx" and told["Model", "SHA-256"] == spec.model_sha256
    assert told["Model", "krypton-onnx"] == kx.__version__ and re.match(r"\d+\.\d+", told["Model", "ONNX Runtime"])
    assert told["Occlusion and score", "Patch"].startswith("12 x 10 px")
    assert told["Occlusion and score", "Stride"] == "4 x 5 px"
    assert told["Occlusion and score", "Fill"] == "blur"
    assert told["Occlusion and score", "Score"] == explanation.heat_map.score_name
    assert told["Computation", "Mode"].startswith("exact")
    count = explanation.heat_map.computed.size
    assert told["Computation", "Positions computed"] == f"{count} of {count} (100 %)"
    assert told["Computation", "Complete"] == "yes" and told["Computation", "Time taken"].endswith(" s")
    assert told["Computation", "Made"].startswith(explanation.made[:10])


def test_an_approximate_and_unfinished_map_says_so_at_the_top():
    computed = np.zeros((17, 15), bool)
    computed[:, ::3] = True
    of_it = made_up(
        mode="approximate", computed=computed, complete=False, expected_ssim=0.91, estimated_ssim=0.8765, note="a note"
    )
    data = report.data(of_it)
    told = facts_of(data)
    assert told["Computation", "SSIM expected"] == "0.910" and told["Computation", "SSIM estimated"] == "0.876"
    assert told["Computation", "Positions computed"] == "85 of 255 (33 %)"
    assert told["Computation", "Complete"].startswith("no") and told["Computation", "Note"] == "a note"
    assert told["Computation", "Time taken"] == "1 min 11 s"
    assert told["Computation", "Made"] == "2026-05-04 03:02:01 UTC"
    approximate, unfinished, note = data["warnings"]
    assert "0.876" in approximate and "33 %" in unfinished and note == "A note."
    assert not report.data(made_up())["warnings"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"fill": 0.0}, "0 in the model's own numbers"),
        ({"fill": (104, 117, 123), "fill_space": "pixel"}, "pixel value 104, 117, 123"),
        ({"fill": "surroundings", "fill_samples": 5}, "surroundings (5 samples)"),
        ({"fill": ("black", (0.5, 0.25))}, "mean over 2: black; 0.5, 0.25 in the model's own numbers"),
    ],
)
def test_the_fill_in_words(how, words):
    assert fill_words(kx.ExplanationSpec("model.onnx", **how)) == words


def test_the_specification_in_the_page_is_the_one_that_made_it(explanation, text):
    (shown,) = [content for tag, _, content in Elements(text).inside if tag == "pre"]
    assert kx.ExplanationSpec.from_toml(shown) == explanation.spec


def test_it_asks_for_nothing_and_lets_nothing_else_run(text):
    elements = Elements(text)
    for tag, attributes in elements.found:
        assert "style" not in attributes and not [name for name in attributes if name.startswith("on")]
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "action", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    (policy,) = [of["content"] for _, of in elements.found if of.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(one.strip().split(" ", 1) for one in policy.split(";"))
    assert allowed["default-src"] == "'none'" and allowed["img-src"] == "data:"
    for tag, kind in (("style", "style-src"), ("script", "script-src")):
        contents = [
            content for name, of, content in elements.inside if name == tag and of.get("type") != "application/json"
        ]
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in contents]
        assert contents and allowed[kind].split() == [f"'sha256-{digest}'" for digest in digests]


def test_names_are_text_whatever_they_hold():
    of_it = made_up(
        labels=HOSTILE, classes=4, note=HOSTILE[0], steps=HOSTILE, source=f"/home/me/{HOSTILE[1]}\udcff.png",
        score_name=HOSTILE[1],
    )  # fmt: skip
    text = report.page(of_it)
    text.encode("utf-8")
    assert "window.hacked = 1</script>" not in text and "<img src=x" not in text
    assert len([tag for tag, _ in Elements(text).found if tag == "img"]) == 1
    assert "\u202e" not in text and "/home/me" not in text
    held = [content for tag, of, content in Elements(text).inside if of.get("type") == "application/json"]
    assert json.loads(held[0])["names"]["0"] == f"{HOSTILE[0]} (class 0)"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x00b\x1b[2J", "a\ufffdb\ufffd[2J"), ("\udcff", "\ufffd"), ("a\nb\tc", "a b c"), ("\u202eab", "ab"),
        ("é心👩‍⚕️", "é心👩‍⚕️"),
    ],
)  # fmt: skip
def test_text_shows_what_it_is(text, seen):
    assert plain(text) == seen


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_the_patches_of_all_positions_are_one_picture(explanation):
    heat_map = explanation.heat_map
    held = report.data(explanation)["patches"]
    pixels = picture_of(held["src"])
    assert not held["single"] and (held["height"], held["width"]) == heat_map.patch
    at = [(int(top), int(left)) for top in heat_map.tops for left in heat_map.lefts]
    for index in (0, 1, len(heat_map.lefts), len(at) - 1):
        y, x = divmod(index, held["columns"])
        tile = pixels[12 * y : 12 * y + 12, 10 * x : 10 * x + 10]
        (expected,) = explanation.occluded(*(np.array([one]) for one in at[index]))
        np.testing.assert_array_equal(tile, expected)


def test_a_fill_that_is_the_same_everywhere_is_one_patch():
    held = report.data(made_up(occluded=lambda tops, lefts: np.full((len(tops), 8, 6, 3), 77, np.uint8)))["patches"]
    assert held["single"]
    np.testing.assert_array_equal(picture_of(held["src"]), np.full((8, 6, 3), 77))


def test_too_many_patches_are_shown_coarser_and_then_not_at_all(monkeypatch):
    of_it = made_up()
    monkeypatch.setattr(images, "MOST_PIXELS", 255 * 4 * 3)
    monkeypatch.setattr(images, "LEAST_TILE", 3)
    data = report.data(of_it)
    assert (data["patches"]["height"], data["patches"]["width"]) == (4, 3)
    assert "2 times coarser" in data["warnings"][0]
    heat_map = of_it.heat_map
    at = [axis.ravel() for axis in np.meshgrid(heat_map.tops, heat_map.lefts, indexing="ij")]
    whole = of_it.occluded(*at)[0].astype(float)
    np.testing.assert_allclose(
        picture_of(data["patches"]["src"])[:4, :3], whole.reshape(4, 2, 3, 2, 3).mean(axis=(1, 3)), atol=0.51
    )
    monkeypatch.setattr(images, "MOST_PIXELS", 1000)
    data = report.data(of_it)
    assert data["patches"] is None and "left out" in data["warnings"][0]


def test_the_page_of_a_usual_map_has_less_than_8_megabytes():
    """2809 positions of 16 x 16 pixels; noise, which no PNG makes smaller."""
    size = len(report.page(made_up(224, 224, (16, 16), (4, 4), classes=5)))
    assert 2e6 < size < 8e6


def test_the_page_of_a_huge_map_has_less_than_12_megabytes_and_says_what_is_missing():
    of_it = made_up(1400, 1300, (16, 16), (1, 1), classes=2)
    data = report.data(of_it)
    assert len(json.dumps(data)) < 12e6
    rows, cols = len(data["grid"]["tops"]), len(data["grid"]["lefts"])
    heat_map = of_it.heat_map
    assert 2 * rows * cols <= 400_000 and "one row and one column in 3" in " ".join(data["warnings"])
    some = array_of(data, "scores", "<f4").reshape(2, rows, cols)
    np.testing.assert_array_equal(some, heat_map.scores[:, ::3, ::3])
    assert data["grid"]["tops"] == heat_map.tops[::3].tolist() and data["grid"]["stride"] == [3, 3]
    assert max(picture_of(data["image"]["src"]).shape) == images.MOST_SIDE and not data["per_pixel"]


def test_no_page_has_12_megabytes():
    """As many patches as are shown, of an image as large as is shown, with as many scores: all of it noise."""
    of_it = made_up(1024, 1024, (16, 16), (4, 5), classes=7)
    data = report.data(of_it)
    assert data["patches"]["height"] == 4 and data["image"]["height"] == 1024 and len(data["grid"]["tops"]) == 253
    assert 8e6 < len(json.dumps(data)) < 12e6


def test_a_grey_picture_is_kept_as_one_channel():
    grey = noise(30, 40)[:, :, :1].repeat(3, axis=2)
    uri = images.png_uri(grey)
    np.testing.assert_array_equal(picture_of(uri), grey)
    assert len(uri) < 0.6 * len(images.png_uri(noise(30, 40)))


# -- files -------------------------------------------------------------------------------------------------------------


def test_it_is_written_whole_and_names_a_model_beside_it(explanation, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    report.write(explanation, folder / "out.html")
    assert [path.name for path in folder.iterdir()] == ["out.html"]
    beside = explained(tmp_path)
    report.write(beside, tmp_path / "out.html")
    (shown,) = [c for tag, _, c in Elements((tmp_path / "out.html").read_text("utf-8")).inside if tag == "pre"]
    assert 'path = "model.onnx"' in shown and str(tmp_path) not in shown
    with pytest.raises(kx.KryptonError, match="there is no folder"):
        report.write(explanation, tmp_path / "missing" / "out.html")


def test_without_jinja_one_line_says_what_to_install(explanation, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(kx.KryptonError, match=r"needs Jinja2: pip install 'krypton-onnx\[report\]'"):
        report.write(explanation, tmp_path / "out.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(2000, 1, 4000), (3, 900, 900), (1, 4000, 1), (10, 50, 53)])
def test_scores_are_bounded_whatever_the_shape_of_the_map(shape):
    classes, rows, cols = shape
    heat_map = kx.HeatMap(
        np.zeros(shape, np.float32), np.zeros(classes, np.float32), tuple(range(classes)), np.arange(rows),
        np.arange(cols), (1, 1), (1, 1), "exact", np.ones((rows, cols), bool), frame=(rows, cols),
    )  # fmt: skip
    fewer, said = contents._thinned(heat_map)
    assert fewer.scores.size <= contents.MOST_SCORES
    assert bool(said) == (heat_map.scores.size > contents.MOST_SCORES)
