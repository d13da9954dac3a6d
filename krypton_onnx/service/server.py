"""From settings to a server that listens: the socket, the workers, Uvicorn with its limits, and how it ends."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from krypton_onnx.errors import KryptonError
from krypton_onnx.service.app import create_app
from krypton_onnx.service.metrics import Metrics
from krypton_onnx.service.pool import WorkerPool
from krypton_onnx.service.settings import LEAST_TOKEN, ServiceSettings, is_loopback

KEEP_ALIVE = 5  # seconds between two requests of a connection
UNREAD = 60_000  # milliseconds that a client may leave an answer unread


class Protocol(H11Protocol):
    """HTTP/1.1, where the head of a request must arrive in time."""

    head_seconds = 10.0
    most_connections = 256

    def connection_made(self, transport: Any) -> None:
        self._late: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:  # idle ones too, which no limit of Uvicorn's counts
            transport.close()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_seconds, self._end)

    def _end(self) -> None:
        self._late = None
        if self.cycle is not None and not self.cycle.response_complete:
            return
        if self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            self.send_400_response("The head of the request did not arrive in time.")
        self.transport.close()

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """Uvicorn's, which ends with the workers: what is under way may finish, what is new or takes too long is 503."""

    should_exit: bool

    def __init__(self, config: uvicorn.Config, pool: WorkerPool, grace: float, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._pool, self._grace, self._ready = pool, grace, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._pool.closing = True
        ending = asyncio.get_running_loop().create_task(self._end_all())
        await super().shutdown(sockets)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)

    async def _end_all(self) -> None:
        await asyncio.sleep(self._grace)
        await self._pool.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not raised again once it is over: to be ended so is what a service is for.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def serve(settings: ServiceSettings, ready: Callable[[str, WorkerPool], None] = lambda url, pool: None) -> None:
    """Serve until SIGTERM or Ctrl-C. ready : called once it listens, with its address.

    Raises KryptonError where it may not or cannot listen there, ModelError where the model cannot be opened.
    """
    require_token(settings)
    listening = listen(settings.host, settings.port)
    with listening:
        asyncio.run(_serve(settings, listening, ready))


async def _serve(
    settings: ServiceSettings, listening: socket.socket, ready: Callable[[str, WorkerPool], None]
) -> None:
    log_to_stderr()
    limits, metrics = settings.limits, Metrics()
    bounds = {"head_seconds": limits.header_seconds, "most_connections": limits.connections}
    pool = WorkerPool(settings, metrics)
    await pool.start()
    try:
        config = uvicorn.Config(
            create_app(settings, pool, metrics),
            http=type("Protocol", (Protocol,), bounds),
            ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False, server_header=False,
            timeout_keep_alive=KEEP_ALIVE, timeout_graceful_shutdown=round(limits.grace) + 5,
            limit_concurrency=limits.connections + 1, h11_max_incomplete_event_size=limits.header_bytes,
        )  # fmt: skip
        await Server(config, pool, limits.grace, lambda: ready(url_of(listening), pool)).serve([listening])
    finally:
        await pool.stop()


def require_token(settings: ServiceSettings) -> None:
    """Raises KryptonError where others can reach it and it asks for no token, or for one that can be guessed."""
    if settings.token is None and not is_loopback(settings.host):
        raise KryptonError(
            f"{settings.host} can be reached from other machines: give a token (--token-file FILE, or KRYPTON_TOKEN in "
            "the environment), or listen on 127.0.0.1"
        )
    if settings.token is not None:
        printable = settings.token.isascii() and settings.token.isprintable() and " " not in settings.token
        if len(settings.token) < LEAST_TOKEN or not printable:
            raise KryptonError(
                f"the token must have at least {LEAST_TOKEN} characters (letters, digits, signs; no blanks): "
                "head -c 24 /dev/urandom | base64 makes one"
            )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises KryptonError where there is none to be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(found[0], found[1])
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
            listening.bind(found[4])
            listening.listen(1)  # so that a port that is taken is known now; Uvicorn listens again
        except OSError:
            listening.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        raise KryptonError(_why(error, host, port)) from None
    return listening


def url_of(listening: socket.socket) -> str:
    """Of the front page."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _why(error: Exception, host: str, port: int) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"port {port} of {host} is taken: give another by --port (0 for any free one)"
    if code == errno.EACCES:
        return f"port {port} needs rights that this program has not: give one above 1023 by --port"
    if isinstance(error, (socket.gaierror, UnicodeError)) or code == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: give one by --host (127.0.0.1)"
    return f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}"


def log_to_stderr() -> None:
    """Lines of the service as they are, and of Uvicorn what is wrong."""
    own = logging.getLogger("krypton_onnx.service")
    if not own.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        own.addHandler(handler)
        own.setLevel(logging.INFO)
        own.propagate = False
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
