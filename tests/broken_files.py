"""Broken models: files that are none, and external data in impossible places."""

import os
from os import symlink
from pathlib import Path

import numpy as np
from broken_base import (
    BROKEN,
    EITHER,
    HUGE,
    SOUND,
    add_case,
    file_of,
    path_case,
    plain,
)
from onnx import TensorProto

# -- files ------------------------------------------------------------------------------------------------

_CONTENTS = {
    "an_empty_file": b"",
    "text": b"this is a note\n" * 40,
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "a_picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a_zip": b"PK\x03\x04" + bytes(60),
    "noise": np.random.default_rng(0).bytes(3000),
    "a_length_beyond_the_end": b"\x3a\xff\xff\xff\xff\x0f",
    "groups_in_groups": b"\x3b" * 5000,
    "messages_in_messages": b"\x3a\x80\x01\x0a\x7e" * 30,
}
for _name, _content in _CONTENTS.items():
    add_case(BROKEN, _name, lambda model, content=_content: content)
for _share in (1, 10, 50, 90, 99):
    add_case(
        BROKEN, f"cut_to_{_share}_percent",
        lambda model, share=_share: model.SerializeToString()[: max(1, model.ByteSize() * share // 100)],
    )  # fmt: skip
add_case(EITHER, "twice", lambda model: model.SerializeToString() * 2)
add_case(EITHER, "with_a_tail", lambda model: model.SerializeToString() + b"\xa2\x06\x03abc")


@path_case(BROKEN)
def a_folder(folder: Path) -> Path:
    (folder / "model.onnx").mkdir()
    return folder / "model.onnx"


@path_case(BROKEN)
def nothing(folder: Path) -> Path:
    return folder / "model.onnx"


@path_case(BROKEN)
def a_pipe(folder: Path) -> Path:

    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


@path_case(BROKEN)
def an_endless_device(folder: Path) -> Path:
    return Path("/dev/zero")


@path_case(BROKEN)
def a_link_to_itself(folder: Path) -> Path:
    symlink("model.onnx", folder / "model.onnx")
    return folder / "model.onnx"


@path_case(BROKEN)
def a_name_that_is_too_long(folder: Path) -> Path:
    return folder / ("x" * 5000 + ".onnx")


@path_case(BROKEN)
def json_by_its_name(folder: Path) -> Path:
    (folder / "model.json").write_text('{"no": "model"')
    return folder / "model.json"


@path_case(BROKEN)
def text_by_its_name(folder: Path) -> Path:
    (folder / "model.onnxtxt").write_text("agraph (float[N] x => ")
    return folder / "model.onnxtxt"


# -- external data ----------------------------------------------------------------------------------------

def _external(folder: Path, location: str, offset: str = "0", length: str = "", write: bool = True) -> Path:
    """The first weight is in another file, of these words."""
    inner = folder / "inner"
    inner.mkdir()
    model = plain()
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    if write:
        target = Path(location) if location.startswith("/") else inner / location
        (inner / "down").mkdir()  # for the path that goes through it
        target.write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length or str(len(data))}.items():
        tensor.external_data.add(key=key, value=value)
    return file_of(inner, model)


path_case(SOUND)(lambda folder: _external(folder, "weights.bin"))
SOUND["external_data"] = SOUND.pop("<lambda>")
for _name, _make in {
    "above": lambda folder: _external(folder, "../weights.bin"),
    "above_in_disguise": lambda folder: _external(folder, "down/../../weights.bin"),
    "absolute": lambda folder: _external(folder, str(folder / "weights.bin")),
    "missing": lambda folder: _external(folder, "weights.bin", write=False),
    "a_folder": lambda folder: _external(folder, ".", write=False),
    "a_device": lambda folder: _external(folder, "/dev/zero", write=False),
    "of_no_name": lambda folder: _external(folder, "", write=False),
    "beyond_the_end": lambda folder: _external(folder, "weights.bin", offset="64"),
    "from_minus_4": lambda folder: _external(folder, "weights.bin", offset="-4"),
    "from_words": lambda folder: _external(folder, "weights.bin", offset="start"),
    "too_long": lambda folder: _external(folder, "weights.bin", length=str(HUGE)),
    "of_minus_1": lambda folder: _external(folder, "weights.bin", length="-1"),
    "from_far_away": lambda folder: _external(folder, "weights.bin", offset=str(2**63)),
    "too_short": lambda folder: _external(folder, "weights.bin", length="8"),
    "with_a_zero_byte": lambda folder: _external(folder, "wei\0ghts.bin", write=False),
}.items():
    BROKEN[f"external_data_{_name}"] = _make


@path_case(BROKEN)
def external_data_by_a_link(folder: Path) -> Path:
    path = _external(folder, "weights.bin")
    (path.parent / "weights.bin").rename(folder / "weights.bin")
    symlink("../weights.bin", path.parent / "weights.bin")
    return path


@path_case(BROKEN)
def external_data_without_a_place(folder: Path) -> Path:
    model = plain()
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return file_of(folder, model)
