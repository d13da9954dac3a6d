"""What the server and its workers say to each other: frames of JSON and bytes over a socket.

A frame is the two lengths (big endian, 4 bytes each), a JSON object and a payload. No pickle comes from a worker: it
has decoded what strangers sent, and whatever came of that must not run in the server.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

_LENGTHS = struct.Struct(">II")
MOST_WORDS = 1 << 20  # bytes of JSON
MOST_PAYLOAD = 1 << 29

Frame = tuple[dict[str, Any], bytes]


class BrokenFrame(Exception):
    """What arrived is none: whoever sent it has gone wrong."""


def packed(words: dict[str, Any], payload: bytes = b"") -> bytes:
    """A frame as bytes."""
    text = json.dumps(words, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


def lengths(head: bytes) -> tuple[int, int]:
    """Of the JSON and of the payload, from the first `HEAD` bytes. Raises BrokenFrame."""
    words, payload = _LENGTHS.unpack(head)
    if words > MOST_WORDS or payload > MOST_PAYLOAD:
        raise BrokenFrame(f"a frame of {words} and {payload} bytes")
    return words, payload


def words_of(text: bytes) -> dict[str, Any]:
    """The JSON object of a frame. Raises BrokenFrame."""
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, dict):
        raise BrokenFrame("a frame without a JSON object")
    return words


HEAD = _LENGTHS.size


def read(file: BinaryIO) -> Frame | None:
    """The next frame of a buffered file; None where the other side is gone."""
    head = file.read(HEAD)
    if len(head) < HEAD:
        return None
    text_size, payload_size = lengths(head)
    text, payload = file.read(text_size), file.read(payload_size)
    return None if len(text) < text_size or len(payload) < payload_size else (words_of(text), payload)
