"""What stands before every request: who may ask, what every answer carries, and a line in the log."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from krypton_onnx.service.metrics import Metrics
from krypton_onnx.service.settings import ServiceSettings, is_loopback

access = logging.getLogger("krypton_onnx.service.access")

# They hold nothing of the model, and probes and browsers cannot give a token.
OPEN = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
STATIC = "/static/"
PROXIED = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
"""Of a request that came through a proxy: then whoever asks is not on this machine."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Guard:
    """ASGI: refuses, counts, logs, and adds headers. Without a token only pages of this machine may ask."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._settings, self._metrics, self._paths = app, settings, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status, size = time.perf_counter(), 500, 0

        async def sending(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            answer = self._refusal(scope) or self._app
            await answer(scope, receive, sending)
        finally:
            self._write_down(scope, status, size, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        # The parser bounds what is incomplete; what arrives at once may be larger.
        head = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(a) + len(b) for a, b in headers.raw)
        if head > self._settings.limits.header_bytes:
            return _refuse(431, f"the head of the request is larger than {self._settings.limits.header_bytes:,} bytes")
        token = self._settings.token
        if token is None:
            host = headers.get("host", "")
            if not is_loopback(_name_of(host)):
                # A name that leads here from somewhere else (DNS rebinding) would let any page ask.
                return _refuse(403, "this service answers to localhost only; bound elsewhere it asks for a token")
            if _is_foreign(headers, host):
                return _refuse(403, "pages of other origins may not ask here")
            if any(name in headers for name in PROXIED):
                return _refuse(403, "asked through a proxy, from wherever: give the service a token")
            return None
        path = scope["path"]
        if path in OPEN or path.startswith(STATIC):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
        if kind.lower() == "bearer" and same:
            return None
        return _refuse(401, "give the token of this service: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})

    def _write_down(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        path, method = scope["path"], scope["method"]
        known = path if path in self._paths else "/static" if path.startswith(STATIC) else "other"
        self._metrics.answered(method if method in _METHODS else "other", known, status, seconds)
        if self._settings.log == "none":
            return
        client = (scope.get("client") or ("-",))[0]
        # Nothing of what was asked but the route: a query may hold names of findings, a header the token.
        line = {"client": client, "method": method[:10], "path": known, "status": status, "bytes": size,
                "seconds": round(seconds, 4)}  # fmt: skip
        if self._settings.log == "json":
            access.info(json.dumps({"time": round(time.time(), 3), **line}))
        else:
            access.info("%s %s %s %d, %d bytes, %.3f s", *line.values())


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _name_of(host: str) -> str:
    """Of a header Host, without its port."""
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]


def _is_foreign(headers: Headers, host: str) -> bool:
    """Whether a browser sends it for a page of another origin."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        # A link or an address that somebody follows is a visit, and reads only.
        visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return site not in ("same-origin", "none") and not (visit and "origin" not in headers)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != host


def _refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> ASGIApp:
    return JSONResponse({"detail": detail}, status, dict(headers or {}))
