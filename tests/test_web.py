"""`krypton-onnx web`: what is in the site, and what cannot be one."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graph_builder import Graph
from naive import naive_map
from onnx import TensorProto
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_models import tiny
from tolerances import assert_scores_equal
from web_cases import PAGE, complaint, files, krypton, written

import krypton_onnx as kx
from krypton_onnx import __version__
from krypton_onnx.images import Preparation
from krypton_onnx.web import headers

pytest_plugins = ("site_fixtures",)
UNIT = ["--preset", "unit"]
OURS = ["_headers", ".htaccess", "_nginx.conf", *PAGE, "model/manifest.json", "model/rewritten.onnx"]


# -- what is written ---------------------------------------------------------------------------------------------------


def test_the_site_holds_the_page_the_model_and_what_the_page_must_know(builder, model, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\nbird\nfish\n")
    out = tmp_path / "site"
    result = krypton(
        "web", model, "-o", out, "--title", "Finds  animals", "--labels", labels, "--activation", "softmax",
        "--patch", "6,5", "--stride", "3", "--fill", "0.1,0.2,0.3", "--mean", "0.5", "--std", "0.25,0.5,0.125",
    )  # fmt: skip
    told = written(result, out)
    assert files(out) == sorted([*OURS, "model/sample.png"])
    content = (out / "model" / "rewritten.onnx").read_bytes()
    assert told.pop("sha256") == kx.ExplanationSpec(str(out / "model" / "rewritten.onnx")).with_digest().model_sha256
    assert told == {
        "format": 1, "title": "Finds animals", "model": "rewritten.onnx", "bytes": len(content), "image_input": "image",
        "image_shape": [3, 20, 24], "layout": "NCHW", "image_type": "float32", "output": "logits",
        "unoccluded": "unoccluded_logits", "activation": "softmax", "score_name": "probability",
        "labels": ["cat", "dog", "bird", "fish"], "patch_input": "occlusion_patch", "origin_input": "occlusion_origin",
        "threshold_input": "propagation_threshold", "version": __version__,
        "preparation": {
            "size": [20, 24], "mean": [0.5], "std": [0.25, 0.5, 0.125], "scale": None, "channel_order": "rgb",
            "layout": "nchw", "fit": "stretch", "resize": None, "resample": "bilinear", "padding": 0.0, "window": None,
        },
        "defaults": {"patch": [6, 5], "stride": [3, 3], "fill": [0.1, 0.2, 0.3]},
        "sample": {
            "file": "sample.png", "caption": "A cup of espresso",
            "credit": "Rachel Michetti, from scikit-image (CC0)",
        },
    }  # fmt: skip
    assert result.stderr.splitlines() == ["converting the model", "building the page, once (npm; about a minute)"]
    size = sum((out / name).stat().st_size for name in files(out))
    assert f"wrote {out}/: {size / 1e6:.1f} MB, of which the model {len(content) / 1e6:.1f} MB" in result.stdout
    assert "Finds animals: input image 1 x 3 x 20 x 24, output logits, shown as probability; the names of 4" in (
        result.stdout
    )
    assert "sample, for all visitors to see: A cup of espresso" in result.stdout
    assert out.stat().st_mode & 0o777 == 0o777 & ~_umask(), "a web server may not read it"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_stock_onnx_runtime_gets_the_scores_of_full_inference_by_what_the_manifest_names(builder, model, tmp_path):
    told = written(krypton("web", model, "-o", tmp_path / "site", "-q"), tmp_path / "site")
    session = ort.InferenceSession(str(tmp_path / "site" / "model" / told["model"]), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((1, *told["image_shape"]), np.float32)
    tops, lefts = np.arange(0, 16, 5), np.arange(0, 20, 7)
    scores, baseline = session.run(
        [told["output"], told["unoccluded"]],
        {
            told["image_input"]: image,
            told["origin_input"]: np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2),
            told["patch_input"]: np.zeros((1, 3, 5, 5), np.float32),
            told["threshold_input"]: np.ones(1, np.float32),
        },
    )
    wanted, base = naive_map(onnx.load(model), image, tops, lefts, np.zeros((3, 5, 5), np.float32))
    assert_scores_equal(scores, wanted.reshape(scores.shape), probabilities=False)
    assert_scores_equal(baseline[0], base, probabilities=False)


def test_what_is_not_said_is_told_to_be_assumed(builder, model, tmp_path):
    result = krypton("web", model, "-o", tmp_path / "site")
    told = written(result, tmp_path / "site")
    assert "krypton-onnx: warning: nothing says how the model wants its image; assumed: " in result.stderr
    assert told["title"] == "finder" and told["score_name"] == "output" and told["labels"] is None
    assert told["defaults"] == {"patch": [16, 16], "stride": [8, 8], "fill": 0.0}
    quiet = krypton("web", model, "-o", tmp_path / "quiet", "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_a_converted_model_tells_it_all_itself(builder, model, tmp_path):
    converted = tmp_path / "converted.onnx"
    kx.convert(model, converted, preparation=Preparation(mean=(0.5,), resample="bicubic"), labels=["a", "b", "c", "d"])
    result = krypton("web", converted, "-o", tmp_path / "site")
    told = written(result, tmp_path / "site")
    assert "warning" not in result.stderr
    assert told["labels"] == ["a", "b", "c", "d"]
    assert told["preparation"]["mean"] == [0.5] and told["preparation"]["resample"] == "bicubic"
    changed = krypton("web", converted, "-o", tmp_path / "changed", "--mean", "0.25")
    assert written(changed, tmp_path / "changed")["preparation"]["mean"] == [0.25]


@pytest.mark.parametrize("kind", ["nhwc", "uint8", "float16", "gray", "one class", "N x classes x 1 x 1"])
def test_models_of_all_kinds(builder, tmp_path, kind):
    path = tmp_path / "model.onnx"
    expected = {"layout": "NCHW", "image_type": "float32", "image_shape": [3, 20, 24]}
    if kind == "nhwc":
        onnx.save(tiny(layout="NHWC"), path)
        expected["layout"] = "NHWC"
    elif kind == "gray":
        onnx.save(tiny(channels=1), path)
        expected["image_shape"] = [1, 20, 24]
    else:
        onnx.save(_classifier(kind), path)
        if kind in ("uint8", "float16"):
            expected["image_type"] = kind
    told = written(krypton("web", path, "-o", tmp_path / "site", *UNIT), tmp_path / "site")
    assert {name: told[name] for name in expected} == expected
    gray = kind == "gray"
    assert told["preparation"]["channel_order"] == ("gray" if gray else "rgb")
    assert (told["sample"] is None) == gray == (not (tmp_path / "site" / "model" / "sample.png").exists())


def _classifier(kind: str) -> onnx.ModelProto:
    g = Graph(70, opset=17, ir=8)
    x = image = g.input("image", ["batch", 3, 20, 24])
    if kind in ("uint8", "float16"):
        x = g.node("Cast", image, to=TensorProto.FLOAT, channels=3)
    pooled = g.node("GlobalAveragePool", g.conv_relu(x, 1 if kind == "one class" else 5, 3, pads=1), name="scores")
    flat = kind != "N x classes x 1 x 1"
    output = g.node("Flatten", pooled, name="flat") if flat else pooled
    model = g.model({output: ["batch", None] if flat else ["batch", 5, 1, 1]})
    if kind in ("uint8", "float16"):
        types = {"uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16}
        model.graph.input[0].type.tensor_type.elem_type = types[kind]
    return model


@pytest.mark.parametrize("server", ["_headers", ".htaccess", "_nginx.conf"])
def test_every_server_is_told_the_same_headers(builder, model, tmp_path, server):
    written(krypton("web", model, "-o", tmp_path / "site", "-q"), tmp_path / "site")
    text = (tmp_path / "site" / server).read_text()
    line = {"_headers": r"^  ([\w-]+): (.+)$", ".htaccess": r'^Header always set ([\w-]+) "(.+)"$'}
    found = re.findall(line.get(server, r'^add_header ([\w-]+) "(.+)" always;$'), text, re.M)
    assert [one for one in found if one[0] != "Cache-Control"] == list(headers.HEADERS.items())
    assert {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}.items() <= (
        headers.HEADERS.items()
    )
    assert "unsafe-inline" not in text and "'unsafe-eval'" not in text and "no-cache" in text


def test_the_documentation_names_every_header():
    page = (Path(__file__).parents[1] / "docs" / "web.md").read_text()
    told = dict(re.findall(r"^\| `([\w-]+)` \| `([^`]+)`[^|]* \|", page, re.M))
    assert told.pop("Cache-Control") == headers.REVALIDATE and headers.FOREVER in page
    assert told == headers.HEADERS
    assert all(name in page for name in headers.FILES)


# -- samples -----------------------------------------------------------------------------------------------------------


def test_a_sample_is_published_without_what_its_file_tells(builder, model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    told = PngInfo()
    told.add_text("Patient", "Jane Doe")
    path = tmp_path / "jane-doe.png"
    Image.fromarray(pixels).save(path, pnginfo=told, exif=_place(), icc_profile=b"profile")
    assert b"Jane Doe" in path.read_bytes()
    result = krypton("web", model, "-o", tmp_path / "site", "--sample", path, *UNIT)
    sample = written(result, tmp_path / "site")["sample"]
    assert sample == {"file": "sample.png", "caption": "Sample image", "credit": ""}
    with Image.open(tmp_path / "site" / "model" / "sample.png") as picture:
        assert picture.info == {} and not picture.getexif()
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    for name in ("sample.png", "manifest.json"):
        assert not re.search(rb"(?i)jane|doe|patient", (tmp_path / "site" / "model" / name).read_bytes())


def _place() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    return exif


def test_a_large_sample_is_made_smaller_and_grey_stays_grey(builder, model, tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (2400, 1200), 90).save(path)
    written(krypton("web", model, "-o", tmp_path / "site", "--sample", path, *UNIT), tmp_path / "site")
    with Image.open(tmp_path / "site" / "model" / "sample.png") as picture:
        assert (picture.mode, picture.size) == ("L", (1024, 512))


def test_pictures_that_a_browser_would_see_otherwise_are_no_samples(builder, model, tmp_path):
    deep, clear, array = tmp_path / "deep.png", tmp_path / "clear.png", tmp_path / "array.npy"
    Image.fromarray(np.full((30, 30), 4000, np.uint16)).save(deep)
    Image.new("RGBA", (30, 30), (1, 2, 3, 4)).save(clear)
    np.save(array, np.zeros((3, 20, 24), np.float32))
    for path, why in ((deep, "more than 8 bits"), (clear, "transparent"), (array, "is an array")):
        result = krypton("web", model, "-o", tmp_path / "site", "--sample", path, *UNIT, "-q")
        assert why in complaint(result)
    assert not (tmp_path / "site").exists()
    none = krypton("web", model, "-o", tmp_path / "none", "--no-sample", *UNIT)
    assert written(none, tmp_path / "none")["sample"] is None and "sample: none" in none.stdout
    assert krypton("web", model, "-o", tmp_path / "x", "--sample", deep, "--no-sample").exit_code == 2


def test_a_window_is_not_for_a_browser(builder, model, tmp_path):
    converted = tmp_path / "ct.onnx"
    kx.convert(model, converted, preparation=Preparation(window=(40, 400)))
    result = krypton("web", converted, "-o", tmp_path / "site")
    assert written(result, tmp_path / "site")["preparation"]["window"] is None
    assert "save scans as PNG with the window centre 40, width 400 (values -160 to 240)" in result.stderr
