"""A model as a service: `krypton-onnx serve` (FastAPI, Uvicorn).

The server's process takes requests, bounds them and hands them on; it decodes and computes nothing. Workers, processes
of their own, hold one session each (explaining.py, worker.py). Between them: jobs in a bounded queue (pool.py), and
frames of JSON and bytes over a socket (frames.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from krypton_onnx.errors import KryptonError
from krypton_onnx.service.settings import Limits, ServiceSettings, WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from krypton_onnx.service.pool import WorkerPool

__all__ = ["Limits", "ServiceSettings", "WorkerSettings", "require_installed", "serve"]

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "fastapi_offline", "jinja2")


def require_installed() -> None:
    """Raises KryptonError where a package of the extra is missing."""
    from importlib.util import find_spec

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise KryptonError(f"the service needs {', '.join(missing)}: pip install 'krypton-onnx[serve]'")


def serve(settings: ServiceSettings, ready: Callable[[str, WorkerPool], None] = lambda url, pool: None) -> None:
    """Serve until SIGTERM or Ctrl-C; see `krypton_onnx.service.server`. Raises KryptonError, ModelError."""
    require_installed()
    from krypton_onnx.service import server

    server.serve(settings, ready)
