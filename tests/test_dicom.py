"""DICOM: files made here and those that come with pydicom, against the formulas of the standard (PS3.3, C.11)."""

import io
import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from krypton_onnx.errors import ImageError
from krypton_onnx.images import Preparation, prepare_image, read_image
from krypton_onnx.images.reading import notes_of

GREY = Preparation(channel_order="gray", scale=1.0)  # pixel values as they are, 0 to 255


def make(pixels: np.ndarray, bits: int | None = None, **elements: object) -> Dataset:
    """A data set of one grey picture, of a patient whose name must not be seen."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.77777"
    data.PatientName, data.PatientID = "Secret^Patient", "ID-4711"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def read(data: Dataset, path: Path, preparation: Preparation = GREY):
    data.save_as(path, enforce_file_format=True)
    return prepare_image(read_image(path), preparation, name=str(path))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "picture.dcm"


def linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """C.11.2.1.2.1, onto 0 to 255."""
    scaled = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    scaled = np.where(values <= centre - 0.5 - (width - 1) / 2, 0, scaled)
    return np.where(values > centre - 0.5 + (width - 1) / 2, 255, scaled)


# -- grey --------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    bits=st.integers(8, 16), signed=st.booleans(), slope=st.sampled_from([1, 2, 0.5, -1.5]),
    intercept=st.sampled_from([0, -1024, 3.5]), centre=st.integers(-300, 300), width=st.integers(2, 3000),
    inverted=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_rescaled_windowed_and_inverted_by_the_formula(
    tmp_path_factory, bits, signed, slope, intercept, centre, width, inverted, seed
):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    stored = np.random.default_rng(seed).integers(low, high, (5, 6)).astype(np.int16 if signed else np.uint16)
    data = make(stored, bits, RescaleSlope=slope, RescaleIntercept=intercept, WindowCenter=centre, WindowWidth=width)
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    prepared = read(data, tmp_path_factory.mktemp("dicom") / "picture.dcm")
    expected = linear(stored * float(slope) + intercept, centre, width)
    expected = 255 - expected if inverted else expected
    np.testing.assert_allclose(prepared.array[0, 0], expected, atol=1e-3)
    np.testing.assert_array_equal(prepared.to_pixels(prepared.array)[0], prepared.shown)
    np.testing.assert_allclose(prepared.shown[:, :, 1], expected, atol=0.501)


def test_pixel_values_are_not_rounded_to_8_bits(path):
    values = read(make(np.arange(4096, dtype=np.uint16).reshape(64, 64), 12, WindowCenter=2048, WindowWidth=4096), path)
    assert len(np.unique(values.array)) == 4096
    assert values.array.min() == 0 and values.array.max() == 255


def test_the_first_of_several_windows_unless_another_is_declared(path):
    stored = np.arange(30, dtype=np.int16).reshape(5, 6) * 50 - 500
    data = make(stored, WindowCenter=[40, -600], WindowWidth=[400, 1500])
    prepared = read(data, path)
    np.testing.assert_allclose(prepared.array[0, 0], linear(stored, 40, 400), atol=1e-3)
    assert prepared.steps[:2] == (
        "6 x 5 px, DICOM, MONOCHROME2, 16 bits", "the file's own window: centre 40, width 400 (linear)"
    )  # fmt: skip
    lung = read(data, path, Preparation(channel_order="gray", scale=1.0, window=(-600, 1500)))
    np.testing.assert_allclose(lung.array[0, 0], np.clip((stored + 1350) * (255 / 1500), 0, 255), atol=1e-3)
    assert lung.steps[1] == "window centre -600, width 1500 (values -1350 to 150)"
    data.PhotometricInterpretation = "MONOCHROME1"
    inverted = read(data, path, Preparation(channel_order="gray", scale=1.0, window=(-600, 1500)))
    np.testing.assert_allclose(inverted.array, 255 - lung.array, atol=1e-3)
    assert inverted.steps[2] == "inverted (MONOCHROME1)"


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        ("LINEAR_EXACT", lambda x: np.clip((x - 20) / 60 + 0.5, 0, 1) * 255),
        ("SIGMOID", lambda x: 255 / (1 + np.exp(-4 * (x - 20) / 60))),
    ],
)
def test_the_files_own_function_of_the_window(path, function, formula):
    stored = np.arange(-60, 60, 2, dtype=np.int16).reshape(6, 10)
    data = make(stored, WindowCenter=20, WindowWidth=60, VOILUTFunction=function)
    np.testing.assert_allclose(read(data, path).array[0, 0], formula(stored.astype(float)), atol=1e-3)


@pytest.mark.parametrize(("entries", "bits"), [(4096, 8), (4096, 12), (100, 16), (256, 8)])
def test_a_voi_look_up_table_counts_before_a_window(path, entries, bits):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 4096, (7, 9)).astype(np.uint16)
    table = rng.integers(0, 2**bits, entries)
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [entries, 10, bits], [int(value) for value in table]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    prepared = read(make(stored, 12, VOILUTSequence=[item], WindowCenter=5, WindowWidth=10), path)
    expected = table[np.clip(stored.astype(int) - 10, 0, entries - 1)] * (255 / (2**bits - 1))
    np.testing.assert_allclose(prepared.array[0, 0], expected, atol=1e-3)
    assert "look-up table" in prepared.steps[1]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_voi_look_up_table_that_begins_below_0(path, syntax):
    """A file of implicit types does not say that its first value is a signed number."""
    stored = np.random.default_rng(0).integers(0, 2000, (7, 9)).astype(np.uint16)
    table = np.linspace(0, 4095, 2000).astype(int)
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [2000, -1024, 12])
    item.add_new("LUTData", "US", table.tolist())
    data = make(stored, 12, VOILUTSequence=[item], RescaleSlope=1, RescaleIntercept=-1024)
    data.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_allclose(read(data, path).array[0, 0], table[stored] * (255 / 4095), atol=1e-3)


def test_a_modality_look_up_table(path):
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 0, 8], [200, 100, 50, 0]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    item.ModalityLUTType = "US"
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    prepared = read(make(stored, 12, ModalityLUTSequence=[item]), path)
    np.testing.assert_allclose(prepared.array[0, 0], [[200, 100], [50, 0]])


def test_without_a_window_8_bits_are_pixel_values_and_more_bits_are_refused(path):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (read(make(stored), path).array[0, 0] == stored).all()
    np.testing.assert_allclose(read(make(stored // 4, 6), path).array[0, 0], (stored // 4) * (255 / 63), atol=1e-4)
    data = make(stored.astype(np.uint16) + 7, 12, RescaleSlope=2, RescaleIntercept=-1000)
    with pytest.raises(ImageError, match=r"e\.dcm: .*no window, and its values run from -986 to -476: .*--window"):
        read(data, path)
    window = Preparation(channel_order="gray", scale=1.0, window=(-731, 510))
    np.testing.assert_allclose(read(data, path, window).array[0, 0], stored, atol=1e-3)
    data.WindowCenter, data.WindowWidth = 100, 0  # no window of DICOM
    with pytest.raises(ImageError, match="names no window"):
        read(data, path)


def test_floats_need_a_window(path):
    data = make(np.zeros((2, 3), np.uint16))
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    values = np.array([[-1.5, 0, 0.5], [1, 2, 4]], np.float32)
    data.FloatPixelData, data.BitsAllocated = values.tobytes(), 32
    with pytest.raises(ImageError, match=r"names no window, and its values run from -1\.5 to 4"):
        read(data, path)
    prepared = read(data, path, Preparation(channel_order="gray", scale=1.0, window=(1, 2)))
    np.testing.assert_allclose(prepared.array[0, 0], np.clip(values / 2, 0, 1) * 255, atol=1e-4)


def test_an_enhanced_file_of_one_frame_says_it_in_functional_groups(path):
    stored = np.arange(12, dtype=np.int16).reshape(3, 4) * 100
    shared, frame, rescale, window = Dataset(), Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -1024, "HU"
    window.WindowCenter, window.WindowWidth = 40, 400
    shared.PixelValueTransformationSequence, frame.FrameVOILUTSequence = [rescale], [window]
    data = make(stored, NumberOfFrames=1, SharedFunctionalGroupsSequence=[shared])
    data.PerFrameFunctionalGroupsSequence = [frame]
    expected = linear(stored * 2.0 - 1024, 40, 400)
    np.testing.assert_allclose(read(data, path).array[0, 0], expected, atol=1e-3)


def test_a_crop_of_the_picture_keeps_what_its_values_mean(path):
    stored = np.arange(64, dtype=np.int16).reshape(8, 8) * 9
    make(stored, WindowCenter=200, WindowWidth=300).save_as(path, enforce_file_format=True)
    cropped = prepare_image(read_image(path).crop((1, 2, 6, 7)), GREY)
    np.testing.assert_allclose(cropped.array[0, 0], linear(stored, 200, 300)[2:7, 1:6], atol=1e-3)


def test_grey_for_a_model_of_three_channels(path):
    stored = np.arange(64, dtype=np.uint8).reshape(8, 8)
    prepared = read(make(stored), path, Preparation.preset("unit"))
    np.testing.assert_allclose(prepared.array, np.broadcast_to(stored / 255, (1, 3, 8, 8)), atol=1e-6)


# -- colour, and the files that come with pydicom ----------------------------------------------------------------------


def bundled(name: str) -> str:
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"this pydicom comes without {name}")
    return found


def test_colour_of_8_and_of_16_bits(path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    raw = Preparation.preset("raw")
    np.testing.assert_array_equal(read(make(pixels), path, raw).array[0], pixels.transpose(2, 0, 1))
    deep = pixels.astype(np.uint16) * 257
    np.testing.assert_array_equal(read(make(deep), path, raw).array[0], pixels.transpose(2, 0, 1))
    with pytest.raises(ImageError, match="its pixels have 8 bits"):
        read(make(pixels), path, Preparation(window=(40, 400)))


def test_ybr_is_turned_to_rgb(path):
    """By the equations of C.7.6.3.1.2."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    weights = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    ybr = (pixels @ weights.T + [0, 128, 128]).round().clip(0, 255).astype(np.uint8)
    prepared = read(make(ybr, PhotometricInterpretation="YBR_FULL"), path, Preparation.preset("raw"))
    np.testing.assert_allclose(prepared.array[0], pixels.transpose(2, 0, 1), atol=2)
    assert prepared.steps[0] == "4 x 5 px, RGB, DICOM, YBR_FULL, 8 bits"


def test_a_palette_is_looked_up():
    source = bundled("examples_palette.dcm")
    prepared = prepare_image(read_image(source), Preparation.preset("raw"))
    data = pydicom.dcmread(source)
    tables = [getattr(data, f"{colour}PaletteColorLookupTableData") for colour in ("Red", "Green", "Blue")]
    indices = data.pixel_array
    for channel, table in enumerate(tables):
        entries = np.frombuffer(table, "<u2" if data.RedPaletteColorLookupTableDescriptor[2] == 16 else np.uint8)
        bits = data.RedPaletteColorLookupTableDescriptor[2]
        expected = entries[indices] * (255 / (2**bits - 1))
        np.testing.assert_allclose(prepared.array[0, channel], expected, atol=0.51)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"])
def test_other_transfer_syntaxes_give_the_same(name):
    expected, actual = (prepare_image(read_image(bundled(one)), GREY).array for one in ("MR_small.dcm", name))
    np.testing.assert_array_equal(actual, expected)
    assert np.ptp(actual) > 100


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_several_frames_are_refused_with_what_to_do(path):
    data = make(np.zeros((8, 4), np.uint8), NumberOfFrames=2)
    data.Rows = 4
    with pytest.raises(ImageError, match=r"picture\.dcm: holds 2 frames; save the one to explain as a file by itself"):
        read(data, path)


def test_a_compressed_file_without_a_decoder(monkeypatch):
    source = bundled("MR_small_RLE.dcm")
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda uid: type("Missing", (), {"is_available": False}))
    with pytest.raises(ImageError, match=r"its pixels are compressed \(RLE Lossless\), .*pip install python-gdcm"):
        read_image(source)


def test_a_decoder_that_cannot_do_it_is_the_same(monkeypatch):
    def refuses(*_, **__):
        raise RuntimeError("Unable to decompress 'RLE Lossless' of Secret^Patient")

    source = bundled("MR_small_RLE.dcm")
    monkeypatch.setattr("pydicom.pixels.pixel_array", refuses)
    with pytest.raises(ImageError, match=r"compressed \(RLE Lossless\)") as raised:
        read_image(source)
    assert "Secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PhotometricInterpretation": "HSV"}, "its colours are HSV, which is not read here"),
        ({"Rows": 20000, "Columns": 20000}, "has 20000 x 20000 pixels"),
        ({"Rows": 9}, r"cannot be read \(ValueError\)"),
        ({"BitsAllocated": 12}, r"cannot be read \("),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_in_one_line(path, changes, message):
    with pytest.raises(ImageError, match=rf"picture\.dcm: .*{message}") as raised:
        read(make(np.zeros((4, 5), np.uint8), **changes), path)
    assert "\n" not in str(raised.value) and "Secret" not in str(raised.value)


def test_what_is_no_picture_is_refused(path, tmp_path):
    data = make(np.zeros((4, 5), np.uint8))
    del data.PixelData
    with pytest.raises(ImageError, match="holds no DICOM picture"):
        read(data, path)
    for content in (b"", b"not a DICOM file at all", bytes(128) + b"DICM" + bytes(50), b"\xff" * 5000):
        path.write_bytes(content)
        with pytest.raises(ImageError, match=r"picture\.dcm: ") as raised:
            read_image(path)
        assert "\n" not in str(raised.value)
    make(np.arange(2000, dtype=np.uint16).reshape(50, 40)).save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError):
            prepare_image(read_image(path), GREY)


def test_without_pydicom_the_extra_is_named(path, monkeypatch):
    make(np.zeros((4, 5), np.uint8)).save_as(path, enforce_file_format=True)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"is a DICOM file; to read these: pip install 'krypton-onnx\[dicom\]'"):
        read_image(path)


# -- names and privacy -------------------------------------------------------------------------------------------------


def test_a_dicom_file_is_known_by_its_magic_or_by_its_suffix(tmp_path):
    stored = np.arange(20, dtype=np.uint8).reshape(4, 5)
    for name in ("IM00001", "picture.png", "picture.DCM"):
        assert (read(make(stored), tmp_path / name).array[0, 0] == stored).all()
    buffer = io.BytesIO()
    make(stored).save_as(buffer, enforce_file_format=True)
    bare = buffer.getvalue()
    # Without its first 132 bytes and the group that says how it is written, as some devices store it.
    length = pydicom.dcmread(io.BytesIO(bare)).file_meta.FileMetaInformationGroupLength
    (tmp_path / "bare.dcm").write_bytes(bare[132 + 12 + length :])
    assert (prepare_image(read_image(tmp_path / "bare.dcm"), GREY).array[0, 0] == stored).all()


def test_nothing_of_a_patient_is_in_memory_steps_or_messages(path, caplog, capsys, recwarn):
    secrets = ("Secret", "4711", "77777")
    data = make(np.arange(20, dtype=np.uint16).reshape(4, 5), WindowCenter=9, WindowWidth=9)
    with caplog.at_level(logging.DEBUG):
        prepared = read(data, path)
    picture = read_image(path)
    seen = [*prepared.steps, repr(picture.info), repr(vars(notes_of(picture).grey)), str(notes_of(picture).grey.window)]
    data.PatientBirthDate, data.WindowWidth = "Secret", "9"
    data.Rows = 1000
    data.save_as(path, enforce_file_format=True)
    with pytest.raises(ImageError) as raised:
        read_image(path)
    printed = capsys.readouterr()
    seen += [str(raised.value), printed.out, printed.err, *(str(one.message) for one in recwarn if one.lineno is None)]
    assert not [secret for secret in secrets for text in seen if secret in text]


def test_no_file_of_pydicoms_ends_in_anything_but_a_picture_or_one_line():
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    files = sorted(folder.glob("*.dcm"))
    ends = {"read": 0, "refused": 0}
    for file in files:
        try:
            picture = read_image(file)
            order = "gray" if picture.mode == "F" else "rgb"
            array = prepare_image(picture, Preparation(channel_order=order, scale=1.0), name=str(file)).array
            assert array.min() >= 0 and array.max() <= 255
            ends["read"] += 1
        except ImageError as error:
            assert str(error).startswith(str(file)) and "\n" not in str(error)
            ends["refused"] += 1
    if files:
        assert ends["read"] > 15 and ends["refused"] > 5


def palette_of(words: list[int]) -> Dataset:
    """A picture in a palette whose red has these segments."""
    data = make(np.zeros((2, 3), np.uint8))
    data.PhotometricInterpretation = "PALETTE COLOR"
    for primary in ("Red", "Green", "Blue"):
        setattr(data, f"{primary}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(data, f"Segmented{primary}PaletteColorLookupTableData", np.array(words, "<u2").tobytes())
    return data


@pytest.mark.parametrize(
    "words",
    [
        [0, 1, 0, *[1, 65535, 7] * 2],  # more entries than a palette has
        [0, 1, 0, 1, 255, 7, 2, 1, 0, 0],  # one that repeats others
    ],
)
def test_a_palette_that_unfolds_is_refused_before_it_does(tmp_path: Path, words: list[int]) -> None:
    palette_of(words).save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    with pytest.raises(ImageError, match="its palette has more than 65536 entries"):
        read_image(tmp_path / "scan.dcm")


def test_a_palette_in_segments_is_read(tmp_path: Path) -> None:
    palette_of([0, 1, 0, 1, 255, 65280]).save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    assert read_image(tmp_path / "scan.dcm").mode == "RGB"


def test_a_compressed_picture_larger_than_the_file_says_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    inside = io.BytesIO()
    Image.new("L", (64, 48)).save(inside, "JPEG")
    for columns, honest in ((64, True), (2, False)):
        data = make(np.zeros((48, columns), np.uint8))
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.PixelData = encapsulate([inside.getvalue()])
        data["PixelData"].VR = "OB"
        data.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
        if honest:
            assert read_image(tmp_path / "scan.dcm").size == (64, 48)
        else:
            with pytest.raises(ImageError, match="says 2 x 48 pixels, and holds 64 x 48"):
                read_image(tmp_path / "scan.dcm")
