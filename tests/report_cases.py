"""Explanations to make reports of: some of a small model, some made up, where a model would not do."""

import numpy as np
import onnx
from PIL import Image
from tiny_models import tiny

import krypton_onnx as kx
from krypton_onnx.explanation import Explanation
from krypton_onnx.images import Preparation
from krypton_onnx.runtime.heat_map import HeatMap

HEIGHT, WIDTH = 60, 72
# Names that would be markup, that hold quotes, another script, a turn of direction; one that is very long.
HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror=\"window.hacked = 2\"> & 'quoted'",
    "心电图, наблюдение, \u202eتخطيط",
    "a name " * 40,
)


def explained(folder, name="photo.png", labels=("cat", "dog", "bird", "fish"), **how) -> Explanation:
    """Of the tiny model and seeded noise with a bright square; `how` goes into the specification."""
    model, photo = folder / "model.onnx", folder / name
    if not model.exists():
        onnx.save(tiny(height=HEIGHT, width=WIDTH), model)
    if not photo.exists():
        Image.fromarray(noise(HEIGHT, WIDTH)).save(photo)
    preparation = Preparation(size=(HEIGHT, WIDTH), mean=(0.5,), std=(0.25,))
    given = {"patch": (12, 10), "stride": (4, 5), "fill": "blur", "top": 3, **how}
    return kx.ExplanationSpec(str(model), preparation=preparation, **given).explanation(photo, labels=labels)


def noise(height, width, seed=0) -> np.ndarray:
    """uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def made_up(height=40, width=50, patch=(8, 6), stride=(2, 3), classes=2, **changes) -> Explanation:
    """Seeded scores of no model at all; the patches are noise, another one at every position.

    changes : fields of the heat map or of the explanation that shall be otherwise.
    """
    rng = np.random.default_rng(7)
    tops, lefts = np.arange(0, height - patch[0] + 1, stride[0]), np.arange(0, width - patch[1] + 1, stride[1])
    shape = (classes, len(tops), len(lefts))
    of_the_map = {
        "scores": rng.random(shape, np.float32), "baseline": np.full(classes, 0.75, np.float32),
        "targets": tuple(range(classes)), "tops": tops, "lefts": lefts, "patch": patch, "stride": stride,
        "mode": "exact", "computed": np.ones(shape[1:], bool), "frame": (height, width),
        "predicted": rng.integers(0, 4, shape[1:]), "score_name": "probability",
    }  # fmt: skip
    of_the_explanation = {
        "spec": kx.ExplanationSpec("model.onnx", "0" * 64, patch=patch, stride=stride), "source": "photo.png",
        "source_sha256": "1" * 64, "picture": noise(height, width), "steps": ("read", "divided by 255"),
        "occluded": _noise_of_each, "seconds": 71.4, "made": "2026-05-04T03:02:01+00:00", "labels": None,
    }  # fmt: skip
    for name, value in changes.items():
        (of_the_map if name in HeatMap.__dataclass_fields__ else of_the_explanation)[name] = value
    _noise_of_each.patch = patch
    return Explanation(HeatMap(**of_the_map), **of_the_explanation)


def _noise_of_each(tops, lefts):
    height, width = _noise_of_each.patch
    return np.random.default_rng(int(tops[0])).integers(0, 256, (len(tops), height, width, 3), np.uint8)


def hidden(explanation, row, col) -> np.ndarray:
    """uint8 (H, W, 3): the picture with the patch of that cell pasted into it."""
    heat_map = explanation.heat_map
    top, left = heat_map.tops[row], heat_map.lefts[col]
    picture = explanation.picture.copy()
    (patch,) = explanation.occluded(np.array([top]), np.array([left]))
    picture[top : top + heat_map.patch[0], left : left + heat_map.patch[1]] = patch
    return picture
