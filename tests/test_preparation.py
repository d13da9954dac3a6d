"""What a picture becomes, against a reference written with NumPy; presets, words, files; and the way back."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from krypton_onnx.errors import ImageError
from krypton_onnx.images import prepare_image, read_image
from krypton_onnx.images.fitting import place
from krypton_onnx.images.preparation import FIELDS, Preparation
from krypton_onnx.images.presets import PRESETS

FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers

sides = st.integers(1, 40)
filters = st.sampled_from(sorted(FILTERS))


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def resized(image: Image.Image, height: int, width: int, resample: str) -> np.ndarray:
    return np.asarray(image.resize((width, height), FILTERS[resample])).astype(float)


# -- where the picture goes --------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(sides, sides, st.tuples(sides, sides), st.integers(0, 30), filters)
def test_resize_and_centre_crop_are_those_of_torchvision(height, width, size, more, resample):
    """Resize(n): the shorter side becomes n, the longer int(n * longer / shorter). CenterCrop: from half the rest."""
    side = max(size) + more
    preparation = Preparation(size, scale=1.0, fit="crop", resize=side, resample=resample)
    array = prepare_image(picture(height, width), preparation).array[0]
    new = (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
    pixels = resized(picture(height, width), *new, resample)
    top, left = (round((have - want) / 2.0) for have, want in zip(new, size, strict=True))
    np.testing.assert_array_equal(array, pixels[top : top + size[0], left : left + size[1]].transpose(2, 0, 1))


@settings(deadline=None)
@given(sides, sides, st.tuples(sides, sides), filters, st.floats(0, 255))
def test_a_letterbox_holds_the_whole_picture_at_its_centre(height, width, size, resample, padding):
    preparation = Preparation(size, scale=1.0, fit="pad", resample=resample, padding=padding)
    pixels = prepare_image(picture(height, width), preparation).array[0].transpose(1, 2, 0)
    factor = min(size[0] / height, size[1] / width)
    inside = place((height, width), preparation, 10**9).resized
    assert inside[0] == size[0] or inside[1] == size[1]
    for have, want in zip(inside, (height * factor, width * factor), strict=True):
        assert abs(have - want) <= 1
    top, left = (size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2
    held = pixels[top : top + inside[0], left : left + inside[1]]
    np.testing.assert_array_equal(held, resized(picture(height, width), *inside, resample))
    around = np.ones(size, bool)
    around[top : top + inside[0], left : left + inside[1]] = False
    assert (pixels[around] == round(padding)).all()


@settings(deadline=None)
@given(sides, sides, st.tuples(sides, sides))
def test_a_crop_without_resize_is_the_largest_that_covers(height, width, size):
    placement = place((height, width), Preparation(size, fit="crop"), 10**9)
    assert placement.resized[0] >= size[0] and placement.resized[1] >= size[1]
    assert placement.resized[0] == size[0] or placement.resized[1] == size[1]
    factor = max(size[0] / height, size[1] / width)
    assert abs(placement.resized[0] - height * factor) <= 1 and abs(placement.resized[1] - width * factor) <= 1


@settings(deadline=None)
@given(sides, sides, st.tuples(sides, sides), filters)
def test_a_stretched_picture_is_resized_at_once(height, width, size, resample):
    preparation = Preparation(size, scale=1.0, resample=resample)
    array = prepare_image(picture(height, width), preparation).array[0]
    np.testing.assert_array_equal(array, resized(picture(height, width), *size, resample).transpose(2, 0, 1))


def test_without_a_size_the_picture_keeps_its_own_or_its_shorter_side_is_resized():
    assert prepare_image(picture(20, 31), Preparation(fit="pad")).array.shape == (1, 3, 20, 31)
    assert prepare_image(picture(20, 31), Preparation(fit="crop")).array.shape == (1, 3, 20, 31)
    assert prepare_image(picture(20, 31), Preparation(fit="crop", resize=10)).array.shape == (1, 3, 10, 15)


def test_what_cannot_be_cut_out_or_would_be_too_large_is_refused():
    with pytest.raises(ImageError, match=r"^x: has 30 x 30 px where its shorter side .* no 60 x 20 px .* larger"):
        prepare_image(picture(9, 9), Preparation((20, 60), fit="crop", resize=30), name="x")
    with pytest.raises(ImageError, match=r"^x: would be resized to 600000 x 300 px, more pixels than are read here"):
        prepare_image(picture(1, 2000), Preparation(fit="crop", resize=300), name="x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (float("nan"),)}, "mean must be finite numbers"),
        ({"mean": 0.5}, "mean must be finite numbers"),
        ({"size": (0, 4)}, "size must be two integers"),
        ({"size": 224}, "size must be two integers"),
        ({"scale": 0}, "scale must be a finite number other than 0"),
        ({"fit": "squash"}, "fit must be one of stretch, crop, pad"),
        ({"resample": "cubic"}, "resample must be one of .*; did you mean bicubic?"),
        ({"resize": 256}, "resize has no meaning with fit stretch"),
        ({"fit": "crop", "resize": 200, "size": (224, 224)}, "resize 200 is smaller than the 224 x 224"),
        ({"padding": 300}, "padding must be a pixel value"),
        ({"window": (40, 0)}, "window has the width 0"),
        ({"window": (40,)}, "window must be two finite numbers"),
        ({"layout": "chw"}, "layout must be one of nchw, nhwc"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_by_name(changes, message):
    with pytest.raises(ImageError, match=f"^{message}"):
        Preparation(**changes)


# -- presets -----------------------------------------------------------------------------------------------------------


def test_imagenet_is_the_usual_pipeline_of_torchvision():
    """Resize(256), CenterCrop(224), ToTensor, Normalize, written out."""
    image = picture(300, 433)
    pixels = np.asarray(image.resize((int(256 * 433 / 300), 256), 2))
    left = round((pixels.shape[1] - 224) / 2)
    expected = pixels[16:240, left : left + 224].astype(np.float32).transpose(2, 0, 1) / 255
    expected = (expected - np.array([[[0.485]], [[0.456]], [[0.406]]])) / np.array([[[0.229]], [[0.224]], [[0.225]]])
    prepared = prepare_image(image, Preparation.preset("imagenet"), 3)
    np.testing.assert_allclose(prepared.array[0], expected, atol=1e-6)
    assert prepared.steps == (
        "433 x 300 px, RGB",
        "shorter side to 256 px: 369 x 256 px (bilinear)",
        "centre 224 x 224 px cut out",
        "(pixel / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)",
        "channels first",
    )


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("unit", [0, 0, 0], [1, 1, 1]),
        ("raw", [0, 0, 0], [255, 255, 255]),
        ("tensorflow", [-1, -1, -1], [1, 1, 1]),
        ("inception", [-1, -1, -1], [1, 1, 1]),
        ("torchxrayvision", [-1024], [1024]),
        ("yolo", [0, 0, 0], [1, 1, 1]),
        ("caffe", [-104.007, -116.669, -122.679], [150.993, 138.331, 132.321]),
        ("vgg", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
        ("mnist", [-0.42421296], [2.8214867]),
    ],
)
def test_black_and_white_of_every_preset(name, black, white):
    preparation = Preparation.preset(name)
    np.testing.assert_allclose(preparation.to_model(0), black, rtol=1e-6)
    np.testing.assert_allclose(preparation.to_model([255, 255, 255]), white, rtol=1e-6)
    for value, numbers in ((0, black), (255, white)):
        image = Image.new("RGB", (30, 20), (value,) * 3)
        array = prepare_image(image, dataclasses.replace(preparation, size=(10, 15), resize=None)).array
        np.testing.assert_allclose(array[0].transpose(1, 2, 0), np.full((10, 15, len(numbers)), numbers), rtol=1e-5)


def test_red_goes_where_the_model_has_it():
    red = [255, 0, 0]
    np.testing.assert_array_equal(Preparation(scale=1.0).to_model(red), [255, 0, 0])
    np.testing.assert_array_equal(Preparation(scale=1.0, channel_order="bgr").to_model(red), [0, 0, 255])
    np.testing.assert_allclose(Preparation(scale=1.0, channel_order="gray").to_model(red), [76.245])
    assert Preparation().to_model(np.zeros((4, 5, 3))).shape == (4, 5, 3)
    with pytest.raises(ImageError, match="one value or three"):
        Preparation().to_model([1, 2])


def test_every_preset_says_what_it_is_and_is_found_by_name():
    for name, preset in PRESETS.items():
        assert Preparation.preset(name) is preset.preparation
        assert preset.meaning and preset.source and "\n" not in preset.meaning + preset.source
    with pytest.raises(ImageError, match=r"'imagnet' is not a preset; did you mean imagenet\?"):
        Preparation.preset("imagnet")
    with pytest.raises(ImageError, match="'zzz' is not a preset; there are: imagenet, caffe,"):
        Preparation.preset("zzz")


def test_a_size_of_its_own_yields_to_the_models_and_keeps_the_ratio():
    imagenet = Preparation.preset("imagenet")
    wide = imagenet.adapted(3, (299, 299), "nhwc")
    assert (wide.size, wide.resize, wide.layout) == ((299, 299), 342, "nhwc")  # as torchvision's Inception has it
    assert imagenet.adapted(3, None, "nchw") == imagenet
    assert imagenet.adapted(3, (224, 224), "nchw") == imagenet
    assert Preparation.preset("clip").adapted(3, (336, 336), "nchw").resize == 336
    assert Preparation(fit="crop", resize=50).adapted(3, (40, 60), "nchw").resize == 50


def test_one_channel_makes_grey_of_what_is_the_same_for_all_channels():
    assert Preparation.preset("unit").adapted(1, (28, 28), "nchw").channel_order == "gray"
    assert Preparation.preset("unit").adapted(None, (28, 28), "nchw").channel_order == "rgb"
    assert Preparation.preset("imagenet").adapted(1, (28, 28), "nchw").channel_order == "rgb"  # refused when it is used


# -- words and files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preparation", "words"),
    [
        (Preparation(), "size as it is; RGB; pixel / 255; channels first"),
        (
            Preparation((10, 20), scale=1.0, layout="nhwc"),
            "20 x 10 px, stretched (bilinear); RGB; pixel; channels last",
        ),
        (Preparation(mean=(-0.5,), std=(2.0,)), "size as it is; RGB; (pixel / 255 - (-0.5)) / 2; channels first"),
        (Preparation(scale=0.00392), "size as it is; RGB; pixel * 0.00392; channels first"),
        (Preparation(std=(2.0,), scale=1.0, channel_order="gray"), "size as it is; grey; pixel / 2; channels first"),
        (
            Preparation((9, 9), fit="crop", resample="lanczos", window=(40, 400)),
            "window centre 40, width 400 (values -160 to 240); covering it, centre 9 x 9 px (lanczos); RGB; "
            "pixel / 255; channels first",
        ),
    ],
)
def test_a_preparation_in_words(preparation, words):
    assert preparation.describe() == words


def test_every_step_is_told(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(40, 60).save(tmp_path / "turned.jpg", exif=exif)
    preparation = Preparation((20, 20), fit="pad", channel_order="bgr", padding=114, layout="nhwc")
    assert prepare_image(read_image(tmp_path / "turned.jpg"), preparation).steps == (
        "40 x 60 px, RGB, turned upright",
        "resized to 13 x 20 px (bilinear)",
        "padded to 20 x 20 px with pixel value 114",
        "BGR (blue first)",
        "pixel / 255",
        "channels last",
    )
    grey = prepare_image(picture(8, 8), Preparation((4, 6), channel_order="gray")).steps
    assert grey[1:3] == ("turned to grey", "resized to 6 x 4 px, aspect not kept (bilinear)")
    assert "grey in all three channels" in prepare_image(Image.new("I;16", (4, 4)), Preparation(scale=1.0)).steps
    array = prepare_image(np.ones((3, 4, 6), np.float32), Preparation())
    assert array.steps == ("an array of 6 x 4 px and 3 channels, taken as it is",)


def test_a_preparation_is_a_file_and_a_table_of_a_specification(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('size = [20, 30]\nfit = "crop"\nresize = 25\nmean = [0.5]\nwindow = [40, 400]\n')
    expected = Preparation((20, 30), (0.5,), fit="crop", resize=25, window=(40, 400))
    assert Preparation.load(path) == expected
    path.write_text(f"format = 1\n[model]\npath = 'm'\n[preparation]\n{path.read_text()}")
    assert Preparation.load(path) == expected
    assert Preparation.from_dict(json.loads(expected.to_json())) == expected
    assert Preparation().to_dict() == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise = [1, 2]", "'sise' is not a key of a preparation; did you mean size?"),
        ("zzz = 1", "'zzz' is not a key of a preparation; there are: size, mean, std,"),
        ("size = 3", "size must be two integers"),
        ("preparation = 3", "'preparation' must be a table"),
        ("size = ", "is not valid TOML"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(ImageError) as raised:
        Preparation.load(path)
    assert str(raised.value).startswith(f"{path}: {message}") and "\n" not in str(raised.value)
    for other, words in ((tmp_path, "not a regular file"), (tmp_path / "none.toml", "no such file")):
        with pytest.raises(ImageError, match=words):
            Preparation.load(other)


def test_every_field_can_be_read():
    assert set(FIELDS) == {field.name for field in dataclasses.fields(Preparation)}


# -- and back, for the eye ---------------------------------------------------------------------------------------------

preparations = st.builds(
    lambda order, values, **others: Preparation(
        channel_order=order,
        mean=tuple(value[0] for value in values)[: 1 if order == "gray" else 3],
        std=tuple(value[1] for value in values)[: 1 if order == "gray" else 3],
        **others,
    ),
    order=st.sampled_from(["rgb", "bgr", "gray"]),
    values=st.lists(st.tuples(st.floats(-200, 200), st.floats(0.01, 300)), min_size=3, max_size=3),
    scale=st.none() | st.floats(0.05, 10),
    layout=st.sampled_from(["nchw", "nhwc"]),
)


@settings(deadline=None)
@given(preparations, st.integers(0, 100))
def test_the_models_numbers_become_the_pixels_that_it_saw(preparation, seed):
    image = picture(5, 7, seed)
    prepared = prepare_image(image, preparation)
    first = prepared.array if preparation.layout == "nchw" else prepared.array.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(prepared.to_pixels(first)[0], prepared.shown)
    expected = image.convert("L").convert("RGB") if preparation.channel_order == "gray" else image
    np.testing.assert_array_equal(prepared.shown, np.asarray(expected))
    # What to_model makes of pixels is what the model sees of them, and a fill beyond white is white.
    pixels = np.asarray(image.convert("L"))[:, :, None] if preparation.channel_order == "gray" else np.asarray(image)
    np.testing.assert_allclose(preparation.to_model(pixels).transpose(2, 0, 1), first[0], rtol=1e-4, atol=1e-4)
    beyond = preparation.to_model(1000.0).astype(np.float32).reshape(1, -1, 1, 1)
    assert (prepared.to_pixels(beyond) == 255).all()


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 100))
def test_arrays_are_shown_by_one_stretch(channels, seed):
    array = np.random.default_rng(seed).normal(scale=3, size=(1, channels, 6, 4)).astype(np.float32)
    prepared = prepare_image(array, Preparation())
    np.testing.assert_array_equal(prepared.to_pixels(array)[0], prepared.shown)
    seen = array[0] if channels == 3 else array[0].mean(axis=0, dtype=np.float64)
    assert prepared.shown.min() == 0 and prepared.shown.max() == 255
    middle = np.full((1, channels, 2, 2), (float(seen.min()) + float(seen.max())) / 2, np.float32)
    assert set(prepared.to_pixels(middle).ravel()) <= {127, 128}


def test_a_deep_picture_is_shown_by_one_stretch_and_windowed_where_that_is_said():
    values = np.linspace(1000, 3000, 48).reshape(6, 8).astype(np.uint16)
    deep = Image.fromarray(values)
    prepared = prepare_image(deep, Preparation(scale=1 / 65535, mean=(0.5,), std=(0.25,), channel_order="gray"))
    np.testing.assert_array_equal(prepared.to_pixels(prepared.array)[0], prepared.shown)
    assert prepared.shown.min() == 0 and prepared.shown.max() == 255

    windowed = prepare_image(deep, Preparation(window=(2000, 1000), channel_order="gray"))
    expected = np.clip((values.astype(float) - 1500) / 1000, 0, 1)
    np.testing.assert_allclose(windowed.array[0, 0], expected, atol=1e-6)
    assert windowed.steps[1] == "window centre 2000, width 1000 (values 1500 to 2500)"
    np.testing.assert_array_equal(windowed.to_pixels(windowed.array)[0], windowed.shown)
    with pytest.raises(ImageError, match=r"^x: a window is given, but its pixels have 8 bits"):
        prepare_image(picture(4, 4), Preparation(window=(2000, 1000)), name="x")


# -- files of more than one picture ------------------------------------------------------------------------------------


def test_of_a_phones_photograph_with_a_preview_the_photograph_is_read(tmp_path):
    path = tmp_path / "photo.jpg"
    picture(24, 32).save(path, format="MPO", save_all=True, append_images=[picture(6, 8, 1)], quality=95)
    with Image.open(path) as file:
        assert file.format == "MPO" and file.n_frames == 2
    prepared = prepare_image(read_image(path), Preparation())
    assert prepared.shown.shape == (24, 32, 3)
    assert prepared.steps[0] == "32 x 24 px, RGB, the first of 2 images in the file"
    picture(24, 32).save(tmp_path / "alone.jpg", quality=95)
    alone = prepare_image(read_image(tmp_path / "alone.jpg"), Preparation())
    np.testing.assert_array_equal(prepared.shown, alone.shown)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_is_turned_upright_and_that_is_told(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(6, 9).save(tmp_path / f"p.{suffix}", exif=exif)
    prepared = prepare_image(read_image(tmp_path / f"p.{suffix}"), Preparation())
    upright = prepared.shown.shape[:2] == ((9, 6) if orientation in (6, 8) else (6, 9))
    assert upright and ("turned upright" in prepared.steps[0]) == (orientation != 1)
