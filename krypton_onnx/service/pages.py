"""The front page and the API's page: files of this package, and of fastapi-offline; nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException

from krypton_onnx.report.render import STYLE, hashes

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
_OWN = ("page.js", "page.css", "docs.js")
_SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")


def add_pages(app: FastAPI) -> None:
    """GET /, /docs and /static/NAME."""
    page = files(__package__) / "page"
    texts = {name: (page / name).read_bytes() for name in _OWN}
    texts[STYLE] = (files("krypton_onnx.report") / STYLE).read_bytes()
    texts |= {name: (_swagger() / name).read_bytes() for name in _SWAGGER}
    front, docs = (page / "index.html").read_bytes(), (page / "docs.html").read_bytes()
    front_policy, docs_policy = _front_policy(), _docs_policy()

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(front, media_type=_TYPES[".html"], headers={"Content-Security-Policy": front_policy})

    @app.get("/docs", include_in_schema=False)
    async def api() -> Response:
        return Response(docs, media_type=_TYPES[".html"], headers={"Content-Security-Policy": docs_policy})

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in texts:
            raise HTTPException(404, "no such file")
        kind = _TYPES[Path(name).suffix]
        return Response(texts[name], media_type=kind, headers={"Cache-Control": "no-cache"})


def _front_policy() -> str:
    """Scripts and styles of our own only; a report that is shown inside the page has its own, by their hashes."""
    style, scripts = hashes()
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' {style}; img-src 'self' data: blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _docs_policy() -> str:
    return (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _swagger() -> Path:
    import fastapi_offline

    return Path(str(fastapi_offline.__file__)).parent / "static"
