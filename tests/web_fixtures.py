"""What the page of `krypton-onnx web` must agree with Python on, as files of its own: pixels, and the colours of a map.

`python tests/web_fixtures.py` writes them; tests/test_web_app.py fails where they are not current.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from krypton_onnx.images import Preparation, prepare_image
from krypton_onnx.runtime.pictures.colors import diverging

APP = Path(__file__).parent.parent / "krypton_onnx" / "web" / "app"
PIXELS = APP / "test" / "prepared.json"
PALETTE = APP / "src" / "maps" / "palette.ts"

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# (height, width) of a picture, and how it is prepared.
CASES: tuple[tuple[tuple[int, int], Preparation], ...] = (
    *(((19, 23), Preparation((8, 7), resample=filter)) for filter in ("nearest", "bilinear", "bicubic", "lanczos")),
    *(((7, 5), Preparation((11, 13), resample=filter)) for filter in ("nearest", "bilinear", "bicubic", "lanczos")),
    ((30, 12), Preparation((9, 14), resample="bicubic")),
    ((40, 25), Preparation((10, 11))),
    ((40, 25), Preparation((10, 10))),
    ((16, 12), Preparation((16, 5), scale=1.0)),
    ((12, 16), Preparation((5, 16), scale=1.0, channel_order="bgr", mean=(104.006, 116.669, 122.679))),
    ((9, 9), Preparation((9, 9), MEAN, STD)),
    ((30, 21), Preparation((10, 10), MEAN, STD, fit="crop", resize=13)),
    ((21, 30), Preparation((10, 11), fit="crop")),
    ((21, 31), Preparation((10, 9), fit="crop", resize=14, resample="bicubic")),
    ((21, 30), Preparation((12, 12), fit="pad", padding=114.0)),
    ((31, 20), Preparation((13, 12), fit="pad", padding=0.5, channel_order="gray", mean=(0.1307,), std=(0.3081,))),
    ((17, 11), Preparation((6, 6), channel_order="gray", fit="crop", scale=2048 / 255, mean=(1024.0,))),
    ((480, 641), Preparation((224, 224), MEAN, STD, fit="crop", resize=256)),
    ((333, 500), Preparation((227, 227), (104.006, 116.669, 122.679), scale=1.0, channel_order="bgr")),
    ((1201, 901), Preparation((224, 224), fit="stretch", resample="lanczos")),
)


def picture(height: int, width: int) -> Image.Image:
    """A picture that the page's tests make in the same way: edges, and all values."""
    row, column = np.ogrid[:height, :width]
    channels = [(row * 37 + column * 59 + row * column * (7 + channel) + channel * 85) % 256 for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def _case(frame: tuple[int, int], preparation: Preparation) -> dict[str, Any]:
    made = prepare_image(picture(*frame), preparation)
    shown = made.shown.tolist() if made.shown.size < 1000 else None
    return {
        "frame": frame,
        "preparation": preparation.to_dict(),
        "shown": shown,
        "input_sha256": hashlib.sha256(made.array.tobytes()).hexdigest(),
    }


def pixels() -> str:
    """test/prepared.json: a line a case, and the input as a checksum of its float32 (C, H, W)."""
    return "[\n" + ",\n".join(json.dumps(_case(*case), separators=(",", ":")) for case in CASES) + "\n]\n"


def palette() -> str:
    """src/maps/palette.ts."""
    table = diverging()(np.linspace(0, 1, 256), bytes=True)[:, :3]
    digits = "".join(f"{value:02x}" for value in table.ravel())
    lines = " +\n".join(f'  "{digits[at : at + 108]}"' for at in range(0, len(digits), 108))
    return (
        "/* Made by tests/web_fixtures.py: 256 colours, CET-D1A, as red, green and blue. */\n\n"
        f"const DIGITS =\n{lines};\n\n"
        "export const DIVERGING = Uint8Array.from(DIGITS.match(/../g) ?? [], (byte) => parseInt(byte, 16));\n"
    )


if __name__ == "__main__":
    PIXELS.write_text(pixels(), encoding="utf-8")
    PALETTE.write_text(palette(), encoding="utf-8")
