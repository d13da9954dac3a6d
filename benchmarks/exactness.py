"""Exact against naive at every position of the full grid (the benchmark compares a sample, in less time).

    python benchmarks/exactness.py --models DIR --only vgg16,nsfw

Naive is `mode="naive"`, full inference of every occluded image. Where the model ends in a Softmax or Sigmoid the logits
are compared as well: a saturated probability hides a difference, its logit does not. Exit code 1 where a map is not
exact.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from models import find_models, image_for

import krypton_onnx as kx
from krypton_onnx.tolerance import exactness_tolerance, scores_differ


def compare(session: kx.OcclusionSession, image: np.ndarray, score: str, stride: int) -> tuple[str, bool]:
    """One line of the report, and whether the maps are equal within the tolerance."""
    started = time.monotonic()
    classes = top_classes(session, image)
    exact = session.explain(image, targets=classes, score=score, stride=stride)
    naive = session.explain(image, targets=classes, score=score, stride=stride, mode="naive")
    problem, difference = scores_differ(exact.scores, naive.scores)
    allowed = exactness_tolerance(naive.scores)
    seconds = time.monotonic() - started
    line = f"{exact.computed.size} positions, {score}: largest difference {difference:.1e} of {allowed:.1e}"
    return f"{line} allowed, {'NOT exact: ' + problem if problem else 'exact'} ({seconds:.0f} s)", not problem


def top_classes(session: kx.OcclusionSession, image: np.ndarray, count: int = 5) -> list[int]:
    """The classes that the model finds likeliest in the whole image."""
    batch = image.reshape(-1, *image.shape[-3:])
    scores = np.asarray(session.run(None, {session.image_input: batch})[0]).ravel()
    return [int(target) for target in np.argsort(-scores)[:count]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="folder of .onnx files")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these models only")
    parser.add_argument("--stride", type=int, default=4, help="pixels (default %(default)s)")
    parser.add_argument("--no-logits", action="store_true", help="compare the model's own output only: half the time")
    chosen = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        models, _ = find_models(chosen.models, filter(None, chosen.only.split(",")), Path(folder))
        for model in models:
            session = kx.OcclusionSession(str(model.path))
            image = image_for(model, session)
            both = session.plan(image).logits and not chosen.no_logits
            for score in ("output", "logit") if both else ("output",):
                line, equal = compare(session, image, score, chosen.stride)
                print(f"{model.name}: {line}", flush=True)
                good &= equal
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
