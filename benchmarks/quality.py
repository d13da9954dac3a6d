"""Approximate maps on images that were not used for tuning: quality, estimate, speed (docs/quality.md).

    python benchmarks/quality.py --models DIR --only vgg16,squeezenet --cache maps --json quality.json

For every model the maps of all images are computed once a fidelity (and kept in --cache). Then every image is left out
in turn: a setting is tuned on the others, the left-out image is explained with it, end to end, beside full inference
timed in the same minute, and its map compared with the exact one. `quality_report.py` makes tables and figures of the
JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import environment
from measuring import Naive
from models import Model, find_models, middle_square, prepared
from PIL import Image

import krypton_onnx as kx
from krypton_onnx.runtime.approximate import observe
from krypton_onnx.runtime.fidelity import EXACT, Fidelity
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.policy import CANDIDATES, Observation, Trials, choose, every_trial, worthwhile
from krypton_onnx.runtime.quality import ssim
from krypton_onnx.runtime.question import Question
from krypton_onnx.runtime.schedule import position_cost
from krypton_onnx.runtime.scores import Scored
from krypton_onnx.runtime.session import available_cores
from krypton_onnx.runtime.tuner import tuning_of
from krypton_onnx.runtime.tuning import specification

PATCH, STRIDE = 16, 4
SCORES = {"squeezenet": "output", "efficientnet_lite0": "logit"}  # margins of the others: their softmax is saturated
# Sources of their own, all of them shipped with scikit-image and scikit-learn.
PICTURES = (
    "astronaut", "camera", "chelsea", "coffee", "rocket", "coins", "clock", "retina", "china", "flower",
    "hubble_deep_field", "immunohistochemistry", "moon", "page", "horse", "cell", "microaneurysms", "brick", "grass",
    "gravel",
)  # fmt: skip
NAIVE_SECONDS = 1.0
TARGETS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97)  # of the curve of SSIM against speed


def picture(name: str) -> Image.Image:
    """A picture of scikit-image or scikit-learn, or a file; its middle square."""
    if Path(name).is_file():
        return middle_square(Image.open(name))
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return middle_square(Image.fromarray(load_sample_image(f"{name}.jpg")))
    import skimage.data

    pixels = getattr(skimage.data, name)()
    return middle_square(Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels))


def source(name: str) -> str:
    """What an image is a crop or slice of: files are named SOURCE-NUMBER."""
    return Path(name).stem.rpartition("-")[0] or Path(name).stem


class Laboratory:
    """One model, its images, and their maps at every fidelity."""

    def __init__(self, model: Model, cache: Path) -> None:
        self.model, self.cache = model, cache
        self.session = kx.OcclusionSession(str(model.path))
        self.score = SCORES.get(model.name, "margin")
        self.occlusion = Occlusion(PATCH, STRIDE)

    def array(self, name: str) -> np.ndarray:
        return prepared(self.model, self.session, picture(name))

    @property
    def scored(self) -> Scored:
        return Scored(self.score)

    def question(self, name: str) -> Question:
        return self.session.question(self.array(name), self.occlusion, self.scored)

    def fidelities(self, name: str) -> list[Fidelity]:
        """What tuning would try: all that freeze nothing, and those of the others that are worth it."""
        question = self.question(name)
        return list(dict.fromkeys((*CANDIDATES, *worthwhile(question.plans, question.grid))))

    def observation(self, name: str, fidelities: list[Fidelity]) -> Observation:
        """Maps as cached, or computed now."""
        question = self.question(name)
        maps = {}
        for fidelity in fidelities:
            kind = f"{fidelity.reach}-{fidelity.light}{'-frozen' if fidelity.frozen else ''}"
            file = self.cache / f"{self.model.name}-{Path(name).stem}-{kind}.npy"
            if not file.exists():
                scores, seconds = observe(question, fidelity)
                np.save(file, scores)
                print(f"  {file.stem}: {1e3 * seconds / scores.size:.3f} ms a position", flush=True)
            maps[fidelity] = np.load(file)
        return Observation(name, maps)

    def naive(self, name: str) -> Naive:
        question = self.question(name)
        return Naive(self.model.path, question.image, self.session.layout, question.grid, available_cores())


def left_out(laboratory: Laboratory, observations: list[Observation], min_ssim: float) -> dict[str, Any]:
    """Every image explained by a tuning on the images of other sources."""
    first = laboratory.question(observations[0].name)
    grid = first.grid
    cost = {
        fidelity: position_cost(first.plan(fidelity.frozen), grid, fidelity) for fidelity in observations[0].maps
    }
    tried = every_trial(observations, cost, 0)
    wanted = specification(first, laboratory.occlusion, laboratory.scored)
    naive = laboratory.naive(observations[0].name)
    rows = []
    for number, observation in enumerate(observations):
        others = [one for one in range(len(observations)) if source(observations[one].name) != source(observation.name)]
        choice = choose([_only(one, others) for one in tried], min_ssim)
        names = [observations[one].name for one in others]
        laboratory.session.tuning = tuning_of(choice, first, wanted, min_ssim, names, 0.0)
        image = laboratory.array(observation.name)
        naive_ms = naive.slice(NAIVE_SECONDS)
        seconds = []
        for _ in range(1 if number else 2):  # the first map of all makes sessions and kernels
            started = time.perf_counter()
            heat_map = laboratory.session.explain(
                image, score=laboratory.score, patch=PATCH, stride=STRIDE, mode="approximate"
            )
            seconds.append(time.perf_counter() - started)
        exact = observation.maps[EXACT]
        spent = seconds[-1]
        rows.append(
            {
                "image": Path(observation.name).stem, "source": source(observation.name),
                "target": heat_map.targets[0], "baseline": float(heat_map.baseline[0]),
                "ssim": ssim(exact, heat_map.scores[0]), "estimated": heat_map.estimated_ssim,
                "expected": heat_map.expected_ssim, "computed": float(heat_map.computed.mean()),
                "seconds": spent, "naive_ms": naive_ms, "speedup": naive_ms * exact.size / 1e3 / spent,
                "completed_exactly": bool(heat_map.note), "reach": choice.trials.setting.fidelities[0].reach,
                "light": choice.trials.setting.fidelities[0].light,
                "frozen": choice.trials.setting.fidelities[0].frozen, "margin": choice.margin,
                "rungs": choice.trials.setting.rungs,
            }
        )  # fmt: skip
        row = rows[-1]
        print(
            f"  {row['image']:22s} SSIM {row['ssim']:.3f} estimated {row['estimated']:.3f} "
            f"computed {row['computed']:.0%} {row['speedup']:.1f}x (reach {row['reach']}, margin {row['margin']})",
            flush=True,
        )
        np.save(laboratory.cache / f"{laboratory.model.name}-{row['image']}-approximate.npy", heat_map.scores[0])
    return {
        "model": laboratory.model.name, "score": laboratory.score, "positions": int(grid.positions), "images": rows,
        "curve": curve(tried), "ladders": ladders(tried, observations), "naive_batch": naive.batch,
    }  # fmt: skip


def _only(tried: Trials, images: list[int]) -> Trials:
    for image in reversed(range(len(tried.losses))):
        if image not in images:
            tried = tried.without(image)
    return tried


def curve(tried: list[Trials]) -> list[dict[str, float]]:
    """SSIM and speed over exact maps for several promises, by the model of cost."""
    points = []
    for target in TARGETS:
        choice = choose(tried, target)
        points.append(
            {
                "min_ssim": target, "ssim": float(choice.similarities.mean()),
                "lowest": float(choice.similarities.min()),
                "speedup": float(choice.trials.whole.mean() / choice.costs.mean()),
            }
        )  # fmt: skip
    return points


def ladders(tried: list[Trials], observations: list[Observation]) -> list[dict[str, Any]]:
    """Of every fidelity: its map's own SSIM, and SSIM and speed on each rung, means over the images."""
    return [
        {
            "reach": one.setting.fidelities[0].reach, "light": one.setting.fidelities[0].light,
            "frozen": one.setting.fidelities[0].frozen,
            "alone": float(np.mean([ssim(o.maps[EXACT], o.maps[one.setting.fidelities[0]]) for o in observations])),
            "rungs": one.setting.rungs, "ssim": one.similarities[:, 0].mean(axis=0).tolist(),
            "speedup": (one.whole[:, :1] / one.costs[:, 0]).mean(axis=0).tolist(),
        }
        for one in tried
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="folder of .onnx files")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these models only")
    parser.add_argument("--images", type=Path, metavar="DIR", help="more pictures: SOURCE-NUMBER.png")
    parser.add_argument("--pictures", type=int, default=len(PICTURES), metavar="N", help="only the first N")
    parser.add_argument("--min-ssim", type=float, default=0.9)
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder for the maps")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="results; other models in it are kept")
    parser.add_argument("--collect-only", action="store_true", help="compute the maps, time nothing")
    chosen = parser.parse_args()
    chosen.cache.mkdir(parents=True, exist_ok=True)
    names = list(PICTURES[: chosen.pictures])
    if chosen.images is not None:
        names += [str(file) for file in sorted(chosen.images.glob("*.png"))]
    with tempfile.TemporaryDirectory() as folder:
        models, missing = find_models(chosen.models, filter(None, chosen.only.split(",")), Path(folder))
        for model in missing:
            print(f"{model.name}: {model.how}", file=sys.stderr)
        for model in models:
            print(model.name, flush=True)
            laboratory = Laboratory(model, chosen.cache)
            fidelities = laboratory.fidelities(names[0])
            observations = [laboratory.observation(name, fidelities) for name in names]
            if chosen.collect_only:
                continue
            known = json.loads(chosen.json.read_text()) if chosen.json.exists() else {"models": {}}
            known["machine"] = vars(environment())
            known["models"][model.name] = left_out(laboratory, observations, chosen.min_ssim)
            chosen.json.write_text(json.dumps(known, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
