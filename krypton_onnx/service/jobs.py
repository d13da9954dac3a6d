"""A request on its way through the workers: what is asked, and a mailbox for what comes back."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

_ids = itertools.count(1)


@dataclass(frozen=True)
class News:
    """What a worker or the pool says of a job.

    kind : "progress", "refinement", "restarted", and as the last "done", "refused" or "cancelled".
    """

    kind: str
    words: dict[str, Any]
    payload: bytes = b""

    @property
    def final(self) -> bool:
        return self.kind in ("done", "refused", "cancelled")


def refused(status: int, detail: str, retry_after: int | None = None) -> News:
    """An end without an answer."""
    return News("refused", {"status": status, "detail": detail, "retry_after": retry_after})


@dataclass(eq=False)
class Job:
    """One explanation that somebody waits for.

    asked : the fields of the frame `explain`, but its id and seconds. until : when the answer is due, on the loop's
    clock. attempts : how often a worker has begun it. abandoned : nobody waits any more, whatever comes.

    Of progress and refinements only the latest waits: a client that reads slowly misses some, and costs no memory.
    """

    asked: dict[str, Any]
    upload: bytes
    until: float
    id: int = field(default_factory=lambda: next(_ids))
    attempts: int = 0
    began: float = 0.0
    abandoned: bool = False
    _latest: dict[str, News] = field(default_factory=dict)
    _there: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: bool = False

    def tell(self, news: News) -> None:
        """Put it into the mailbox. After the last news nothing else is taken."""
        if self._ended:
            return
        if news.final:
            self._ended = True
            self.upload = b""
        self._latest[news.kind] = news
        self._there.set()

    @property
    def ended(self) -> bool:
        """Whether its last news has come."""
        return self._ended

    async def news(self) -> News:
        """The next of it, in this order: restarted, progress, refinement, the last."""
        await self._there.wait()
        kind = next(one for one in (*_ORDER, *self._latest) if one in self._latest)
        first = self._latest.pop(kind)
        if not self._latest:
            self._there.clear()
        return first

    async def outcome(self) -> News:
        """The last news."""
        while True:
            news = await self.news()
            if news.final:
                return news


_ORDER = ("restarted", "progress", "refinement")
