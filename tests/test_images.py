"""Image files: what reaches the model, and what is refused with one clear line."""

import numpy as np
import pytest
from PIL import Image

from krypton_onnx.errors import ImageError
from krypton_onnx.images import Preparation, prepare_image, read_image

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    return path


def save(path, array):
    Image.fromarray(array).save(path)
    return path


def test_pixels_become_numbers_between_0_and_1_by_default(png):
    prepared = prepare_image(read_image(png), Preparation())
    assert prepared.array.shape == (1, 3, 4, 6)
    assert prepared.array.dtype == np.float32 and prepared.array.flags.c_contiguous
    np.testing.assert_allclose(prepared.array[0], PIXELS.transpose(2, 0, 1) / 255, rtol=1e-6)
    np.testing.assert_array_equal(prepared.shown, PIXELS)


def test_mean_and_std_are_after_scaling_and_in_the_models_channel_order(png):
    preparation = Preparation(
        scale=0.5, mean=(1.0, 2.0, 3.0), std=(10.0, 20.0, 40.0), channel_order="bgr", layout="nhwc"
    )
    prepared = prepare_image(read_image(png), preparation, 3)
    expected = (PIXELS[:, :, ::-1] * 0.5 - [1.0, 2.0, 3.0]) / [10.0, 20.0, 40.0]
    assert prepared.array.shape == (1, 4, 6, 3)
    np.testing.assert_allclose(prepared.array[0], expected, rtol=1e-6)
    # The eye gets the image as it is, whatever order the model wants.
    np.testing.assert_array_equal(prepared.shown, PIXELS)


def test_the_image_is_resized_to_height_and_width(png):
    prepared = prepare_image(read_image(png), Preparation(size=(8, 5)))
    assert prepared.array.shape == (1, 3, 8, 5)
    assert prepared.shown.shape == (8, 5, 3)
    assert abs(prepared.array.mean() - PIXELS.mean() / 255) < 0.02


def test_colour_becomes_grey_and_grey_becomes_colour(png, tmp_path):
    grey = prepare_image(read_image(png), Preparation(channel_order="gray"), 1).array
    assert grey.shape == (1, 1, 4, 6)
    np.testing.assert_allclose(grey[0, 0] * 255, PIXELS @ [0.299, 0.587, 0.114], atol=1)

    path = save(tmp_path / "grey.jpg", np.full((4, 6), 90, np.uint8))
    colour = prepare_image(read_image(path), Preparation(), 3).array
    assert colour.shape == (1, 3, 4, 6)
    np.testing.assert_allclose(colour, 90 / 255, atol=1e-2)


def test_a_photograph_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    shown = prepare_image(read_image(tmp_path / "turned.png"), Preparation()).shown
    np.testing.assert_array_equal(shown, np.rot90(PIXELS, -1))


def test_sixteen_bits_need_a_stated_scale(tmp_path):
    deep = np.linspace(0, 65535, 24).reshape(4, 6).astype(np.uint16)
    source = read_image(save(tmp_path / "deep.png", deep))
    with pytest.raises(ImageError, match=r"more than 8 bits.*1/65535"):
        prepare_image(source, Preparation(channel_order="gray"), 1)
    prepared = prepare_image(source, Preparation(channel_order="gray", scale=1 / 65535), 1)
    np.testing.assert_allclose(prepared.array[0, 0], deep / 65535, atol=1e-6)
    assert prepared.shown[0, 0, 0] == 0 and prepared.shown[-1, -1, 0] == 255


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("nchw", (3, 4, 6)), ("nchw", (1, 3, 4, 6)), ("nhwc", (4, 6, 3)), ("nhwc", (1, 4, 6, 3))],
)
def test_an_array_is_taken_as_it_is(tmp_path, layout, shape):
    values = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "image.npy", values)
    preparation = Preparation(size=(4, 6), layout=layout)
    prepared = prepare_image(read_image(tmp_path / "image.npy"), preparation, 3)
    np.testing.assert_array_equal(prepared.array, values.reshape(1, *shape[-3:]).astype(np.float32))
    assert prepared.shown.shape == (4, 6, 3)
    assert prepared.shown.min() == 0 and prepared.shown.max() == 255


def test_an_array_may_have_any_number_of_channels(tmp_path):
    np.save(tmp_path / "image.npy", np.ones((5, 4, 6), np.float32))
    prepared = prepare_image(read_image(tmp_path / "image.npy"), Preparation(), 5)
    assert prepared.array.shape == (1, 5, 4, 6)
    assert prepared.shown.shape == (4, 6, 3)


def test_a_grey_array_needs_no_axis_of_channels(tmp_path):
    np.save(tmp_path / "image.npy", np.eye(4, dtype=np.float32))
    preparation = Preparation(channel_order="gray")
    assert prepare_image(read_image(tmp_path / "image.npy"), preparation, 1).array.shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    ("array", "channels", "message"),
    [
        (np.ones((4, 4, 6), np.float32), 3, r"has 4 channels where the model takes 3, as \(C, H, W\)"),
        (np.ones((3, 4, 7), np.float32), 3, "is 4 x 7 where the model takes 4 x 6; arrays are not resized"),
        (np.ones((2, 3, 4, 6), np.float32), 3, r"shape \(2, 3, 4, 6\); the model takes one image"),
        (np.full((3, 4, 6), np.nan, np.float32), 3, "NaN or infinite"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(array, channels, message):
    with pytest.raises(ImageError, match=f"^x.npy: .*{message}"):
        prepare_image(array, Preparation(size=(4, 6)), channels, "x.npy")


def test_integer_arrays_are_refused(tmp_path):
    np.save(tmp_path / "image.npy", np.ones((3, 4, 6), np.uint8))
    with pytest.raises(ImageError, match=r"image\.npy: holds uint8; .* prepared floats"):
        read_image(tmp_path / "image.npy")


@pytest.mark.parametrize(
    ("channels", "order", "message"),
    [
        (1, "rgb", "a picture of 3 channels, but the model takes 1: .* gray"),
        (3, "gray", "a picture of 1 channel, but the model takes 3: .* rgb or bgr"),
        (5, "rgb", "a picture of 3 channels, but the model takes 5: .* .npy"),
    ],
)
def test_a_wrong_number_of_channels_is_refused(png, channels, order, message):
    with pytest.raises(ImageError, match=message):
        prepare_image(read_image(png), Preparation(channel_order=order), channels)


def test_transparency_is_refused_unless_there_is_none(tmp_path):
    pixels = np.dstack([PIXELS, np.full((4, 6), 255, np.uint8)])
    opaque = prepare_image(read_image(save(tmp_path / "opaque.png", pixels)), Preparation())
    np.testing.assert_array_equal(opaque.shown, PIXELS)
    pixels[0, 0, 3] = 10
    with pytest.raises(ImageError, match="transparent pixels"):
        prepare_image(read_image(save(tmp_path / "clear.png", pixels)), Preparation())


def test_files_that_are_no_image_are_told_apart(tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png: no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ImageError, match=r"text\.png: not an image"):
        read_image(tmp_path / "text.png")
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(ImageError, match=r"text\.npy: not a \.npy array"):
        read_image(tmp_path / "text.npy")


def test_a_picture_cut_short_is_refused(png):
    png.write_bytes(png.read_bytes()[:-30])
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(png)


def test_a_file_of_several_images_is_refused(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 2 images"):
        read_image(tmp_path / "stack.tif")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": (1.0, 2.0)}, "mean has 2 values, but the model's image has 3 channels"),
        ({"std": (1.0, 2.0, 3.0), "channel_order": "gray"}, "std has 3 values, .* 1 channel:"),
        ({"std": (0.0,)}, "std must not be 0"),
    ],
)
def test_a_preparation_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ImageError, match=message):
        Preparation(**changes)
