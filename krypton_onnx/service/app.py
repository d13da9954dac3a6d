"""The endpoints. Nothing is computed here: a request becomes a job, and what comes back is handed on."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from krypton_onnx.errors import one_line
from krypton_onnx.service import description
from krypton_onnx.service.answers import MEDIA_TYPES
from krypton_onnx.service.bodies import BodyReader, Refused, upload_of
from krypton_onnx.service.guard import HEADERS, Guard
from krypton_onnx.service.jobs import Job, News
from krypton_onnx.service.metrics import MEDIA_TYPE, Metrics
from krypton_onnx.service.pages import add_pages
from krypton_onnx.service.pool import Closing, QueueFull, WorkerPool
from krypton_onnx.service.settings import ServiceSettings

log = logging.getLogger("krypton_onnx.service")

SILENCE = 10.0  # seconds after which a stream says that it is alive
_BY_ACCEPT = {
    "application/json": "json", "image/png": "png", "text/html": "html", "application/x-npz": "npz",
    "application/octet-stream": "npz", "*/*": "json", "application/*": "json", "image/*": "png", "text/*": "html",
}  # fmt: skip
_PATHS = frozenset({
    "/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/model", "/explain", "/explain/stream",
})  # fmt: skip


def create_app(settings: ServiceSettings, pool: WorkerPool, metrics: Metrics) -> FastAPI:
    """The application over a pool of workers."""
    app = FastAPI(
        title="krypton-onnx", version=_version(), docs_url=None, redoc_url=None,
        description="Occlusion maps: which pixels does the score of a class depend on?",
        responses=description.errors(403) if settings.token is None else description.errors(401),
    )  # fmt: skip
    metrics.read_from(
        lambda: pool.waiting, lambda: pool.in_flight, lambda: sum(one.ready for one in pool.workers),
        lambda: max((one.resident for one in pool.workers), default=0),
    )  # fmt: skip
    _add_errors(app)
    _add_explain(app, settings, pool)
    _add_state(app, pool, metrics)
    add_pages(app)
    app.add_middleware(Guard, settings=settings, metrics=metrics, paths=_PATHS)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        if error.close:
            headers["Connection"] = "close"
        return JSONResponse({"detail": error.detail}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def own(_: Request, error: Exception) -> JSONResponse:
        log.error("an error of the service itself (%s: %s)", type(error).__name__, one_line(error)[:300])
        return JSONResponse({"detail": f"an error of the service itself ({type(error).__name__})"}, 500, HEADERS)


def _add_explain(app: FastAPI, settings: ServiceSettings, pool: WorkerPool) -> None:
    bodies = BodyReader(settings.limits)
    statuses = (400, 406, 408, 413, 415, 422, 429, 500, 503, 504)

    async def job_of(request: Request, stream: bool) -> Job:
        """Read, checked and submitted."""
        upload = await upload_of(request, await bodies.read(request))
        options = upload.options
        seconds = min(options.deadline or settings.limits.deadline, settings.limits.deadline)
        wanted = options.format or ("json" if stream else _format(request.headers.get("accept", "*/*")))
        asked = {
            "say": "explain", "format": wanted, "stream": stream, "caption": upload.caption, "asked": options.fields(),
        }  # fmt: skip
        job = Job(asked, upload.image, asyncio.get_running_loop().time() + seconds)
        try:
            pool.submit(job)
        except QueueFull as full:
            raise Refused(429, f"{full}: try again after {full.retry_after} s", full.retry_after) from None
        except Closing:
            raise Refused(503, "the service is about to end", 5, close=True) from None
        return job

    @app.post(
        "/explain", openapi_extra=description.asked(), response_class=Response,
        responses={**description.map_answer(), **description.errors(*statuses)}, summary="The map of an image",
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        """An occlusion map of one class or several. Options are given as query parameters, or as fields of the form."""
        job = await job_of(request, False)
        news = await _unless_gone(request, pool, job)
        if news is None:
            return Response(status_code=499)  # nobody reads it
        if news.kind != "done":
            raise _refused(news)
        headers = {"X-Complete": "true" if news.words["complete"] else "false"}
        if job.asked["format"] == "html":  # which holds a policy of its own
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return Response(news.payload, media_type=MEDIA_TYPES[job.asked["format"]], headers=headers)

    @app.post(
        "/explain/stream", openapi_extra=description.asked(), response_class=StreamingResponse,
        responses={**description.stream_answer(), **description.errors(*statuses)}, summary="The map, as it fills",
    )  # fmt: skip
    async def stream(request: Request) -> StreamingResponse:
        """Events: progress {done, total}, refinement {scores, ...}, restarted; at the end map (as /explain gives it as
        JSON; with format also file {media_type, base64}), or error {status, detail, retry_after}."""
        job = await job_of(request, True)
        return StreamingResponse(_events(pool, job), media_type="text/event-stream")


def _add_state(app: FastAPI, pool: WorkerPool, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the server is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="Whether a worker can explain", responses=description.errors(503))
    async def readyz() -> dict[str, str]:
        if not pool.ready:
            raise Refused(503, "no worker is ready", 1)
        return {"status": "ready"}

    @app.get("/model", summary="The model, and what holds where a request says nothing")
    async def model() -> dict[str, Any]:
        return pool.facts

    @app.get("/metrics", summary="For Prometheus", response_class=Response,
             responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})  # fmt: skip
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=MEDIA_TYPE)


async def _unless_gone(request: Request, pool: WorkerPool, job: Job) -> News | None:
    """The last news of a job; None where the client went away, at which the job ends."""
    outcome = asyncio.ensure_future(job.outcome())
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({outcome, gone}, return_when=asyncio.FIRST_COMPLETED)
        return outcome.result() if outcome.done() else None
    finally:
        for one in (outcome, gone):
            one.cancel()
        await asyncio.gather(outcome, gone, return_exceptions=True)
        if not job.ended:
            pool.cancel(job)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(pool: WorkerPool, job: Job) -> AsyncIterator[bytes]:
    """The events of a stream. Where the client goes away this is closed, and the job ends."""
    try:
        yield b": krypton-onnx\n\n"
        while True:
            try:
                news = await asyncio.wait_for(job.news(), SILENCE)
            except TimeoutError:
                yield b": waiting\n\n"
                continue
            yield _event(news, job)
            if news.final:
                return
    finally:
        if not job.ended:
            with suppress(RuntimeError):
                pool.cancel(job)


def _event(news: News, job: Job) -> bytes:
    if news.kind == "refinement":
        return b"event: refinement\ndata: " + news.payload + b"\n\n"
    if news.kind == "done":
        size = news.words["json"]
        shown, file = news.payload[:size], news.payload[size:]
        if file:
            wanted = {"media_type": MEDIA_TYPES[job.asked["format"]], "base64": base64.b64encode(file).decode("ascii")}
            shown = shown[:-1] + b', "file": ' + json.dumps(wanted).encode() + b"}"
        return b"event: map\ndata: " + shown + b"\n\n"
    if news.kind in ("refused", "cancelled"):
        told = {"status": 503, "detail": "cancelled", "retry_after": None, **_told(news.words)}
        return b"event: error\ndata: " + json.dumps(told).encode() + b"\n\n"
    told = {name: value for name, value in news.words.items() if name in ("done", "total")}
    return f"event: {news.kind}\ndata: {json.dumps(told)}\n\n".encode()


def _told(words: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in words.items() if name in ("status", "detail", "retry_after")}


def _refused(news: News) -> Refused:
    words = {"status": 503, "detail": "cancelled", **_told(news.words)}
    return Refused(int(words["status"]), str(words["detail"]), words.get("retry_after"))


def _format(accept: str) -> str:
    """The format that a client likes best. Raises Refused where it takes none of ours."""
    liked: list[tuple[float, str]] = []
    for one in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in one.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            liked.append((float(quality), kind))
        except ValueError:
            continue
    for weight, kind in sorted(liked, key=lambda one: -one[0]):
        if weight > 0 and kind in _BY_ACCEPT:
            return _BY_ACCEPT[kind]
    raise Refused(406, f"answers are {', '.join(kind.partition(';')[0] for kind in MEDIA_TYPES.values())}")


def _version() -> str:
    try:
        return version("krypton-onnx")
    except PackageNotFoundError:
        return "0"
