"""An explanation saved as a specification and replayed gives the same map, by the API and by the command line."""

import dataclasses
import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from approximate_models import deep, scene
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_models import image_of, tiny, two_image_inputs
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app
from krypton_onnx.digest import model_digest
from krypton_onnx.images import prepare_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models and images; nothing in it is changed by a test."""
    path = tmp_path_factory.mktemp("models")
    onnx.save(tiny(), path / "tiny.onnx")
    onnx.save(deep(), path / "deep.onnx")
    onnx.save(FAMILIES["two_outputs"](), path / "two_outputs.onnx")
    onnx.save(FAMILIES["vgg_nhwc"](), path / "vgg_nhwc.onnx")
    onnx.save(FAMILIES["dynamic_size"](), path / "dynamic_size.onnx")
    onnx.save(two_image_inputs(), path / "two_inputs.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((100, 80)).save(path / "photo.png")
    np.save(path / "array.npy", image_of(3, 20, 24))
    np.save(path / "scene.npy", scene(0)[0])
    return path


def krypton(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def printed(*arguments: object) -> dict:
    result = krypton(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: object, code: int = 1) -> str:
    result = krypton(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    if code == 1:
        assert re.fullmatch(r"krypton-onnx: error: [^\n]+\n", result.stderr), result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


# -- the same map ------------------------------------------------------------------------------------------------------

PHOTO_OPTIONS = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--channel-order", "bgr"]
CASES = {
    "preprocessing": ("tiny", "photo.png", ["--patch", "5,4", "--stride", "3,2", *PHOTO_OPTIONS]),
    "scale": ("tiny", "photo.png", ["--patch", "6", "--stride", "5", "--scale", "1/127.5", "--mean", "1"]),
    "fill a channel": ("tiny", "array.npy", ["--patch", "6", "--stride", "3", "--fill", "0.1,-1/3,2e-7"]),
    "target": ("tiny", "array.npy", ["--patch", "6", "--stride", "5", "--target", "2", "--score", "margin"]),
    "naive": ("tiny", "array.npy", ["--patch", "6", "--stride", "5", "--mode", "naive"]),
    "strict": ("tiny", "array.npy", ["--patch", "6", "--stride", "5", "--strict", "--providers", "cpu"]),
    "output": ("two_outputs", "photo.png", ["--model-output", "", "--stride", "12"]),
    "channels last": ("vgg_nhwc", "photo.png", ["--stride", "12", "--std", "0.3"]),
    "open size": ("dynamic_size", "photo.png", ["--stride", "9", "--input-shape", "1,3,40,33"]),
    "own size": ("dynamic_size", "photo.png", ["--stride", "19"]),
    "input": ("two_inputs", "array.npy", ["--patch", "6", "--image-input", "left"]),
    "approximate": (
        "deep", "scene.npy",
        ["--patch", "8", "--stride", "2", "--mode", "approximate", "--min-ssim", "0.8", "--seed", "7",
         "--no-complete-exactly"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [name for name in CASES if name != "input"])
def test_a_saved_explanation_gives_the_same_map_by_command_line_and_by_api(folder, tmp_path, case):
    model, image, arguments = CASES[case]
    arguments = [*arguments]
    if case == "output":
        arguments[1] = onnx.load(folder / "two_outputs.onnx").graph.output[1].name
    spec = tmp_path / "explanation.toml"
    original = printed("explain", folder / f"{model}.onnx", folder / image, "--save-spec", spec, "-q", *arguments)
    assert original["complete"] and len(np.unique(original["scores"])) > 1

    assert printed("explain", "--spec", spec, folder / image) == original
    heat_map = kx.ExplanationSpec.load(spec).explain(folder / image)
    assert heat_map.to_dict() == original


def test_the_map_is_the_one_that_the_session_gives(folder, tmp_path):
    """Against a session without any specification: region, several targets and limits are the API's only."""
    session = kx.OcclusionSession(folder / "deep.onnx")
    arguments = {
        "targets": (3, 1), "patch": (8, 6), "stride": (5, 7), "fill": np.array([0.1, -0.2, 1e-3]),
        "region": (3, 5, 60, 50), "score": "logit", "output": "logits", "batch_size": 7, "time_budget": 600.0,
        "memory_budget": 10**12,
    }  # fmt: skip
    expected = session.explain(scene(1), **arguments)
    spec = kx.ExplanationSpec(folder / "deep.onnx", **arguments)
    assert spec.save(tmp_path / "spec.toml") == kx.ExplanationSpec.load(tmp_path / "spec.toml")
    for replayed in (spec, kx.ExplanationSpec.load(tmp_path / "spec.toml")):
        heat_map = replayed.explain(scene(1))
        assert heat_map.to_dict() == expected.to_dict()
        assert replayed.explain(scene(1), session).to_dict() == expected.to_dict()
    np.save(tmp_path / "scene.npy", scene(1)[0])
    assert printed("explain", "--spec", tmp_path / "spec.toml", tmp_path / "scene.npy") == expected.to_dict()


def test_a_picture_is_prepared_as_the_specification_says(folder):
    preparation = kx.Preparation((20, 24), (0.4,), (0.2, 0.3, 0.1), None, "bgr")
    spec = kx.ExplanationSpec(folder / "tiny.onnx", preparation=preparation, patch=6)
    picture = Image.open(folder / "photo.png")
    array = prepare_image(picture, preparation).array
    expected = kx.OcclusionSession(folder / "tiny.onnx").explain(array, patch=6).to_dict()
    assert spec.explain(picture).to_dict() == spec.explain(folder / "photo.png").to_dict() == expected
    assert dataclasses.replace(spec, preparation=kx.Preparation((20, 24))).explain(picture).to_dict() != expected


def test_a_tuned_model_is_replayed_with_its_tuning(folder, tmp_path):
    session = kx.OcclusionSession(folder / "deep.onnx")
    tuning = kx.tune(session, [scene(seed) for seed in range(2, 6)], patch=8, stride=2, min_ssim=0.6)
    kx.convert(folder / "deep.onnx", tmp_path / "tuned.onnx", tuning=tuning)
    arguments = ["--patch", "8", "--stride", "2", "--mode", "approximate", "--save-spec", tmp_path / "spec.toml"]
    original = printed("explain", tmp_path / "tuned.onnx", folder / "scene.npy", *arguments)
    assert original["expected_ssim"] is not None
    assert printed("explain", "--spec", tmp_path / "spec.toml", folder / "scene.npy") == original
    assert kx.ExplanationSpec.load(tmp_path / "spec.toml").explain(scene(0)).to_dict() == original


def test_a_replay_writes_the_same_picture(folder, tmp_path):
    arguments = ["-o", tmp_path / "one.png", "--save-spec", tmp_path / "spec.toml", "--patch", "5", *PHOTO_OPTIONS]
    result = krypton("explain", folder / "tiny.onnx", folder / "photo.png", *arguments)
    assert result.exit_code == 0 and f"wrote {tmp_path / 'spec.toml'}" in result.stdout
    assert krypton("explain", "--spec", tmp_path / "spec.toml", folder / "photo.png", "-o", tmp_path / "two.png",
                   "-q").exit_code == 0  # fmt: skip
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "two.png")]
    np.testing.assert_array_equal(*pictures)


# -- options over the specification ------------------------------------------------------------------------------------


def test_options_that_are_given_change_the_specification(folder, tmp_path):
    spec, changed = tmp_path / "spec.toml", tmp_path / "changed.toml"
    base = kx.ExplanationSpec(
        folder / "deep.onnx", mode="approximate", min_ssim=0.5, patch=8, stride=4, targets=(2, 1), seed=3,
        preparation=kx.Preparation((64, 64), std=(0.2,)),
    )  # fmt: skip
    base = base.save(spec)
    # 16 and 4 are the options' defaults: given, they count all the same.
    arguments = ["--patch", "16", "--mode", "exact", "--target", "0", "--mean", "0.1", "--save-spec", changed]
    values = printed("explain", "--spec", spec, folder / "photo.png", *arguments)
    assert values["patch"] == [16, 16] and values["stride"] == [4, 4] and values["targets"] == [0]
    assert values["mode"] == "exact"
    preparation = dataclasses.replace(base.preparation, mean=(0.1,))
    assert kx.ExplanationSpec.load(changed) == dataclasses.replace(
        base, patch=16, mode="exact", min_ssim=None, targets=0, preparation=preparation
    )
    assert "--mode approximate" in refused(
        "explain", "--spec", changed, folder / "photo.png", "--json", "--min-ssim", "0.9", code=2
    )


def test_another_model_on_the_command_line_is_taken_with_a_warning(folder, tmp_path):
    kx.ExplanationSpec(folder / "deep.onnx", patch=8, stride=8).save(tmp_path / "spec.toml")
    other = onnx.load(folder / "deep.onnx")
    other.producer_name = "somebody else"
    onnx.save(other, tmp_path / "other.onnx")
    result = krypton("explain", tmp_path / "other.onnx", folder / "scene.npy", "--spec", tmp_path / "spec.toml",
                     "--json")  # fmt: skip
    assert result.exit_code == 0
    assert result.stderr == (
        f"krypton-onnx: warning: {tmp_path / 'other.onnx'} is not the model of the specification, its content differs\n"
    )
    moved = tmp_path / "moved.onnx"
    moved.write_bytes((folder / "deep.onnx").read_bytes())
    result = krypton("explain", moved, folder / "scene.npy", "--spec", tmp_path / "spec.toml", "--json")
    assert result.exit_code == 0 and result.stderr == ""


def test_a_picture_needs_a_preparation(folder, tmp_path):
    spec = kx.ExplanationSpec(folder / "tiny.onnx", patch=6)
    spec.save(tmp_path / "spec.toml")
    with pytest.raises(kx.ImageError, match=r"photo\.png: is a picture, but the specification does not say how"):
        spec.explain(folder / "photo.png")
    arguments = ["explain", "--spec", tmp_path / "spec.toml", folder / "photo.png"]
    assert "does not say how to prepare one" in refused(*arguments, "--json")
    assert printed(*arguments, "--std", "0.5")["complete"]


def test_without_a_specification_an_image_is_needed(folder):
    assert "give the image to explain" in refused("explain", folder / "tiny.onnx", "--json", code=2)


# -- the model ---------------------------------------------------------------------------------------------------------


def test_another_content_of_the_model_is_refused(folder, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes((folder / "tiny.onnx").read_bytes())
    spec = kx.ExplanationSpec(path, patch=6).save(tmp_path / "spec.toml")
    assert spec.model_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    onnx.save(deep(), path)
    with pytest.raises(kx.ModelError, match=r"model\.onnx: is not the model that was specified"):
        spec.explain(image_of(3, 20, 24))
    message = refused("explain", "--spec", tmp_path / "spec.toml", folder / "scene.npy", "--json")
    assert "its content differs" in message
    anew = dataclasses.replace(spec, model_sha256=None)
    assert anew.explain(scene(0)).complete
    path.unlink()
    assert "no such file" in refused("explain", "--spec", tmp_path / "spec.toml", folder / "scene.npy", "--json")


def test_weights_beside_the_model_belong_to_its_content(folder, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(tiny(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    spec = kx.ExplanationSpec(path, patch=6).save(tmp_path / "spec.toml")
    assert spec.explain(image_of(3, 20, 24)).complete
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[5] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    with pytest.raises(kx.ModelError, match="its content differs"):
        spec.session()


def test_a_digest_reads_no_file_outside_the_folder(tmp_path):
    model = tiny()
    inside = model_digest_of(model, tmp_path)
    for location in ("../secret", "/dev/zero", "missing"):
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=location)
        assert model_digest_of(model, tmp_path) != inside  # and it ends


def model_digest_of(model: onnx.ModelProto, folder: Path) -> str:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return model_digest(folder / "model.onnx")


def test_a_model_beside_the_file_moves_with_it(folder, tmp_path, monkeypatch):
    before, after = tmp_path / "before", tmp_path / "after"
    (before / "models").mkdir(parents=True)
    (before / "models" / "m.onnx").write_bytes((folder / "tiny.onnx").read_bytes())
    monkeypatch.chdir(before)
    kx.ExplanationSpec("models/m.onnx", patch=6).save("spec.toml")
    assert tomllib.loads(Path("spec.toml").read_text())["model"]["path"] == "models/m.onnx"
    monkeypatch.chdir(tmp_path)
    before.rename(after)
    spec = kx.ExplanationSpec.load("after/spec.toml")
    assert spec.model == str(after / "models" / "m.onnx")
    assert spec.explain(image_of(3, 20, 24)).complete
    spec.save(tmp_path / "elsewhere.toml")
    other = tmp_path / "other"
    other.mkdir()
    spec.save(other / "spec.toml")
    assert tomllib.loads((other / "spec.toml").read_text())["model"]["path"] == spec.model


# -- files -------------------------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
single = st.floats(-3e38, 3e38)
ids = st.integers(0, 2**63 - 1)
pixels = st.integers(1, 10**6)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
preparations = st.builds(
    lambda numbers, fitting, **others: kx.Preparation(mean=numbers[0], std=numbers[1], **fitting, **others),
    numbers=st.tuples(
        st.lists(finite, min_size=1, max_size=1).map(tuple),
        st.lists(finite.filter(bool), min_size=1, max_size=1).map(tuple),
    ),
    fitting=st.one_of(
        st.fixed_dictionaries(
            {"fit": st.sampled_from(["stretch", "pad"]), "size": st.none() | st.tuples(pixels, pixels)}
        ),
        st.fixed_dictionaries({"fit": st.just("crop"), "resize": st.none() | pixels}),
    ),
    resample=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]), padding=st.floats(0, 255),
    window=st.none() | st.tuples(finite, finite.filter(lambda width: width > 0)), scale=st.none() | finite.filter(bool),
    channel_order=st.sampled_from(["rgb", "bgr", "gray"]), layout=st.sampled_from(["nchw", "nhwc"]),
)  # fmt: skip
fills = single | st.lists(single, min_size=1).map(tuple) | st.sampled_from(["mean", "black", "inpaint"])


def several(each: list) -> tuple:
    """Fills to average over; a tuple of numbers alone would be one a channel."""
    return tuple(each) if any(isinstance(one, (str, tuple)) for one in each) else ((each[0],), *each[1:])


specifications = st.builds(
    lambda quality, edges, **others: kx.ExplanationSpec(
        mode=quality[0], min_ssim=quality[1], **others,
        region=edges and (edges[0], edges[1], edges[0] + edges[2], edges[1] + edges[3]),
    ),
    quality=st.tuples(st.sampled_from(["exact", "naive"]), st.none())
    | st.tuples(st.just("approximate"), st.none() | st.floats(0, 1, exclude_min=True)),
    edges=st.none() | st.tuples(ids.map(lambda i: i // 2), pixels, pixels, pixels),
    model=texts, model_sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    image_input=st.none() | texts, preparation=st.none() | preparations, patch=pixels | st.tuples(pixels, pixels),
    stride=pixels | st.tuples(pixels, pixels), fill=fills | st.lists(fills, min_size=2, max_size=3).map(several),
    fill_space=st.sampled_from(["model", "pixel"]), fill_samples=st.integers(1, 256),
    patch_shape=st.sampled_from(["rectangle", "ellipse", "masks/round.png", "/mask.npy"]),
    score=st.sampled_from(["output", "logit", "margin"]), output=st.none() | texts,
    targets=st.none() | ids | st.lists(ids, min_size=1).map(tuple), complete_exactly=st.booleans(), seed=ids,
    strict=st.booleans(), providers=st.none() | st.lists(texts, min_size=1).map(tuple),
    batch_size=st.none() | pixels, time_budget=st.none() | st.floats(0, 1e300), memory_budget=st.none() | pixels,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(specifications)
def test_what_is_written_is_what_is_read(spec):
    text = spec.to_toml()
    assert kx.ExplanationSpec.from_toml(text) == spec
    assert kx.ExplanationSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert kx.ExplanationSpec.from_toml(text).to_toml() == text
    assert kx.ExplanationSpec.from_toml(spec.to_toml("/"), folder="/") == spec


def test_a_specification_cannot_be_changed_and_holds_plain_values(folder):
    spec = kx.ExplanationSpec(
        folder / "tiny.onnx", patch=np.int64(6), stride=[2, 3], fill=np.array([0.5, 1], np.float32), targets=range(2)
    )
    assert spec.patch == (6, 6) and spec.stride == (2, 3) and spec.fill == (0.5, 1.0) and spec.targets == (0, 1)
    assert type(spec.patch[0]) is int and type(spec.fill[0]) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.patch = 7
    assert hash(spec) == hash(dataclasses.replace(spec))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fill": lambda *_: 0}, "fill must be a finite number, or one a channel: a function cannot be written"),
        ({"fill": np.zeros((3, 4, 4))}, r"fill must be .*: an array of shape \(3, 4, 4\) cannot be written"),
        ({"fill": float("nan")}, "fill must be a finite number"),
        ({"fill": 1e39}, "fill must be a finite number"),
        ({"score": lambda outputs: outputs}, "one of output, logit, margin, log-odds: a function cannot be"),
        ({"score": "logits"}, "score must be one of .* did you mean logit"),
        ({"patch": 0}, "patch must be an integer or two"),
        ({"patch": None}, "patch must be an integer or two"),
        ({"patch": (1, 2, 3)}, "patch must be an integer or two"),
        ({"patch": True}, "patch must be"),
        ({"stride": 2.0}, "stride must be"),
        ({"region": (5, 5, 5, 9)}, "region must be four integers"),
        ({"targets": ()}, "targets must be class ids"),
        ({"targets": -1}, "targets must be an integer of at least 0"),
        ({"mode": "exakt"}, "mode must be one of .*did you mean exact"),
        ({"min_ssim": 0.9}, "min_ssim has no meaning in mode='exact'"),
        ({"min_ssim": 1.1, "mode": "approximate"}, "min_ssim must be a number above 0 and at most 1, got 1.1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"strict": 1}, "strict must be true or false"),
        ({"time_budget": float("inf")}, "time_budget must be a number of seconds"),
        ({"memory_budget": 0.5}, "memory_budget must be an integer of at least 1"),
        ({"providers": "CPUExecutionProvider"}, "providers must be names of execution providers"),
        ({"model": ""}, "model must be the path of an ONNX model"),
        ({"model": "\udc80.onnx"}, "model must be text that UTF-8 can hold"),
        ({"model_sha256": "abc"}, "model_sha256 must be 64 hexadecimal digits"),
        ({"preparation": {"mean": 0.5}}, "preparation must be a Preparation or None, got dict"),
    ],
)
def test_what_cannot_be_right_or_cannot_be_saved_is_refused_in_one_line(arguments, message):
    with pytest.raises(kx.ImageError, match=message) as raised:
        kx.ExplanationSpec(**{"model": "model.onnx", **arguments})
    assert "\n" not in str(raised.value)


GOOD = {"format": "1", "model": 'path = "tiny.onnx"'}


def written(folder: Path, **tables: str) -> Path:
    """A file of these tables' lines over those of a good one."""
    lines = {**GOOD, **tables}
    text = f"format = {lines.pop('format')}\n{lines.pop('top', '')}\n" if lines["format"] else ""
    text += "".join(f"[{name}]\n{body}\n" for name, body in lines.items() if name not in ("format", "top") and body)
    path = folder / "bad.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"occlusion": "strde = 4"}, "'strde' is not a key of [occlusion]; did you mean stride?"),
        ({"model": 'path = "m"\nmode = "exact"'}, "'mode' is not a key of [model]; it belongs in [computing]"),
        ({"score": "zzz = 1"}, "'zzz' is not a key of [score]; it has: score, activation, output, targets, top"),
        ({"oclusion": "patch = 3"}, "'oclusion' is not a table of a specification; did you mean [occlusion]?"),
        ({"top": "patch = 3"}, "'patch' is not a table of a specification; it belongs in [occlusion]"),
        ({"top": "model = 3", "model": ""}, "'model' must be a table: write [model] and its keys below"),
        ({"zzz": "patch = 3"}, "'zzz' is not a table of a specification, which are: model, preparation,"),
        ({"format": ""}, "format is missing; this version reads specifications of format = 1"),
        ({"format": "2"}, "format is 2; this version reads specifications of format = 1"),
        ({"format": "true"}, "format is True; this version reads"),
        ({"model": ""}, "[model] path is missing"),
        ({"model": "path = 3"}, "[model] path must be the path of an ONNX model, got 3"),
        ({"model": 'path = "m"\nsha256 = "12"'}, "[model] sha256 must be 64 hexadecimal digits, got '12'"),
        ({"occlusion": 'patch = "16"'}, "[occlusion] patch must be an integer or two (height and width)"),
        ({"occlusion": "patch = [16, 0]"}, "[occlusion] patch must be an integer or two (height and width)"),
        ({"occlusion": "patch = 16.0"}, "[occlusion] patch must be"),
        ({"occlusion": "fill = nan"}, "[occlusion] fill must be a finite number, or one a channel, got nan"),
        ({"occlusion": "fill = []"}, "[occlusion] fill must be a finite number, or one a channel, got []"),
        ({"occlusion": "fill = 2020-01-01"}, "[occlusion] fill must be a finite number"),
        ({"occlusion": "region = [0, 0, 4]"}, "[occlusion] region must be four integers"),
        ({"preparation": "std = [0.0]"}, "[preparation] std must not be 0"),
        ({"preparation": "mean = [1.0, 2.0]"}, "[preparation] mean has 2 values"),
        ({"preparation": "scale = 0"}, "[preparation] scale must be a finite number other than 0, got 0"),
        ({"preparation": 'channel_order = "brg"'}, "[preparation] channel_order must be one of rgb, bgr, gray"),
        ({"computing": 'mode = "aproximate"'}, "[computing] mode must be one of"),
        ({"computing": "min_ssim = 0.9"}, "[computing] min_ssim has no meaning in mode='exact'"),
        ({"computing": "seed = true"}, "[computing] seed must be an integer of at least 0, got True"),
        ({"computing": f"seed = {10**30}"}, "[computing] seed must be an integer"),
        ({"computing": "time_budget = -1"}, "[computing] time_budget must be a number of seconds, got -1"),
        ({"score": "targets = [1, 2.5]"}, "[score] targets must be class ids, integers of at least 0, got [1, 2.5]"),
        ({"computing": "seed = "}, "is not valid TOML: Invalid value (at line"),
        ({"occlusion": f"fill = {'[' * 5000}"}, "is not valid TOML"),
    ],
)
def test_reading_is_strict_and_names_file_table_and_key(tmp_path, folder, tables, message):
    path = written(tmp_path, **tables)
    with pytest.raises(kx.KryptonError) as raised:
        kx.ExplanationSpec.load(path)
    assert str(raised.value).startswith(f"{path}: ") and message in str(raised.value)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
    assert message in refused("explain", "--spec", path, folder / "array.npy", "--json")


def test_a_file_that_is_written_by_hand_may_be_short(folder, tmp_path):
    path = written(tmp_path, model=f"path = '{folder / 'tiny.onnx'}'", occlusion="patch = 6\nstride = [5, 4]")
    assert kx.ExplanationSpec.load(path) == kx.ExplanationSpec(folder / "tiny.onnx", patch=6, stride=(5, 4))
    assert printed("explain", "--spec", path, folder / "array.npy")["patch"] == [6, 6]


def test_files_that_are_no_specification(tmp_path):
    for name, content, message in (
        ("binary.toml", b"\xff\xfe\0", "no UTF-8 text"), ("missing.toml", None, "no such file"),
    ):  # fmt: skip
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(kx.KryptonError, match=message):
            kx.ExplanationSpec.load(tmp_path / name)
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(kx.KryptonError, match="is not a regular file"):
            kx.ExplanationSpec.load(path)
        with pytest.raises(kx.ModelError, match="is not a regular file"):
            model_digest(path)


def test_nothing_is_written_where_something_fails(folder, tmp_path):
    spec = tmp_path / "spec.toml"
    image = folder / "array.npy"
    arguments = ["explain", folder / "tiny.onnx", image, "--json", "--save-spec"]
    assert "larger than" in refused(*arguments, spec, "--patch", 99)
    nowhere = tmp_path / "no" / "spec.toml"
    assert "there is no folder" in refused(*arguments, nowhere)
    with pytest.raises(kx.KryptonError, match="there is no folder"):
        kx.ExplanationSpec(folder / "tiny.onnx").save(nowhere)
    with pytest.raises(kx.ModelError, match="no such file"):
        kx.ExplanationSpec(tmp_path / "missing.onnx").save(spec)
    assert os.listdir(tmp_path) == []
