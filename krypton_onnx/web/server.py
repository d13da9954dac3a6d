"""A small web server for one site, on this machine: to look at it, and to show it to the same room.

Python's own http.server, narrowed: GET and HEAD of the files in one folder, each by its name alone. There is no path to
resolve, so none to escape by; no listing, no upload, nothing runs.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import unquote

from krypton_onnx.errors import KryptonError, one_line
from krypton_onnx.web.headers import HEADERS, cache_control, content_type

INDEX = "index.html"
MOST_CONNECTIONS = 64
PATIENCE = 60.0  # seconds for a connection that says nothing, or takes nothing


class SiteServer(ThreadingHTTPServer):
    """Serves the files of a folder; `url` is where. To be run by `serve_forever`, ended by `shutdown`.

    headers : with every answer. Raises KryptonError where it cannot listen on that host and port; port 0 is any free
    one.
    """

    daemon_threads = True

    def __init__(self, folder: Path, host: str, port: int, headers: Mapping[str, str] = HEADERS) -> None:
        self.folder, self.headers = Path(folder), dict(headers)
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.address_family = address[0]
            super().__init__(address[4][:2], _Handler)  # type: ignore[arg-type]
        except OSError as error:
            raise KryptonError(_why(error, host, port)) from None
        self.loopback = is_loopback(str(self.server_address[0]))

    @property
    def url(self) -> str:
        """Of the page."""
        host = str(self.server_address[0])
        if host in ("0.0.0.0", "::"):
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """As of TCPServer: HTTPServer's own would ask the network for the name of the host."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def answers_to(self, host: str | None) -> bool:
        """Whether a request was meant for this server: on loopback not under another page's name (DNS rebinding)."""
        if not self.loopback or host is None:
            return True
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        return name == "localhost" or name.endswith(".localhost") or is_loopback(name.strip("[]"))

    def files(self) -> dict[str, Path]:
        """What there is, by the path that asks for it: plain files, none hidden, none by a link."""
        found: dict[str, Path] = {}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder, name)
                if not name.startswith(".") and not path.is_symlink() and path.is_file():
                    found["/" + path.relative_to(self.folder).as_posix()] = path
        if "/" + INDEX in found:
            found["/"] = found["/" + INDEX]
        return found

    def process_request(self, request: Any, client_address: Any) -> None:
        """Beyond so many at once a connection is closed: each costs a thread."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who leaves is no error."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"krypton-onnx: error: a request failed: {one_line(error)}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body, which nobody reads, would be taken for the next request
        if not self.server.answers_to(self.headers.get("Host")):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        asked = unquote(self.path.partition("?")[0], errors="replace")
        path = self.server.files().get(asked)
        try:
            file = None if path is None else path.open("rb")
        except OSError:  # the site is being written anew
            file = None
        if path is None or file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self._send(file, path.relative_to(self.server.folder).as_posix(), body)

    def _send(self, file: Any, name: str, body: bool) -> None:
        stat = os.fstat(file.fileno())
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        known = tag in [one.strip() for one in self.headers.get("If-None-Match", "").split(",")]
        self.send_response(HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK)
        self.send_header("ETag", tag)
        self.send_header("Cache-Control", cache_control(name))
        if not known:
            self.send_header("Content-Type", content_type(name))
            self.send_header("Content-Length", str(stat.st_size))
        self.end_headers()
        if body and not known:
            shutil.copyfileobj(file, self.wfile, 1 << 16)

    def end_headers(self) -> None:
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """The header Server."""
        return "krypton-onnx"

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody's visit is written down."""


def serve(folder: Path, host: str, port: int, ready: Callable[[SiteServer], None] = lambda server: None) -> None:
    """Serve a site until Ctrl-C or SIGTERM. ready : called once it listens. Raises KryptonError where it cannot."""
    with SiteServer(folder, host, port) as server:
        before = _on_terminate(_stop)
        try:
            ready(server)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            _on_terminate(before)


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _on_terminate(handler: Any) -> Any:
    """Set what SIGTERM does, where that is possible: in the main thread. Returns what it did before."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken: give another by --port ({port + 1}, or 0 for any free one)"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this program has not: give one above 1023 by --port"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: give one by --host (127.0.0.1)"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}"
