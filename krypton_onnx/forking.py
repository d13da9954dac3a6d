"""What a fork may meet: native calls that other threads are in, and what they leave behind in the child.

A forked process has one thread. A mutex that another thread held stays locked in it for ever, and sessions of ONNX
Runtime wait in it for threads that are no more, even when they are destroyed. So:

- a fork waits until the native calls that run have ended (`native`), and none begins meanwhile;
- in the child each owner of sessions and locks lets go of them (`after_fork`) and makes new ones when it needs them;
- sessions of the parent are never destroyed in a child (`abandon`).

Starting a program (subprocess, multiprocessing's spawn) is no such fork.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol
from weakref import WeakSet

PATIENCE = 60.0
"""Seconds that a fork waits at most. What runs longer is full inference of many images by the child's parent; the
child then works in all likelihood, and else would not have been born."""


class ForkAware(Protocol):
    """An owner of something that does not survive a fork."""

    def after_fork(self) -> None:
        """Called in the child, which has one thread: forget it, without destroying it."""


class _Gate:
    """Counts the native calls that run; shut while a fork takes place."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._shut = 0
        self._mine = threading.local()  # calls of this thread, one inside the other

    def enter(self) -> None:
        self._mine.depth = getattr(self._mine, "depth", 0) + 1
        if self._mine.depth > 1:
            return
        with self._changed:
            while self._shut:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> None:
        self._mine.depth -= 1
        if self._mine.depth:
            return
        with self._changed:
            self._inside -= 1
            if self._shut:
                self._changed.notify_all()

    def shut(self) -> None:
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            self._shut += 1
            while self._inside and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def open(self) -> None:
        with self._changed:
            self._shut -= 1
            self._changed.notify_all()


_gate = _Gate()
_owners: WeakSet[ForkAware] = WeakSet()
_generation = 0
_resets: list[Callable[[], None]] = [_gate.reset]


@contextmanager
def native() -> Iterator[None]:
    """Around a call into ONNX Runtime or BLAS, which may hold mutexes. No code of the caller's may run inside."""
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()


def forget_in_children(owner: ForkAware) -> None:
    """Have `owner.after_fork` called in every child that is forked while it lives."""
    _owners.add(owner)


def reset_in_children(reset: Callable[[], None]) -> None:
    """Have `reset` called in every forked child: for what a module holds."""
    _resets.append(reset)


def abandon(thing: object) -> None:
    """Keep an object of the parent to the very end of this process, which takes no memory that it has not already."""
    if thing is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def generation() -> int:
    """How many forks lie between this process and the one that imported this module."""
    return _generation


def _in_child() -> None:
    global _generation
    _generation += 1
    for reset in _resets:
        reset()
    for owner in list(_owners):
        with suppress(Exception):  # one that cannot let go must not keep the others from it
            owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.shut, after_in_parent=_gate.open, after_in_child=_in_child)
