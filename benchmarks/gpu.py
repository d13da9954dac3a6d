"""Exact maps on an NVIDIA GPU: are they exact, and how fast beside full inference on the same GPU (docs/cuda.md).

    python benchmarks/gpu.py [--models DIR ...] [--only NAME,...] [--json FILE] [--markdown FILE] [--minutes 10]
    python benchmarks/gpu.py --simulate       # no GPU: only the kernels, only checked, in Numba's simulator

With onnxruntime-gpu every model is checked, then timed; then, and where it is missing, the CUDA kernels are checked
and timed one by one beside cuDNN through PyTorch. Each model has a process of its own: what breaks is told, the rest
goes on.
Exit code 1: no GPU, or something failed, or an aim does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu_kernels
import gpu_made
import numpy as np
import onnx
from gpu_jobs import JobFailed, results
from gpu_place import GpuPlace
from gpu_report import CHOSEN, GpuReport
from models import RECIPES, Model, find_models, image_for, middle_square, prepared

import krypton_onnx as kx
from krypton_onnx.errors import one_line
from krypton_onnx.files import atomic_write, require_writable

SIMULATOR = {"NUMBA_ENABLE_CUDASIM": "1"}
DEVICE = {"NUMBA_ENABLE_CUDASIM": "0"}
FIRST = ("vgg16",)  # what the aims speak of
TUNED = ("vgg16", "squeezenet", "nsfw", "efficientnet_lite0", "inception_v3")  # trained, so approximate maps tell much
TUNING_PICTURES = ("astronaut", "rocket")
TINY = {"path": None, "image": None, "patch": [4, 4], "stride": [8, 8]}  # what is asked in the simulator
RESTARTS = 3  # of a model's kernels, after one that ended the process
STARTING = 60.0  # seconds in which a process may start before its own time counts


class Run:
    """One run of the benchmark: what is left of its time, and the report, written as it grows."""

    def __init__(self, report: GpuReport, minutes: float, file: Path | None) -> None:
        self.report, self.file = report, file
        self.asked: dict[str, dict[str, Any]] = {}  # what the jobs of a model are asked, by its name
        self.deadline = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def write(self) -> None:
        if self.file is not None:
            with atomic_write(self.file) as temporary:
                temporary.write_text(json.dumps(self.report.to_dict(), indent=1) + "\n")

    def job(self, job: str, question: dict[str, Any], seconds: float) -> Iterator[dict[str, Any]]:
        """As gpu_jobs.results, on the device or in the simulator, never beyond the run's end."""
        where = SIMULATOR if self.report.simulated else DEVICE
        yield from results(job, question, min(seconds, max(self.left, 5.0)), where)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure_launches(run: Run) -> None:
    """What queueing costs."""
    try:
        for found in run.job("launch", {}, STARTING + 30):
            run.report.launch |= found
    except JobFailed as error:
        run.report.failed["launches"] = str(error)
    run.write()


def measure_model(run: Run, model: Model, seconds: float, scratch: Path) -> None:
    """Exactness, times, overhead, approximate maps, memory: what of it there is time for."""
    entry: dict[str, Any] = {"model": model.name}
    run.report.models.append(entry)
    end = time.monotonic() + seconds
    try:
        question = run.asked[model.name]
        tuning = tuning_images(model, scratch) if model.name in TUNED else []
        extra = {"name": model.name, "seconds": seconds / 4, "approximate": tuning}
        for found in run.job("model", {**question, **extra}, STARTING + 2 * seconds):
            entry |= found
            run.write()
        for way in ("naive", CHOSEN, "fused"):
            if time.monotonic() > end and run.left < STARTING:
                continue
            batch = {"way": way, "batch": entry["naive_batch"]}
            memory = entry.setdefault("memory", {})
            try:
                for found in run.job("memory", {**question, **batch}, STARTING + seconds):
                    memory[way] = found
            except JobFailed as error:
                memory[way] = {"failed": str(error)}
            run.write()
    except Exception as error:  # the other models are still worth measuring
        entry["failed"] = one_line(error) or type(error).__name__
    run.write()


def ask(model: Model, scratch: Path, patch: int, stride: int) -> dict[str, Any]:
    """What the jobs of a model are asked; its image is left in a file."""
    session = kx.OcclusionSession(str(model.path))
    file = scratch / f"{model.name}.npy"
    try:
        image = image_for(model, session)
    except ImportError:  # no pictures here
        image = gpu_kernels.random_image(session.plan())
    np.save(file, image)
    plan = session.plan(image)
    return {"path": str(model.path), "image": str(file), "layout": session.layout, "output": plan.outputs[0],
            "patch": [patch, patch], "stride": [stride, stride]}  # fmt: skip


def tuning_images(model: Model, scratch: Path) -> list[str]:
    """Files of pictures other than the model's own; none where there are no pictures."""
    try:
        import skimage.data
        from PIL import Image
    except ImportError:
        return []
    session = kx.OcclusionSession(str(model.path))
    files = []
    for name in TUNING_PICTURES:
        if name != model.recipe.picture:
            files.append(scratch / f"{model.name}-{name}.npy")
            picture = middle_square(Image.fromarray(getattr(skimage.data, name)()))
            np.save(files[-1], prepared(model, session, picture))
    return [str(file) for file in files]


def measure_kernels(run: Run, model: str, asked: dict[str, Any], seconds: float) -> None:
    """Every kind of node of a model; where one ends the process, the next process begins behind it."""
    end = time.monotonic() + seconds
    done: list[str] = []
    for _ in range(RESTARTS):
        began = ""
        which = {key: asked[key] for key in ("path", "image", "patch", "stride")}
        question = {**which, "model": model, "skip": done, "timed": not run.report.simulated}
        try:
            for found in run.job("kernels", question, STARTING + max(0.0, end - time.monotonic())):
                if "op_type" in found:
                    run.report.kernels.append(found)
                    done.append(found["node"])
                    began = ""
                    run.write()
                elif "began" in found:
                    began = found["began"]
                else:
                    run.report.facts |= {key: found[key] for key in ("peak", "without_torch") if key in found}
            return
        except JobFailed as error:
            run.report.failed[f"kernels of {model}{', ' + began if began else ''}"] = str(error)
            run.write()
            if not began or time.monotonic() > end:
                return
            done.append(began)


def _asked(run: Run, model: Model, patch: int, stride: int, scratch: Path) -> bool:
    """Whether there is something to ask of this model; if not, the report says why."""
    if model.name in run.asked or model.name in run.report.failed:
        return model.name in run.asked
    try:
        run.asked[model.name] = ask(model, scratch, patch, stride)
    except Exception as error:  # a file that is broken, or no model that can be explained
        run.report.failed[model.name] = one_line(error) or type(error).__name__
    return model.name in run.asked


def find_place(simulated: bool) -> GpuPlace:
    """Raises JobFailed where even that cannot be told."""
    (found,) = results("place", {}, 3 * STARTING, SIMULATOR if simulated else DEVICE)
    return GpuPlace.from_dict(found)


def chosen_models(folders: list[Path], only: list[str], scratch: Path, report: GpuReport) -> list[Model]:
    """Those at hand, what the aims speak of first; VGG16 with random weights where no file of it is here."""
    models, missing = find_models(folders, only, scratch)
    report.skipped |= {entry.name: entry.how for entry in missing}
    if "vgg16" in report.skipped and (not only or "vgg16" in only):
        path = scratch / "vgg16_random.onnx"
        onnx.save(gpu_made.vgg16(), path)
        models.append(Model("vgg16_random", path, RECIPES["vgg16"]))
    return sorted(models, key=lambda model: (not model.name.startswith(FIRST), model.recipe.cost))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog="What it measures: docs/cuda.md")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="folder of .onnx files")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these models only")
    parser.add_argument("--part", choices=("auto", "models", "kernels"), default="auto", help="only that part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything measured, written as it comes")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the whole run (default %(default)s)")
    parser.add_argument("--patch", type=int, default=16, help="pixels (default %(default)s)")
    parser.add_argument("--stride", type=int, default=4, help="pixels (default %(default)s)")
    parser.add_argument("--simulate", action="store_true", help="check tiny kernels without a GPU, time nothing")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for file in (chosen.json, chosen.markdown):
                if file is not None:
                    require_writable(file)
            place = find_place(chosen.simulate)
        except (kx.KryptonError, JobFailed) as error:
            parser.error(str(error))
        if not (place.kernels or chosen.simulate):
            why = "; ".join(f"{name}: {place.missing[name]}" for name in ("numba", "cupy") if name in place.missing)
            tell(f"gpu.py: no GPU can be used here ({why}); --simulate checks the kernels without one")
            return 1
        run = Run(GpuReport(place, simulated=chosen.simulate), chosen.minutes, chosen.json)
        if chosen.simulate:
            measure_kernels(run, gpu_kernels.TINY, TINY, run.left)
        else:
            try:
                only = list(filter(None, chosen.only.split(",")))
                models = chosen_models(chosen.models, only, Path(folder), run.report)
            except ValueError as error:
                parser.error(str(error))
            measure(run, models, chosen.part, chosen.patch, chosen.stride, Path(folder))
    run.write()
    text = run.report.to_markdown()
    print(text, end="")
    if chosen.markdown is not None:
        with atomic_write(chosen.markdown) as temporary:
            temporary.write_text(text)
    return 0 if run.report.good else 1


def measure(run: Run, models: list[Model], part: str, patch: int, stride: int, scratch: Path) -> None:
    """Both parts, as far as they can be measured here."""
    sessions = run.report.place.sessions and part != "kernels"
    kernels = part != "models"
    if part == "models" and not sessions:
        run.report.failed["models"] = run.report.place.missing.get("onnxruntime", "sessions on CUDA cannot be made")
    tell("what queueing costs")
    measure_launches(run)
    parts = (sessions and 3) + (kernels and 1)  # three quarters of the time for the models
    whole = run.left
    for index, model in enumerate(models if sessions else []):
        left = run.left - whole * kernels / max(1, parts)
        if left <= 0:
            run.report.failed[model.name] = "no time was left"
            continue
        tell(f"[{index + 1}/{len(models)}] {model.name} ({left / (len(models) - index):.0f} s)")
        if not _asked(run, model, patch, stride, scratch):
            continue
        measure_model(run, model, left / (len(models) - index), scratch)
    for index, model in enumerate(models if kernels else []):
        if run.left < STARTING / 2:
            run.report.failed[f"kernels of {model.name}"] = "no time was left"
            continue
        tell(f"[{index + 1}/{len(models)}] kernels of {model.name}")
        if not _asked(run, model, patch, stride, scratch):
            continue
        measure_kernels(run, model.name, run.asked[model.name], run.left / (len(models) - index))


if __name__ == "__main__":
    sys.exit(main())
