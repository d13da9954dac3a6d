"""One job of gpu.py in this process: `python benchmarks/gpu_worker.py JOB QUESTION`, a word and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gpu_jobs import tell


def _place(**_: Any) -> Iterator[dict[str, Any]]:
    import gpu_place

    yield gpu_place.find().to_dict()


def _launch(**_: Any) -> Iterator[dict[str, Any]]:
    import gpu_launch

    yield from gpu_launch.measure()


def _model(**question: Any) -> Iterator[dict[str, Any]]:
    import gpu_models

    yield from gpu_models.job(**question)


def _memory(**question: Any) -> Iterator[dict[str, Any]]:
    import gpu_memory

    yield gpu_memory.job(**question)


def _kernels(**question: Any) -> Iterator[dict[str, Any]]:
    import gpu_kernels

    yield from gpu_kernels.job(**question)


JOBS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "place": _place, "launch": _launch, "model": _model, "memory": _memory, "kernels": _kernels,
}  # fmt: skip


def main() -> None:
    job, question = sys.argv[1], json.loads(sys.argv[2])
    for result in JOBS[job](**question):
        tell(result)


if __name__ == "__main__":
    main()
