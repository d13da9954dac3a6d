"""What the first bytes of an upload tell, before anything is decoded."""

from __future__ import annotations

# By Pillow's name of the format, the only one that is then tried: what such a file starts with. Formats that run
# programs (PostScript), and those that decode while they are opened, are not here.
_MAGIC: tuple[tuple[str, int, bytes], ...] = (
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("TIFF", 0, b"II*\x00"),
    ("TIFF", 0, b"MM\x00*"),
    ("WEBP", 8, b"WEBP"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 0, b"BM"),
    ("DICOM", 128, b"DICM"),
)
READ = "PNG, JPEG, TIFF, WebP, GIF, BMP or DICOM"
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # a DICOM file that is unpacked as a whole, to any size


def kind_of(data: bytes) -> str | None:
    """The format of an upload by its first bytes; None where it is none that is read."""
    if data.startswith(b"RIFF") and data[8:12] != b"WEBP":
        return None
    return next((name for name, at, magic in _MAGIC if data[at : at + len(magic)] == magic), None)


def is_deflated_dicom(data: bytes) -> bool:
    """Whether it says, in the part that is not compressed, that the rest is."""
    return _DEFLATED in data  # wherever: what stands before it may be of any length


def webp_pixels(data: bytes) -> int:
    """Of a WebP file, whose decoder makes room for all of them when it is opened; 0 where its head is no head.

    The chunks VP8X (extended), VP8L (lossless) and VP8 (lossy) as the container's specification (RFC 9649) has them.
    """
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 0
    if chunk == b"VP8X":
        return (int.from_bytes(body[4:7], "little") + 1) * (int.from_bytes(body[7:10], "little") + 1)
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    return (int.from_bytes(body[6:8], "little") & 0x3FFF) * (int.from_bytes(body[8:10], "little") & 0x3FFF)
