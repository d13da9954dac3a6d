"""What a service is told when it starts: limits, addresses, and what its workers compute."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from krypton_onnx.cli.preparing import PreparingOptions
    from krypton_onnx.specification import ExplanationSpec

LEAST_TOKEN = 16  # characters


@dataclass(frozen=True)
class Limits:
    """What a client can ask for, and how long it may take to say so.

    queue : requests that wait for a worker; one more is answered 429. deadline : seconds from the last byte of a
    request to its answer, the default and the most that a client can ask for. max_bytes : of a body. max_pixels : of
    an image before it is decoded. max_positions : of a grid, times the patches that are computed for each.
    body_seconds : for a body to arrive; header_seconds : for the head of a request. connections : at once.
    header_bytes : of the head. grace : seconds for what is under way when the service is told to end. overrun : seconds
    past the deadline after which a client is answered 504; hang : after which the worker counts as hung and is killed.
    """

    queue: int = 16
    deadline: float = 60.0
    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_positions: int = 50_000
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    connections: int = 256
    header_bytes: int = 16_384
    grace: float = 20.0
    overrun: float = 5.0
    hang: float = 30.0

    @property
    def bodies(self) -> int:
        """Bytes of all bodies that arrive at once."""
        return 8 * self.max_bytes


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker opens, and how it answers.

    spec : what holds where a request says nothing. preparing : the options over what is stored in the model. labels :
    names of the classes, None: those stored with the model. threads : that compute; concurrency : explanations at once,
    which share them.
    """

    spec: ExplanationSpec
    preparing: PreparingOptions
    labels: tuple[str, ...] | None = None
    threads: int = 1
    concurrency: int = 2
    max_pixels: int = Limits.max_pixels
    max_positions: int = Limits.max_positions


@dataclass(frozen=True)
class ServiceSettings:
    """A service. token : that clients must give, None: none is asked for. log : "text", "json" or "none".

    worker_memory : bytes after which a worker is replaced, once it is idle; None: never.
    """

    worker: WorkerSettings
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = field(default=None, repr=False)
    limits: Limits = Limits()
    log: str = "text"
    worker_memory: int | None = None

    @property
    def slots(self) -> int:
        """Explanations that are computed at once."""
        return self.workers * self.worker.concurrency


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False
