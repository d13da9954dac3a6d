"""The workers together: a bounded queue before them, and a new one where one has ended."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import Any

from krypton_onnx.errors import ModelError
from krypton_onnx.service.jobs import Job, News, refused
from krypton_onnx.service.metrics import Metrics
from krypton_onnx.service.process import WorkerProcess
from krypton_onnx.service.settings import ServiceSettings

log = logging.getLogger("krypton_onnx.service")

ATTEMPTS = 2  # of a job whose worker ends; the last one alone in its worker
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds before a worker that ended is started again
FIRST_READY = 600.0  # seconds for a model to be opened
TICK = 0.25
SMOOTH = 0.2  # weight of the newest explanation in the mean time of one
SHORTEST = 0.05  # seconds of a deadline that are worth to begin with


class QueueFull(Exception):
    """There is no place. retry_after : seconds after which there may be one."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many requests wait already")
        self.retry_after = retry_after


class Closing(Exception):
    """The service is about to end."""


class WorkerPool:
    """Takes jobs by `submit`; `start` returns when the first worker is ready.

    A job waits in one queue, first come, first served, and is given to the worker with the fewest. Where a worker ends
    with jobs begun they are begun once more, each alone in its worker, so that whichever of them ends workers harms no
    other. facts : what the first worker said of its model.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._workers: list[WorkerProcess] = []
        self._waiting: deque[Job] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._first: asyncio.Future[None] | None = None
        self._mean = 1.0  # seconds an explanation
        self.closing = False
        self.facts: dict[str, Any] = {}
        self.warnings: list[str] = []

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises ModelError where the first worker cannot open the model."""
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        self._tasks = [loop.create_task(self._keep_one()) for _ in range(self._settings.workers)]
        self._tasks.append(loop.create_task(self._watch()))
        try:
            await asyncio.wait_for(asyncio.shield(self._first), FIRST_READY)
        except TimeoutError:
            await self.stop()
            raise ModelError(f"the model was not open after {FIRST_READY:.0f} seconds") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all workers; whoever still waits is answered 503."""
        self.closing = True
        for job in [*self._waiting, *(job for worker in self._workers for job in worker.jobs.values())]:
            job.tell(refused(503, "the service is about to end", 5))
        self._waiting.clear()
        workers = list(self._workers)
        for worker in workers:
            worker.kill("the service ends")
        await asyncio.gather(*(worker.end() for worker in workers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether a worker can begin with a job."""
        return not self.closing and any(worker.ready for worker in self._workers)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return sum(len(worker.jobs) for worker in self._workers)

    @property
    def workers(self) -> list[WorkerProcess]:
        """Those that are alive."""
        return list(self._workers)

    async def _keep_one(self) -> None:
        pause = FIRST_PAUSE
        while not self.closing:
            worker = WorkerProcess(self._settings.worker, self._on_ready, self._on_answer)
            self._workers.append(worker)
            try:
                await worker.start()
                await worker.run()
            except OSError as error:
                worker.failure = f"no process can be started: {error.strerror}"
            except Exception as error:  # what it said was not what workers say
                worker.failure = f"it broke ({type(error).__name__})"
                log.exception("a worker is not understood")
            finally:
                self._workers.remove(worker)
                worker.kill("its keeper ends")
            if self.closing:
                for job in worker.jobs.values():
                    job.tell(refused(503, "the service is about to end", 5))
                return
            assert self._first is not None
            if not self._first.done():
                self._first.set_exception(ModelError(worker.failure or f"the worker ended: {worker.end_words}"))
                return
            pause = self._after(worker, pause)
            self._begin_anew(worker)
            await asyncio.sleep(pause)

    def _after(self, worker: WorkerProcess, pause: float) -> float:
        """Write down that it ended. Returns the seconds before the next one."""
        if worker.draining:
            log.info("a worker was replaced: it had %d MB of memory", worker.resident // 1_000_000)
            self._metrics.restarted("memory")
            return 0.0
        log.warning("a worker ended (%s); it is started again", worker.end_words)
        self._metrics.restarted("hung" if worker.why_killed else "ended")
        return FIRST_PAUSE if worker.was_ready else min(2 * pause, LONGEST_PAUSE)

    # -- jobs --------------------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Take it, to be begun when there is a place. Raises QueueFull, Closing."""
        if self.closing:
            raise Closing
        full = self._waiting or self._place(job) is None  # whoever waits goes first, even where there is a place
        if full and len(self._waiting) >= self._settings.limits.queue:
            raise QueueFull(self.retry_after())
        self._waiting.append(job)
        self._begin()

    def cancel(self, job: Job) -> None:
        """Nobody waits for it any more."""
        job.abandoned = True
        if job in self._waiting:
            self._waiting.remove(job)
        for worker in self._workers:
            if job.id in worker.jobs:
                worker.cancel(job)

    def retry_after(self) -> int:
        """Seconds in which half of what is ahead should be done, by the mean time of an explanation: others ask too."""
        seconds = self._mean * (self.in_flight + self.waiting) / (2 * self._settings.slots)
        return max(1, min(math.ceil(seconds), 600))

    def _place(self, job: Job) -> WorkerProcess | None:
        """The worker that can begin with it now; one that is begun anew wants it for itself alone."""
        most = self._settings.worker.concurrency
        free = [
            worker
            for worker in self._workers
            if worker.ready and not worker.draining and len(worker.jobs) < (1 if job.attempts else most)
            and not any(other.attempts > 1 for other in worker.jobs.values())
        ]  # fmt: skip
        return min(free, key=lambda worker: len(worker.jobs), default=None)

    def _begin(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting:
            job = self._waiting[0]
            if job.until - now < SHORTEST:
                self._waiting.popleft()
                job.tell(refused(503, "the deadline passed before a worker was free", self.retry_after()))
                continue
            worker = self._place(job)
            if worker is None:
                return
            self._waiting.popleft()
            worker.begin(job, now)

    def _begin_anew(self, worker: WorkerProcess) -> None:
        """What a worker had begun when it ended goes to the head of the queue, once."""
        for job in reversed(list(worker.jobs.values())):
            if job.abandoned or job.ended:
                continue
            if job.attempts >= ATTEMPTS:
                job.tell(refused(503, "the worker ended while it computed this, twice", self.retry_after()))
            else:
                job.tell(News("restarted", {}))
                self._waiting.appendleft(job)
        worker.jobs.clear()
        self._begin()

    # -- what workers say --------------------------------------------------------------------------------------------

    def _on_ready(self, worker: WorkerProcess, words: dict[str, Any]) -> None:
        assert self._first is not None
        if not self._first.done():
            self.facts, self.warnings = words["facts"], list(words["warnings"])
            self._first.set_result(None)
        self._begin()

    def _on_answer(self, worker: WorkerProcess, job: Job, news: News) -> None:
        seconds = asyncio.get_running_loop().time() - job.began
        if news.kind == "done":
            self._mean += SMOOTH * (seconds - self._mean)
            self._metrics.computed(int(news.words["positions"]), seconds)
        job.tell(news)
        most = self._settings.worker_memory
        if most is not None and worker.resident > most:
            worker.draining = True
        if worker.draining and not worker.jobs:
            worker.kill("replaced")
        self._begin()

    async def _watch(self) -> None:
        """Deadlines, and workers that hang."""
        while True:
            await asyncio.sleep(TICK)
            now = asyncio.get_running_loop().time()
            try:
                self._look(now)
            except Exception:  # without this nobody would look at deadlines any more
                log.exception("looking at deadlines failed")

    def _look(self, now: float) -> None:
        limits = self._settings.limits
        self._begin()  # which looks at the first in the queue
        for job in [one for one in self._waiting if one.until < now]:
            self._waiting.remove(job)
            job.tell(refused(503, "the deadline passed before a worker was free", self.retry_after()))
        for worker in self._workers:
            for job in list(worker.jobs.values()):
                if not job.ended and now > job.until + limits.overrun:
                    job.tell(refused(504, "nothing was computed by the deadline"))
                    worker.cancel(job)
                if now > job.until + limits.overrun + limits.hang:
                    worker.kill("it did not answer")
            if worker.ready and now - worker.heard > limits.hang:
                worker.kill("it hung")
