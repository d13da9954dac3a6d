"""A worker: a process with one session, which decodes and explains what the server sends it.

`python -m krypton_onnx.service.worker FD`: the file descriptor of a socket. The first frame's payload is the pickled
WorkerSettings; after that frames of JSON both ways (frames.py). It ends when the socket does, and by no other signal
than SIGKILL: who stops the service by Ctrl-C stops the server, which lets its workers finish.

From the server: explain {id, seconds, format, stream, caption, asked} with the image; cancel {id}.
To the server: ready {facts, warnings, seconds} or failed {detail}; alive; progress {id, done, total}; refinement {id}
with JSON; done {id, positions, complete, resident} with the body, refused {id, status, detail}, cancelled {id}.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO

from krypton_onnx.errors import ImageError, KryptonError, TooManyPixels, one_line
from krypton_onnx.service import frames

if TYPE_CHECKING:
    from krypton_onnx.runtime.heat_map import HeatMap
    from krypton_onnx.service.explaining import Opened

ALIVE_EVERY = 2.0  # seconds
PROGRESS_EVERY, REFINED_EVERY = 0.1, 0.3
RENDERING = 1.0  # seconds of a deadline that are kept for what comes after the map; at most this share:
RENDERING_SHARE = 0.15


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class Line:
    """The socket, for all threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, words: dict[str, Any], payload: bytes = b"") -> None:
        """Send a frame. A server that is gone ends this process."""
        try:
            with self._lock:
                self._connection.sendall(frames.packed(words, payload))
        except OSError:
            os._exit(0)


class Work:
    """One request. Raises Cancelled out of the explanation once it is."""

    def __init__(self, line: Line, asked: dict[str, Any], upload: bytes) -> None:
        seconds = float(asked["seconds"])
        self.id, self.asked, self.upload, self.line = asked["id"], asked, upload, line
        self.until = time.monotonic() + seconds - min(RENDERING, RENDERING_SHARE * seconds)
        self.cancelled = threading.Event()
        self._progress = self._refined = 0.0
        self.done = 0

    def __call__(self, opened: Opened) -> None:
        """Explain and answer, whatever happens."""
        try:
            self._answer(opened)
        except Cancelled:
            self.line.say({"say": "cancelled", "id": self.id})
        except TooManyPixels as error:
            self._refuse(413, str(error))
        except ImageError as error:
            self._refuse(422, str(error))
        except KryptonError as error:
            self._refuse(422, str(error))
        except MemoryError:
            self._refuse(503, "there is not enough memory for this")
        except Exception as error:
            # Its text may quote what the client sent, or name a file here.
            print(f"krypton-onnx: error in a worker: {type(error).__name__}: {one_line(error)[:300]}", file=sys.stderr)
            self._refuse(500, f"an error of the service itself ({type(error).__name__})")

    def _answer(self, opened: Opened) -> None:
        from krypton_onnx.service.answers import MEDIA_TYPES, answer
        from krypton_onnx.service.explaining import said

        said()
        if self.cancelled.is_set():
            raise Cancelled
        stream = self.asked["stream"]
        explanation = opened.explanation(
            self.upload, self.asked["asked"], self.asked["caption"], self.until, self._on_progress,
            self._on_update if stream else None,
        )  # fmt: skip
        self.upload = b""
        if self.cancelled.is_set():
            raise Cancelled
        heat_map, wanted = explanation.heat_map, self.asked["format"]
        words = {
            "say": "done", "id": self.id, "positions": self.done, "complete": heat_map.complete,
            "resident": resident(), "media_type": MEDIA_TYPES[wanted],
        }  # fmt: skip
        lines = said()
        body = answer(explanation, wanted, lines)
        if stream:
            shown = answer(explanation, "json", lines) if wanted != "json" else body
            words["json"] = len(shown)
            body = shown + (body if wanted != "json" else b"")
        self.line.say(words, body)

    def _refuse(self, status: int, detail: str) -> None:
        self.line.say({"say": "refused", "id": self.id, "status": status, "detail": one_line(detail)[:500]})

    def _on_progress(self, done: int, total: int) -> None:
        self.done = done
        if self.cancelled.is_set():
            raise Cancelled
        now = time.monotonic()
        if self.asked["stream"] and (done == total or now - self._progress >= PROGRESS_EVERY):
            self._progress = now
            self.line.say({"say": "progress", "id": self.id, "done": done, "total": total})

    def _on_update(self, heat_map: HeatMap) -> None:
        from krypton_onnx.service.answers import refinement

        now = time.monotonic()
        if now - self._refined >= REFINED_EVERY:
            self._refined = now
            words = {"say": "refinement", "id": self.id}
            self.line.say(words, json.dumps(refinement(heat_map), allow_nan=False).encode())


def resident() -> int:
    """Bytes of memory that this process has."""
    from krypton_onnx.runtime.memory import resident_bytes

    return resident_bytes()


def serve(connection: socket.socket) -> None:
    """Open the model, say so, and answer until the socket ends."""
    line = Line(connection)
    file: BinaryIO = connection.makefile("rb")
    first = frames.read(file)
    if first is None:
        return
    began = time.monotonic()
    threading.Thread(target=_keep_alive, args=(line,), daemon=True).start()
    try:
        settings = pickle.loads(first[1])  # from the server, which started this process
        from krypton_onnx.service.explaining import keep_warnings, opened

        keep_warnings()
        model = opened(settings)
        facts = model.facts()
    except Exception as error:
        detail = one_line(error) if isinstance(error, (KryptonError, ImportError)) else (
            f"the model cannot be opened: {type(error).__name__}: {one_line(error)[:300]}"
        )
        line.say({"say": "failed", "detail": detail})
        return
    line.say({
        "say": "ready", "facts": facts, "warnings": model.warnings, "seconds": time.monotonic() - began,
        "resident": resident(),
    })  # fmt: skip
    with ThreadPoolExecutor(settings.concurrency, "explain") as threads:
        under_way: dict[int, Work] = {}
        while (frame := frames.read(file)) is not None:
            words, payload = frame
            if words["say"] == "cancel":
                if words["id"] in under_way:
                    under_way[words["id"]].cancelled.set()
            else:
                work = under_way[words["id"]] = Work(line, words, payload)
                future = threads.submit(work, model)
                future.add_done_callback(lambda _, one=work.id: under_way.pop(one, None))  # type: ignore[misc]
        os._exit(0)  # nobody is there to answer to


def _keep_alive(line: Line) -> None:
    while True:
        line.say({"say": "alive"})
        time.sleep(ALIVE_EVERY)


def main() -> None:
    """The process."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
