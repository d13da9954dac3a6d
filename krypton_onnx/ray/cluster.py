"""Ray itself: the cluster that is connected to, or one started on this machine, and how quiet it is."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import ray
import ray.data

from krypton_onnx.errors import KryptonError, one_line

LOCAL = "local"  # Ray's word for a cluster of this machine alone
_STORE = 512 << 20  # bytes of Ray's object store beside the model: image files pass through it, a few at a time
_ANSWERING = 10.0  # seconds
_LOGGERS = ("ray", "ray.data")
_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextlib.contextmanager
def connected(address: str | None, num_cpus: float, store: int) -> Iterator[bool]:
    """Inside, Ray is there; yields whether it was started here. What was there before stays as it was.

    address : of a cluster ("auto", "host:6379"); None: the one that the process is connected to
    already, else that of the environment variable RAY_ADDRESS, else this machine. num_cpus, store : cores that are
    needed, and bytes of objects, where it is this machine. Raises KryptonError where there is no cluster.
    """
    where = address or os.environ.get("RAY_ADDRESS") or LOCAL
    if ray.is_initialized():
        if address not in (None, "auto", LOCAL, ray.get_runtime_context().gcs_address):
            raise KryptonError(
                f"{address}: this process is connected to another Ray already; call ray.shutdown() first, or leave the "
                "address out"
            )
        with _quiet():
            yield False
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {}
    if where == LOCAL:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        own = {
            "include_dashboard": False, "num_cpus": max(cores, -int(-num_cpus // 1)),
            "object_store_memory": _STORE + 2 * store,
        }  # fmt: skip
    _require_listening(where)
    with _quiet():
        try:
            with _no_stderr() if _silent.get() else contextlib.nullcontext():
                ray.init(address=where, logging_level=logging.ERROR, log_to_driver=False, **own)
        except Exception as error:  # of many kinds, some of gRPC's
            raise KryptonError(f"{where}: Ray cannot be reached: {one_line(error)[:300]}") from None
        try:
            yield where == LOCAL
        finally:
            ray.shutdown()


def _require_listening(address: str) -> None:
    """Raises KryptonError where nothing answers at HOST:PORT: Ray itself would ask for minutes, and then end us."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), _ANSWERING).close()
    except (OSError, OverflowError) as error:
        reason = one_line(error)
        raise KryptonError(f"{address}: Ray cannot be reached: {reason}; give the address of where it runs") from None


def default_workers(num_cpus: float, num_gpus: float, reading: bool) -> int:
    """As many as fit on the cluster. reading : the dataset reads files in tasks of its own, which need a core too."""
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 1.0) - reading, resources.get("GPU", 0.0)
    most = [cpus // num_cpus] if num_cpus > 0 else []
    most += [gpus // num_gpus] if num_gpus > 0 else []
    return max(1, int(min(most, default=1)))


def gpus_for(providers: Sequence[str] | None) -> float:
    """Of a worker whose session has these execution providers."""
    names = providers or ()
    named = any(word in name for name in names for word in ("CUDA", "Tensorrt"))
    return 1.0 if named or ("auto" in names and ray.cluster_resources().get("GPU", 0)) else 0.0


def require_room(num_cpus: float, num_gpus: float) -> None:
    """Raises KryptonError where no node has so much: Ray would wait for one for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(one.get("CPU", 0) >= num_cpus and one.get("GPU", 0) >= num_gpus for one in nodes):
        wanted = f"{num_cpus:g} CPU" + (f" and {num_gpus:g} GPU" if num_gpus else "")
        raise KryptonError(f"no node of the cluster has {wanted} for a worker: ask for less, or start such a node")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Inside, Ray's native code writes nothing to standard error: for a program, whose own it is.

    At its lowest level of logging it tells of that level alone, when it starts; at any other, of arguments that a
    restarted worker might miss, which Ray Data keeps.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Ray Data's own bars and lines, which would break ours; as it was afterwards."""
    context = ray.data.DataContext.get_current()
    bars = context.enable_progress_bars
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    context.enable_progress_bars = False
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
