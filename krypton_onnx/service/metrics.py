"""What the service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one service; a registry of its own, so that several can be in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        new: dict[str, Any] = {"registry": self._registry, "namespace": "krypton"}
        self._requests = Counter("requests", "Requests answered", ["method", "path", "status"], **new)
        self._latency = Histogram(
            "request_seconds", "From the head of a request to the end of its answer", ["path"], buckets=_SECONDS, **new
        )
        self._explaining = Histogram(
            "explanation_seconds", "From the begin of an explanation in a worker to its answer", buckets=_SECONDS, **new
        )
        self._positions = Counter("positions", "Positions computed", **new)
        self._restarts = Counter("worker_restarts", "Workers started again", ["reason"], **new)
        self._queue = Gauge("queue_length", "Requests that wait for a worker", **new)
        self._in_flight = Gauge("in_flight", "Explanations that workers compute", **new)
        self._ready = Gauge("workers_ready", "Workers that can explain", **new)
        self._memory = Gauge("worker_memory_bytes", "Memory of the largest worker, when it last answered", **new)
        for reason in ("ended", "hung", "memory"):
            self._restarts.labels(reason)

    def read_from(
        self,
        queue: Callable[[], int],
        in_flight: Callable[[], int],
        ready: Callable[[], int],
        memory: Callable[[], int],
    ) -> None:
        """Where gauges have their values from, whenever they are asked for."""
        for gauge, read in (
            (self._queue, queue), (self._in_flight, in_flight), (self._ready, ready), (self._memory, memory),
        ):  # fmt: skip
            gauge.set_function(read)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """path : of a route, not of a request, of which there is no end."""
        self._requests.labels(method, path, str(status)).inc()
        self._latency.labels(path).observe(seconds)

    def computed(self, positions: int, seconds: float) -> None:
        self._positions.inc(positions)
        self._explaining.observe(seconds)

    def restarted(self, reason: str) -> None:
        self._restarts.labels(reason).inc()

    def text(self) -> bytes:
        """As Prometheus reads them."""
        return generate_latest(self._registry)
