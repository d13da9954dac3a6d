"""The body of a request: read within bounds, and taken apart."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from krypton_onnx.errors import one_line
from krypton_onnx.service.options import FILES, LISTS, ExplainOptions
from krypton_onnx.service.settings import Limits
from krypton_onnx.service.uploads import READ, kind_of

MOST_FIELDS, MOST_FIELD_BYTES, MOST_CAPTION = 64, 4096, 80
_PIECE = 1 << 18  # bytes of a form that are parsed at once
DRAINED_SECONDS = 2.0  # of a body that is refused, so that its sender reads why


class Refused(Exception):
    """A request that is answered with an error. close : and then the connection ends."""

    def __init__(self, status: int, detail: str, retry_after: int | None = None, close: bool = False) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after, self.close = status, detail, retry_after, close


@dataclass(frozen=True)
class Upload:
    """A request for an explanation. caption : what the image is called on the report, a file's name without a path."""

    image: bytes
    options: ExplainOptions
    caption: str


class BodyReader:
    """Reads the bodies of all requests: each within `limits`, and all together within their sum."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """Raises Refused: 413 where it is too large, 408 where it takes too long, 429 where all are too much."""
        said = request.headers.get("content-length", "0")
        most = self._limits.max_bytes
        too_large = Refused(413, f"the body is larger than {most:,} bytes, the most that is taken", close=True)
        received = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                if said.isascii() and said.isdigit() and int(said) > most:
                    await _drain(request)
                    raise too_large
                stream = request.stream()
                async for chunk in stream:
                    received += chunk
                    self._held += len(chunk)
                    if len(received) > most:
                        await _drain(request, stream)
                        raise too_large
                    if self._held > self._limits.bodies:
                        raise Refused(429, "too much is being uploaded at once", 2, close=True)
            return bytes(received)
        except TimeoutError:
            raise Refused(
                408, f"the body did not arrive within {self._limits.body_seconds:g} seconds", close=True
            ) from None
        except ClientDisconnect:
            raise Refused(400, "the body ended before its end", close=True) from None
        finally:
            self._held -= len(received)


async def _drain(request: Request, stream: AsyncGenerator[bytes, None] | None = None) -> None:
    """Let some more of a body that is refused arrive: who still sends would not read the answer."""
    try:
        async with asyncio.timeout(DRAINED_SECONDS):
            async for _ in stream or request.stream():
                pass
    except (TimeoutError, ClientDisconnect):
        pass


async def upload_of(request: Request, body: bytes) -> Upload:
    """The image and the options. Raises Refused: 400, 415 or 422, with what is wrong."""
    said = request.headers.get("content-type", "")
    media_type = said.partition(";")[0].strip().lower()
    query = request.query_params.multi_items()
    if media_type == "multipart/form-data":
        image, form, caption = await _form(request, body)
        options = _options([*(one for one in query if one[0] not in dict(form)), *form])
    elif media_type.startswith("image/") or media_type == "application/dicom":
        image, options, caption = body, _options(query), "upload"
    else:
        raise Refused(415, "send the image as multipart/form-data, or as the body with Content-Type image/...")
    if not image:
        raise Refused(400, "the image is empty")
    if kind_of(image) is None:
        raise Refused(415, f"the image is none of the formats that are read: {READ}")
    return Upload(image, options, caption)


async def _form(request: Request, body: bytes) -> tuple[bytes, list[tuple[str, str]], str]:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _PIECE):
            yield body[start : start + _PIECE]
            await asyncio.sleep(0)  # others have their turn meanwhile

    try:
        parser = MultiPartParser(
            request.headers, pieces(), max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES
        )
        parser.spool_max_size = len(body) + 1  # never on a disk
        parts = await parser.parse()
    except (MultiPartException, KeyError, ValueError, UnicodeDecodeError, AssertionError) as error:
        said = error.message if isinstance(error, MultiPartException) else type(error).__name__
        raise Refused(400, f"the form cannot be read: {one_line(said)[:200]}") from None
    fields, image, caption = [], b"", "upload"
    try:
        for name, value in parts.multi_items():
            if not isinstance(value, UploadFile):
                fields.append((name, value))
            elif FILES.match(name):
                image, caption = await value.read(), _caption(value.filename or "")
            else:
                raise Refused(422, f"the form has a file {name[:40]!r}; the image is called 'image'")
    finally:
        await parts.close()
    # What a form of a page leaves empty is not given.
    return image, [(name, value) for name, value in fields if value != ""], caption


def _options(given: Iterable[tuple[str, str]]) -> ExplainOptions:
    values: dict[str, Any] = {}
    for name, value in given:
        if name in LISTS:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Refused(422, f"{name[:40]!r} is given twice")
        else:
            values[name] = value
    try:
        return ExplainOptions.model_validate(values)
    except ValidationError as error:
        raise Refused(422, _words(error.errors(include_url=False, include_context=False))) from None


def _words(errors: Iterable[Mapping[str, Any]]) -> str:
    """The first of what is wrong, in one line; the value is not repeated."""
    first = next(iter(errors))
    where = ".".join(str(one) for one in first["loc"])[:60]
    text = str(first["msg"]).removeprefix("Value error, ")
    return one_line(f"{where}: {text}" if where else text)[:300]


def _caption(filename: str) -> str:
    """A file's name for the eye: no folder, nothing that controls a page or a terminal, not long."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    seen = "".join(one for one in last if one.isprintable() and unicodedata.category(one) != "Cf").strip(". ")
    return seen[:MOST_CAPTION] or "upload"
