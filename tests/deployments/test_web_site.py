"""The site of `krypton-onnx web` in headless Chromium: its numbers are Python's, its threads the browser's."""

import os
import re

import numpy as np
import onnx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from report_pages import needs_chromium
from tiny_models import tiny
from web_cases import krypton
from web_pages import CUP, ESPRESSO, PHOTO, assert_equal_maps, explained, set_image

import krypton_onnx as kx
from krypton_onnx import demo
from krypton_onnx.images import Preparation, prepare_image, read_image

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra dev)")
pytest_plugins = ("web_browser",)
pytestmark = needs_chromium

expect = playwright.expect


def test_the_map_of_the_page_is_that_of_python(opened, squeezenet, exact):
    page = opened(squeezenet / "site")
    assert set_image(page, squeezenet / PHOTO) == (demo.SIZE, demo.SIZE)
    array = prepare_image(read_image(squeezenet / PHOTO), demo.PREPARATION).array
    have = np.array(page.evaluate("Array.from(window.krypton.input())"), np.float32).reshape(array.shape)
    np.testing.assert_allclose(have, array, atol=1e-4)
    told = explained(page, targets=[ESPRESSO, CUP])
    assert_equal_maps(told, exact)
    assert float(np.max(exact.drop)) > 0.05, "a flat map would prove nothing"
    assert "onnxruntime-web" in told["note"]


def test_all_cores_are_used_where_the_page_is_isolated(opened, squeezenet):
    page = opened(squeezenet / "site")
    assert page.evaluate("window.crossOriginIsolated") is True
    ready = page.evaluate("window.krypton.ready")
    cores = page.evaluate("navigator.hardwareConcurrency")
    assert (ready["provider"], ready["threads"]) == ("wasm", min(cores, 16))
    assert ready["title"] == "SqueezeNet 1.1" and ready["classes"] == demo.CLASSES
    if (os.cpu_count() or 1) > 1:
        assert ready["threads"] > 1


def test_a_server_without_headers_gives_one_thread_and_the_same_map(opened, squeezenet, exact):
    page = opened(squeezenet / "site", headers={})
    assert page.evaluate("window.crossOriginIsolated") is False
    ready = page.evaluate("window.krypton.ready")
    assert ready["threads"] == 1 and "does not make this page cross-origin isolated" in ready["why"]
    set_image(page, squeezenet / PHOTO)
    assert_equal_maps(explained(page, targets=[ESPRESSO, CUP]), exact)
    expect(page.get_by_text("the server does not make this page cross-origin isolated")).to_be_visible()


def test_the_site_passes_on_the_licences_of_what_it_holds(squeezenet):
    notices = (squeezenet / "site" / "licenses.txt").read_text()
    for name in ("onnxruntime-web", "flatbuffers", "protobufjs"):
        assert re.search(rf"^{name} [\d.]+: [\w.-]+$", notices, re.M)
    assert "Redistribution and use in source and binary forms" in notices
    assert not re.search(r"^(vite|vitest|typescript) ", notices, re.M)


def test_it_works_below_any_path(opened, squeezenet):
    page = opened(squeezenet, page_path="site/index.html")
    set_image(page, squeezenet / PHOTO)
    assert explained(page, stride=64)["complete"]


def test_pictures_of_all_formats_become_the_numbers_of_python(opened, squeezenet, tmp_path):
    photo = Image.open(squeezenet / PHOTO).resize((150, 100))
    turned, linear = Image.Exif(), PngInfo()
    turned[0x0112] = 6  # a quarter to the right
    linear.add(b"gAMA", (100_000).to_bytes(4, "big"))
    photo.save(tmp_path / "turned.jpg", exif=turned, quality=95, subsampling=0)
    photo.convert("CMYK").save(tmp_path / "ink.jpg", quality=95)
    photo.save(tmp_path / "turned.png", exif=turned)
    photo.save(tmp_path / "linear.png", pnginfo=linear)
    photo.save(tmp_path / "lossless.webp", lossless=True)
    photo.quantize(64).save(tmp_path / "palette.png")
    photo.convert("LA").save(tmp_path / "gray.png")
    photo.convert("1").save(tmp_path / "bits.png")
    wants = Preparation((60, 72), mean=(0.5,), scale=1.0)
    onnx.save(tiny(height=60, width=72), tmp_path / "small.onnx")
    result = krypton("web", tmp_path / "small.onnx", "-o", tmp_path / "site", "-q", "--scale", "1", "--mean", "0.5")
    assert result.exit_code == 0, result.output
    page = opened(tmp_path / "site")
    pictures = sorted(path for path in tmp_path.iterdir() if path.suffix in (".jpg", ".png", ".webp"))
    assert len(pictures) == 8
    for path in pictures:
        array = prepare_image(read_image(path), wants).array
        set_image(page, path)
        have = np.array(page.evaluate("Array.from(window.krypton.input())"), np.float32).reshape(array.shape)
        # Readers of JPEG may round otherwise; all else is lossless.
        np.testing.assert_allclose(have, array, atol=3.0 if path.suffix == ".jpg" else 1e-4, err_msg=path.name)


KINDS = {
    "softmax": (["--activation", "softmax", "--preset", "imagenet", "--fit", "stretch"], {}),
    "sigmoid, crop": (["--activation", "sigmoid", "--fit", "crop", "--resize", "30", "--preset", "unit"], {}),
    "nhwc, pad": (["--fit", "pad", "--mean", "0.4,0.5,0.6", "--std", "0.25"], {"layout": "NHWC"}),
    "gray": (["--scale", "1", "--resample", "bicubic"], {"channels": 1}),
    "uint8": (["--preset", "raw", "--resample", "lanczos"], {"cast": onnx.TensorProto.UINT8}),
    "float16": (["--preset", "tensorflow", "--resample", "nearest"], {"cast": onnx.TensorProto.FLOAT16}),
}


def small_model(cast=None, **how):
    """tiny(), of another type of image."""
    model = tiny(**how)
    if cast is None:
        return model
    image = model.graph.input[0]
    image.type.tensor_type.elem_type = cast
    for node in model.graph.node:
        node.input[:] = ["as_float" if name == image.name else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Cast", [image.name], ["as_float"], to=onnx.TensorProto.FLOAT))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_models_and_preparations_of_all_kinds(opened, built, squeezenet, tmp_path, kind):
    options, how = KINDS[kind]
    onnx.save(small_model(**how), tmp_path / "small.onnx")
    result = krypton("web", tmp_path / "small.onnx", "-o", tmp_path / "site", "-q", "--no-sample", *options)
    assert result.exit_code == 0, result.output
    session = kx.OcclusionSession(tmp_path / "site" / "model" / "rewritten.onnx")
    activation = options[1] if "--activation" in options else None
    asked = {"targets": [0, 1, 2, 3], "patch": (5, 4), "stride": (3, 5)}
    page = opened(tmp_path / "site")
    set_image(page, squeezenet / PHOTO)
    for fill in (0.25, "mean", "gray", "white"):
        wanted = session.explain(squeezenet / PHOTO, fill=fill, activation=activation, **asked)
        assert_equal_maps(explained(page, fill=fill, **asked), wanted)
        assert np.ptp(wanted.scores) > 1e-3
