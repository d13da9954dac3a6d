"""Work in a process of its own, whose results come line by line.

An error on a GPU ends all that its process does there, and no other. A job is a generator of dicts (`gpu_worker.JOBS`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MARK = "@result "  # before each result on standard output, where libraries print as well
WORKER = Path(__file__).with_name("gpu_worker.py")


class JobFailed(Exception):
    """Why a job ended early, in one line."""


def results(
    job: str, question: Mapping[str, Any], seconds: float, environment: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """What the job gives for this question, as it comes. Raises JobFailed where it breaks or outlasts `seconds`."""
    late = threading.Event()
    seconds = max(1.0, seconds)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, str(WORKER), job, json.dumps(question)],
            stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(MARK):
                    yield json.loads(line.removeprefix(MARK))
            status = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        if late.is_set():
            raise JobFailed(f"it took more than {seconds:.0f} s")
        if status:
            errors.seek(0)
            lines = [line.strip() for line in errors if line.strip()]
            raise JobFailed(f"{lines[-1] if lines else 'no message'} (exit status {status})")


def tell(result: Mapping[str, Any]) -> None:
    """In a job: hand over a result."""
    print(MARK + json.dumps(result, default=float), flush=True)  # also NumPy's numbers
