"""A service at saturation: what its clients get, how long they wait, what memory it takes, and what a kill -9 costs.

    python benchmarks/service.py                          # 8 clients for 2 minutes, SqueezeNet
    python benchmarks/service.py --seconds 20 --kill      # a worker is killed in the middle
    python benchmarks/service.py --model m.onnx --image i.png --preset imagenet --json service.json

Clients ask again as soon as they are answered, and after Retry-After where they are refused. Exit code 1 where anything
but 200 and 429 was answered, or memory grew.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
from machine import cpu_model
from PIL import Image

import krypton_onnx as kx
from krypton_onnx import demo
from krypton_onnx.runtime.session import available_cores

EVERY = 1.0  # seconds between two looks at the memory
GREW = 1.1  # the last quarter's most over the second quarter's: more is a leak


@dataclass(frozen=True)
class Measured:
    """statuses : answers by status, and "failed" for connections. seconds: of what was answered 200.

    server_mb, workers_mb : at every second, of the server and of all its workers together. recovered_s : from the kill
    of a worker to the next answer 200; None where none was killed.
    """

    statuses: dict[str, int]
    p50_s: float
    p95_s: float
    longest_s: float
    per_second: float
    server_mb: list[float]
    workers_mb: list[float]
    recovered_s: float | None

    @property
    def sound(self) -> bool:
        """No error but 429, and memory is flat: of all, or of each since a worker was killed."""
        return set(self.statuses) <= {"200", "429"} and grown(self.server_mb) <= GREW and grown(self.workers_mb) <= GREW


def grown(values: list[float]) -> float:
    """The most of the last quarter over that of the second one."""
    quarter = len(values) // 4
    return 1.0 if quarter == 0 else max(values[-quarter:]) / max(values[quarter : 2 * quarter])


class Clients:
    """Threads that ask until `stop`; `answers` as (when, status, seconds)."""

    def __init__(self, url: str, image: bytes, options: dict[str, str], count: int) -> None:
        self.answers: list[tuple[float, str, float]] = []
        self._url, self._image, self._options = url, image, options
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=300) as client:
            while not self._stopped.is_set():
                began, wait = time.monotonic(), 0.0
                try:
                    answer = client.post("/explain", files={"image": ("i.png", self._image)}, params=self._options)
                    status, wait = str(answer.status_code), float(answer.headers.get("retry-after", 0))
                except httpx.HTTPError as error:
                    status = f"failed: {type(error).__name__}"
                now = time.monotonic()
                self.answers.append((now, status, now - began))
                self._stopped.wait(wait)


def workers(server: psutil.Process) -> list[psutil.Process]:
    found = []
    for one in server.children():
        try:
            if "krypton_onnx.service.worker" in one.cmdline():
                found.append(one)
        except psutil.Error:
            continue
    return found


def megabytes(processes: list[psutil.Process]) -> float:
    total = 0
    for one in processes:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return round(total / 1e6, 1)


def measure(arguments: argparse.Namespace, folder: Path) -> Measured:
    """Start the service, ask, end it. Raises RuntimeError where it does not start."""
    command = [
        sys.executable, "-m", "krypton_onnx", "serve", str(arguments.model), "--port", "0", "--log", "none",
        "--workers", str(arguments.workers), "--concurrency", str(arguments.concurrency), "--queue",
        str(arguments.queue), *(["--preset", arguments.preset] if arguments.preset else []),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                raise RuntimeError("the service did not start")
            return asked(arguments, found[0], psutil.Process(process.pid))
        finally:
            process.terminate()


def asked(arguments: argparse.Namespace, url: str, server: psutil.Process) -> Measured:
    options = {"stride": str(arguments.stride), "patch": str(arguments.patch)}
    clients = Clients(url, arguments.image.read_bytes(), options, arguments.clients)
    began = time.monotonic()
    server_mb, workers_mb, killed = [], [], None
    clients.start()
    try:
        while (now := time.monotonic()) < began + arguments.seconds:
            if arguments.kill and killed is None and now > began + arguments.seconds / 2:
                killed = now
                workers(server)[0].kill()
            server_mb.append(megabytes([server]))
            workers_mb.append(megabytes(workers(server)))
            time.sleep(EVERY)
    finally:
        clients.stop()
    seconds = sorted(one for _, status, one in clients.answers if status == "200") or [float("nan")]
    after = [when for when, status, _ in clients.answers if status == "200" and killed is not None and when > killed]
    percentiles = statistics.quantiles(seconds, n=20) if len(seconds) > 1 else seconds * 19
    return Measured(
        dict(Counter(status for _, status, _ in clients.answers)), statistics.median(seconds), percentiles[18],
        seconds[-1], len(seconds) / arguments.seconds, server_mb, workers_mb,
        min(after) - killed if killed is not None and after else None,
    )  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: SqueezeNet and its photograph, of krypton_onnx.demo")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--queue", type=int, default=4)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--kill", action="store_true", help="kill -9 a worker in the middle")
    parser.add_argument("--json", type=Path, help="write all of it here")
    arguments = parser.parse_args()
    if (arguments.model is None) != (arguments.image is None):
        parser.error("give --model and --image, or neither")
    return arguments


def tell(arguments: argparse.Namespace, measured: Measured) -> None:
    name, grid = arguments.model.name, f"patch {arguments.patch}, stride {arguments.stride}"
    slots = f"{arguments.workers} workers x {arguments.concurrency}, queue {arguments.queue}"
    print(f"{name}, {grid}: {arguments.clients} clients for {arguments.seconds:g} s; {slots}")
    print("answers:", ", ".join(f"{status}: {count}" for status, count in sorted(measured.statuses.items())))
    latency = f"p50 {measured.p50_s:.2f} s, p95 {measured.p95_s:.2f} s, longest {measured.longest_s:.2f} s"
    print(f"latency of 200: {latency}; {measured.per_second:.2f} maps/s")
    for what, values in (("server", measured.server_mb), ("workers", measured.workers_mb)):
        sizes = f"{values[0]:.0f} MB at first, {max(values):.0f} MB at most, {values[-1]:.0f} MB at last"
        print(f"memory of the {what}: {sizes}; last quarter over second {grown(values):.3f}")
    if measured.recovered_s is not None:
        print(f"a worker was killed: the next map came after {measured.recovered_s:.2f} s")


def main() -> int:
    arguments = parsed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.model is None:
            arguments.model, arguments.image = folder / "squeezenet.onnx", folder / "photograph.png"
            kx.convert(demo.squeezenet(), arguments.model, preparation=demo.PREPARATION, check=False)
            Image.fromarray(demo.photograph()).save(arguments.image)
        arguments.model, arguments.image = arguments.model.resolve(), arguments.image.resolve()
        measured = measure(arguments, folder)
    tell(arguments, measured)
    if arguments.json is not None:
        about = {
            "version": kx.__version__, "cpu": cpu_model(), "cores": available_cores(),
            "arguments": {name: str(value) for name, value in vars(arguments).items()},
        }  # fmt: skip
        arguments.json.write_text(json.dumps({**about, **asdict(measured), "sound": measured.sound}, indent=1) + "\n")
    return 0 if measured.sound else 1


if __name__ == "__main__":
    sys.exit(main())
