"""`krypton-onnx web`: what cannot be a site, and where one is written."""

import json
import os

import onnx
import pytest
from families import FAMILIES
from graph_builder import Graph
from tiny_models import tiny, two_image_inputs, with_second_input
from web_cases import PAGE, complaint, files, krypton, write_page, written

import krypton_onnx as kx
from krypton_onnx.web import folder, manifest, site
from krypton_onnx.web.building import STAMP

pytest_plugins = ("site_fixtures",)
UNIT = ["--preset", "unit"]
OURS = ["_headers", ".htaccess", "_nginx.conf", *PAGE, "model/manifest.json", "model/rewritten.onnx"]


# -- what cannot be a site ---------------------------------------------------------------------------------------------


def test_models_that_cannot_be_on_a_page(builder, tmp_path, monkeypatch):
    many = with_second_input("shared")
    cases = {
        "two": (FAMILIES["two_outputs"](), "several outputs"),
        "images": (two_image_inputs(), "image"),
        "more": (many, "inputs beside its image 'image' (more)"),
        "spatial": (_spatial(), "not one number a class"),
    }
    for name, (model, why) in cases.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        assert why in complaint(krypton("web", path, "-o", tmp_path / "site", *UNIT, "-q")), name
    path = tmp_path / "text.onnx"
    path.write_text("no model")
    assert "not an ONNX model" in complaint(krypton("web", path, "-o", tmp_path / "site", "-q"))
    onnx.save(tiny(height="height", width="width"), path)
    assert "--input-shape" in complaint(krypton("web", path, "-o", tmp_path / "site", *UNIT, "-q"))
    monkeypatch.setattr(manifest, "MOST_BYTES", 100)
    onnx.save(tiny(), path)
    assert "a browser's WebAssembly cannot take more" in complaint(
        krypton("web", path, "-o", tmp_path / "site", *UNIT, "-q")
    )
    assert builder.built == [] and [one.name for one in tmp_path.iterdir() if one.is_dir()] == []


def _spatial() -> onnx.ModelProto:
    g = Graph(71, opset=17, ir=8)
    x = g.conv_relu(g.input("image", ["batch", 3, 20, 24]), 5, 3, pads=1)
    g.node("Sigmoid", x, name="heat")
    return g.model({"heat": ["batch", 5, 20, 24]})


def test_a_model_with_control_flow_is_refused_with_the_reason(builder, tmp_path):
    path = tmp_path / "fixed.onnx"
    g = Graph(72, opset=17, ir=8)
    x = g.conv_relu(g.input("image", [2, 3, 20, 24]), 5, 3, pads=1)
    g.node("ReduceMean", x, axes=[0, 2, 3], keepdims=0, name="mean")  # over the batch
    onnx.save(g.model({"mean": [5]}), path)
    assert complaint(krypton("web", path, "-o", tmp_path / "site", *UNIT, "-q"))
    assert not (tmp_path / "site").exists()


def test_one_of_several_outputs_can_be_chosen(builder, tmp_path):
    model = FAMILIES["two_outputs"]()
    onnx.save(model, tmp_path / "two.onnx")
    name = model.graph.output[-1].name
    result = krypton("web", tmp_path / "two.onnx", "-o", tmp_path / "site", "--model-output", name, *UNIT)
    assert written(result, tmp_path / "site")["output"] == name


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--patch", "21,5"], "the patch of 21 x 5 is larger than the model's image of 20 x 24"),
        (["--fill", "1,2"], "the fill has 2 numbers"),
        (["--labels", "labels.txt"], "2 labels"),
        (["--channel-order", "gray"], "the preparation makes 1 channel"),
        (["--model-output", "nothing"], "no such output"),
    ],
)
def test_options_that_do_not_fit_the_model(builder, model, tmp_path, monkeypatch, options, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    assert why in complaint(krypton("web", model, "-o", "site", *UNIT, "-q", *options))
    assert os.listdir(tmp_path) == ["labels.txt"]


@pytest.mark.parametrize(
    "options", [[], ["-o", "site", "--fill", "blur"], ["-o", "site", "--patch", "x"], ["-o", "site", "--port", "70000"]]
)
def test_misuse_is_told_before_anything_is_done(builder, model, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    assert krypton("web", model, *options).exit_code == 2
    assert os.listdir(tmp_path) == []
    assert krypton("web", tmp_path, "--serve").exit_code == 2  # a folder, and no site


# -- where it is written -----------------------------------------------------------------------------------------------


def test_a_site_is_written_anew_and_what_else_is_there_stays(builder, model, tmp_path):
    out = tmp_path / "site"
    first = written(krypton("web", model, "-o", out, *UNIT), out)
    (out / "CNAME").write_text("maps.example.org")
    (out / "assets" / "old.js").write_text("of an earlier version")
    second = written(krypton("web", model, "-o", out, "--title", "Second", "--no-sample", *UNIT), out)
    assert (first["title"], second["title"]) == ("finder", "Second")
    assert files(out) == sorted([*OURS, "CNAME"])


def test_what_is_not_ours_is_not_overwritten(builder, model, tmp_path):
    out = tmp_path / "home"
    out.mkdir()
    (out / "index.html").write_text("mine")
    (out / "thesis.txt").write_text("mine")
    result = krypton("web", model, "-o", out, *UNIT)
    assert "it is not empty and no site of krypton-onnx" in complaint(result)
    assert files(out) == ["index.html", "thesis.txt"] and (out / "index.html").read_text() == "mine"
    assert "index.html in it is not of a site" in complaint(krypton("web", model, "-o", out, "--force", *UNIT))
    assert files(out) == ["index.html", "thesis.txt"] and (out / "index.html").read_text() == "mine"
    (out / "index.html").unlink()
    (out / "model").mkdir()  # of a project, say: it would give way as a whole
    assert "model in it is not of a site" in complaint(krypton("web", model, "-o", out, "--force", *UNIT))
    (out / "model").rmdir()
    written(krypton("web", model, "-o", out, "--force", *UNIT), out)
    assert files(out) == sorted([*OURS, "model/sample.png", "thesis.txt"])
    for path, why in ((out / "thesis.txt", "is a file"), (tmp_path / "no" / "site", "there is no folder")):
        assert why in complaint(krypton("web", model, "-o", path, *UNIT))
    empty = tmp_path / "empty"
    empty.mkdir()
    written(krypton("web", model, "-o", empty, *UNIT), empty)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_a_site_that_cannot_be_finished_stays_as_it_was(builder, model, tmp_path, monkeypatch):
    out = tmp_path / "site"
    written(krypton("web", model, "-o", out, *UNIT), out)
    before = {name: (out / name).read_bytes() for name in files(out)}
    real = os.rename

    for entry in ("assets", "model", "index.html"):  # where the exchange ends, with what went before it undone

        def broken(source, target, entry=entry):
            if os.fspath(target) == os.path.join(out, entry) and "/.old/" not in os.fspath(source):
                raise OSError(28, "No space left on device")
            real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(folder.os, "rename", broken)
            result = krypton("web", model, "-o", out, "--title", "Second", *UNIT, "-q")
        assert "No space left on device" in complaint(result)
        assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_what_a_killed_process_left_is_removed_when_it_is_old(builder, model, tmp_path):
    old, new = tmp_path / ".krypton-web-0123456789ab", tmp_path / ".krypton-web-ba9876543210"
    for path in (old, new):
        path.mkdir()
    os.utime(old, (0, 0))
    written(krypton("web", model, "-o", tmp_path / "site", *UNIT), tmp_path / "site")
    assert not old.exists() and new.exists()


def test_from_python(builder, model, tmp_path):
    wanted = site.Wanted(sample=False, fill="mean")
    made = site.write_site(model, tmp_path / "site", wanted, preparation="unit", labels=tuple("abcd"))
    assert made.manifest.defaults.fill == "mean" and made.manifest.title == "finder"
    assert json.loads((tmp_path / "site" / "model" / "manifest.json").read_text())["labels"] == ["a", "b", "c", "d"]
    assert not (tmp_path / "site" / STAMP).exists()
    with pytest.raises(kx.ImageError, match="fill 'blur'"):
        site.write_site(model, tmp_path / "other", site.Wanted(fill="blur"))


def test_a_page_that_is_not_one_of_ours(tmp_path):
    write_page(tmp_path)
    assert not folder.is_site(tmp_path)
    (tmp_path / "model").mkdir()
    for text in ("", "[1]", '{"format": 1}', '{"format": 1, "model": "m", "origin_input": "o"}'):
        (tmp_path / "model" / "manifest.json").write_text(text)
        assert folder.is_site(tmp_path) == ("origin" in text)
