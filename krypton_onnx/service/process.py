"""A worker as the server sees it: a process, a socket, and the jobs that it has begun."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from krypton_onnx.service import frames
from krypton_onnx.service.jobs import Job, News
from krypton_onnx.service.settings import WorkerSettings

WAIT_FOR_EXIT = 5.0  # seconds


class WorkerProcess:
    """Started by `start`; `run` returns when it has ended, for whatever reason.

    jobs : that it has begun and not answered. on_ready, on_answer : called as it says so; on_answer with the job that
    has ended. heard : when it last said anything, on the loop's clock.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        on_ready: Callable[[WorkerProcess, dict[str, Any]], None],
        on_answer: Callable[[WorkerProcess, Job, News], None],
    ) -> None:
        self._settings, self._on_ready, self._on_answer = settings, on_ready, on_answer
        self.jobs: dict[int, Job] = {}
        self.ready = self.was_ready = self.draining = False
        self.failure = ""
        self.why_killed = ""
        self.heard = 0.0
        self.resident = 0
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    @property
    def pid(self) -> int | None:
        """None before it is started."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Raises OSError where no process can be made."""
        ours, theirs = socket.socketpair()
        # The token is the server's alone.
        environment = {name: value for name, value in os.environ.items() if name != "KRYPTON_TOKEN"}
        environment.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "krypton_onnx.service.worker", str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                env=environment,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.heard = asyncio.get_running_loop().time()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._send({"say": "settings"}, pickle.dumps(self._settings))

    async def run(self) -> None:
        """Hand on what it says until it says no more; then it is dead, or made so."""
        with suppress(asyncio.IncompleteReadError, ConnectionError, frames.BrokenFrame, KeyError):
            while True:
                words, payload = await self._frame()
                self.heard = asyncio.get_running_loop().time()
                self._hear(words, payload)
        self.ready = False
        await self.end()

    async def end(self) -> None:
        """Close the socket, at which it exits; else kill it."""
        if self._writer is not None:
            self._writer.close()
        if self._process is None:
            return
        try:
            await asyncio.wait_for(self._process.wait(), WAIT_FOR_EXIT)
        except TimeoutError:
            self.kill("it did not end")
            await self._process.wait()

    @property
    def end_words(self) -> str:
        """How it ended."""
        code = None if self._process is None else self._process.returncode
        if self.why_killed or self.failure:
            return self.why_killed or self.failure
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def kill(self, why: str) -> None:
        """At once. What it has begun is for the pool to begin anew."""
        if self._process is not None and self._process.returncode is None:
            self.why_killed = self.why_killed or why
            with suppress(ProcessLookupError):
                self._process.kill()

    def begin(self, job: Job, now: float) -> None:
        """Give it a job."""
        self.jobs[job.id] = job
        job.attempts += 1
        job.began = now
        self._send({"say": "explain", "id": job.id, "seconds": job.until - now, **job.asked}, job.upload)

    def cancel(self, job: Job) -> None:
        """Let it end the job early; it answers all the same."""
        self._send({"say": "cancel", "id": job.id})

    def _send(self, words: dict[str, Any], payload: bytes = b"") -> None:
        assert self._writer is not None
        if not self._writer.is_closing():
            self._writer.write(frames.packed(words, payload))

    async def _frame(self) -> frames.Frame:
        assert self._reader is not None
        text_size, payload_size = frames.lengths(await self._reader.readexactly(frames.HEAD))
        text = await self._reader.readexactly(text_size)
        return frames.words_of(text), await self._reader.readexactly(payload_size)

    def _hear(self, words: dict[str, Any], payload: bytes) -> None:
        kind = words["say"]
        if kind == "ready":
            self.ready, self.was_ready, self.resident = True, True, int(words["resident"])
            self._on_ready(self, words)
        elif kind == "failed":
            self.failure = str(words["detail"])
        elif kind != "alive":
            job = self.jobs.get(words["id"])
            if job is None:
                return
            news = News(kind, words, payload)
            if news.final:
                del self.jobs[job.id]
                self.resident = int(words.get("resident", self.resident))
                self._on_answer(self, job, news)
            else:
                job.tell(news)
