"""Starts `krypton-onnx serve` as users do, and asks it. Skips who imports it where the extra is missing."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "fastapi_offline", "jinja2"):
    pytest.importorskip(package, reason=f"{package} is not installed (the extra serve)")
httpx = pytest.importorskip("httpx", reason="httpx is not installed (the extra dev)")

STARTING = 90  # seconds that a busy machine may take
PREPARING = ("--preset", "imagenet", "--labels", "labels.txt")
SLOW = {"stride": "1", "patch": "4", "fill": "surroundings", "fill_samples": "12"}
"""Options of an explanation that takes seconds: 44 652 patches."""


class Service:
    """A server in a process of its own. lines : of stderr."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "krypton_onnx", "serve", *arguments],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )  # fmt: skip
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, (line, self.process.wait(STARTING), self.lines)
        self.url = found[0].rstrip("/")
        self.client = httpx.Client(base_url=self.url, timeout=STARTING)

    def _read(self) -> None:
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def explain(self, image: bytes | Path, path: str = "/explain", **options):
        content = image.read_bytes() if isinstance(image, Path) else image
        return self.client.post(path, files={"image": ("photo.jpg", content)}, params=options)

    def workers(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in own if "krypton_onnx.service.worker" in one.cmdline()]

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.M)
        return float(found[1])

    def end(self) -> int:
        """The exit code of SIGTERM."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def events_of(answer) -> list[tuple[str, dict]]:
    """(name, data) of each event in a stream."""
    found, name = [], ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            found.append((name, json.loads(line[6:])))
    return found


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """The one line of a server that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "krypton_onnx", "serve", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=STARTING, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == "", done
    [line] = done.stderr.splitlines()
    return line


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **environment: str):
    """A service on a free port, ended at the end."""
    one = Service(folder, *arguments, "--port", "0", **environment)
    try:
        yield one
        assert one.end() == 0
        assert not [line for line in one.lines if "error" in line], one.lines
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
