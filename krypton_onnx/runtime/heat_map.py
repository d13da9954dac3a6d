"""What an explanation returns: one score a target and position, and how it was made."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from krypton_onnx.errors import ImageError, KryptonError
from krypton_onnx.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


# What readers of archives and arrays raise of damaged ones, beside their own errors.
DAMAGED = (OSError, ValueError, TypeError, KeyError, EOFError, AttributeError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Extreme:
    """A position of a map and what hiding the patch there does. Pixels; the patch ends before bottom and right."""

    row: int
    col: int
    top: int
    left: int
    bottom: int
    right: int
    score: float
    drop: float


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Scores of the occluded image, one a target class and position of the grid.

    Attributes
    ----------
    scores : float32 (T, rows, cols); NaN where not computed yet. The chosen score as it is, never normalized.
    baseline : float32 (T,); the same score for the unoccluded image.
    targets : the T class ids.
    tops, lefts : int64 (rows,) and (cols,); origins of the occlusions, in pixels.
    patch, stride : (height, width) in pixels.
    mode : "naive", "exact" or "approximate".
    computed : bool (rows, cols); the positions whose score was computed. Others are interpolated in approximate maps.
    expected_ssim, estimated_ssim : similarity to the exact map, as tuned and as estimated for this image;
        None where the map was not approximated, or not tuned or checked.
    complete : whether the map is all that was asked for, and not cut short by a time budget or Ctrl-C.
    note : what else to know about how it was made, in words; mostly empty.
    frame : (height, width) of the image, in pixels.
    predicted : int64 (rows, cols); the class that the occluded image turns into (of the largest score; of an
        approximate map, by the best inference that was made there), -1 where the position was not computed.
    score_name : what the scores are: "probability", "output", "logit", "margin", "log-odds" or a function's name.
    mask : float32 (h, w) in [0, 1]; which share of each pixel of the patch is hidden. None: all of it.
    """

    scores: np.ndarray
    baseline: np.ndarray
    targets: tuple[int, ...]
    tops: np.ndarray
    lefts: np.ndarray
    patch: tuple[int, int]
    stride: tuple[int, int]
    mode: str
    computed: np.ndarray
    expected_ssim: float | None = None
    estimated_ssim: float | None = None
    complete: bool = True
    note: str = ""
    frame: tuple[int, int] | None = None
    predicted: np.ndarray | None = None
    score_name: str = "score"
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.targets), len(self.tops), len(self.lefts))
        if self.scores.shape != shape or self.baseline.shape != shape[:1] or self.computed.shape != shape[1:]:
            raise ValueError(
                f"a heat map of (targets, rows, columns) = {shape} got scores {self.scores.shape}, "
                f"baseline {self.baseline.shape} and computed {self.computed.shape}"
            )

    @property
    def drop(self) -> np.ndarray:
        """float32 (T, rows, cols): how much the score falls when the patch is hidden.

        Positive where the pixels support the target, negative where hiding them raises its score.
        """
        return self.baseline[:, None, None] - self.scores

    def per_pixel(self, of: str = "drop") -> np.ndarray:
        """float32 (T, H, W): for every pixel the mean over the patches that hide it, NaN where none does.

        of : "drop" or "score". A pixel that a mask hides in part counts for that part. As Captum's Occlusion averages
        overlaps, whose last patches are cut at the edges, where this grid has only whole ones.

        Raises ImageError where the size of the image is not known, or `of` is something else.
        """
        if of not in ("drop", "score"):
            raise ImageError(f"of must be drop or score, got {of!r}")
        if self.frame is None:
            raise ImageError("the heat map does not know the size of its image: make it with frame=(height, width)")
        values = np.asarray(self.drop if of == "drop" else self.scores, np.float64)
        known = np.isfinite(values)
        values = np.where(known, values, 0.0)
        height, width = self.frame
        total = np.zeros((len(self.targets), height, width))
        weight = np.zeros_like(total)
        mask = np.ones(self.patch) if self.mask is None else self.mask
        columns = np.arange(len(self.lefts))
        for y, row in enumerate(mask):  # of the patch; a matrix spreads the columns of the map over those of the image
            spread = np.zeros((len(self.lefts), width))
            for x, share in enumerate(row):
                spread[columns, self.lefts + x] = share
            total[:, self.tops + y] += values @ spread
            weight[:, self.tops + y] += known @ spread
        with np.errstate(invalid="ignore"):
            return (total / np.where(weight > 0, weight, np.nan)).astype(np.float32)

    def extremes(self, target: int | None = None, count: int = 1) -> tuple[Extreme, ...]:
        """Up to `count` positions of the largest drops, largest first, whose patches do not overlap.

        target : one of `targets`; None is the first. Raises ImageError where it was not explained.
        """
        index = self.index_of(target)
        drop = self.drop[index].copy()
        found: list[Extreme] = []
        height, width = self.patch
        while len(found) < count and np.isfinite(drop).any():
            row, col = (int(one) for one in np.unravel_index(np.nanargmax(drop), drop.shape))
            top, left = int(self.tops[row]), int(self.lefts[col])
            found.append(
                Extreme(
                    row, col, top, left, top + height, left + width,
                    float(self.scores[index, row, col]), float(drop[row, col]),
                )
            )  # fmt: skip
            near = np.abs(self.tops - top) < height, np.abs(self.lefts - left) < width
            drop[np.ix_(*near)] = np.nan
        return tuple(found)

    def index_of(self, target: int | None) -> int:
        """Where a class stands in `targets`; None is the first. Raises ImageError where it was not explained."""
        if target is None:
            return 0
        if target not in self.targets:
            raise ImageError(f"class {target} was not explained; the targets are {list(self.targets)}")
        return self.targets.index(target)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the attributes to a NumPy archive (.npz), atomically. Raises KryptonError where that is impossible."""
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """Write what `save` does to an open file, which may be in memory."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez_compressed(file, **{name: value for name, value in held.items() if value is not None})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> HeatMap:
        """What `save` wrote. Raises KryptonError where the file is something else."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                return HeatMap(**_as_saved({name: archive[name] for name in archive.files}))
        except FileNotFoundError:
            raise KryptonError(f"{path}: no such file; give the path of a saved heat map (.npz)") from None
        except (*DAMAGED, zipfile.BadZipFile, zlib.error):
            raise KryptonError(f"{path}: not a heat map saved by this package (.npz)") from None

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name, as plain numbers and lists; what JSON cannot hold (NaN, infinity) is None."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def plot(
        self,
        image: np.ndarray | None = None,
        target: int | Sequence[int] | None = None,
        *,
        title: str | None = None,
        score_name: str | None = None,
        labels: Sequence[str] | Mapping[int, str] | None = None,
        show: str = "drop",
        per_pixel: bool = False,
        extremes: int = 0,
        occluded: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        opacity: float | None = None,
        interpolation: str = "nearest",
        cmap: str | Colormap | None = None,
    ) -> Figure:
        """A Matplotlib figure of the map: red where hiding the patch lowers the score, blue where it raises it.

        image : uint8 (H, W), (H, W, 1) or (H, W, 3), to lay the map over, as the model saw it (of more or fewer pixels
            too); None draws the map alone.
        target : the class id to show, or several, of `targets`; None shows all, on one scale (the first 24, if more).
        title : above all of it. No text is parsed, so $ and \\ are what they are; long ones are shortened.
        score_name : what the score is, where `self.score_name` does not say it well.
        labels : names of the classes, by id.
        show : "drop"; "score" of the occluded image, on a scale from dark to light; "predicted", the class that the
            occluded image turns into, where the one of most positions is white (or nothing, over an image).
        per_pixel : draw the mean over the patches that hide a pixel, as the method of that name, instead of cells.
        extremes : how many of the largest drops to outline and number, 0 to 12; with `image` and `occluded`,
            (tops, lefts), int64 (N,) -> uint8 (N, h, w, 3): what hides the image there, they are shown too.
        opacity : 0 to 1, how much of the image the strongest cells hide. Weak drops hide less, none nothing.
        interpolation : "nearest", "bilinear", "bicubic", "hanning" or "lanczos", between the cells.
        cmap : a colour map of Matplotlib or its name, instead of our own, which the colour-blind can read.

        The figure is saved the same way every time, byte for byte: no date, text as text in .svg and .pdf. It needs no
        pyplot and changes no setting; its `description` is the map in words.

        Raises ImageError where `target` was not explained, no position is computed yet, or an argument does not fit.
        """
        # Matplotlib takes most of a second to import, and most explanations are never drawn.
        from krypton_onnx.runtime.pictures.compose import draw
        from krypton_onnx.runtime.pictures.look import Look

        look = Look(
            target, title, score_name, labels, show, per_pixel, extremes, occluded, opacity, interpolation, cmap
        )
        return draw(self, image, look)

    def describe(
        self,
        target: int | None = None,
        *,
        labels: Sequence[str] | Mapping[int, str] | None = None,
        score_name: str | None = None,
    ) -> str:
        """The map of one class (None: the first) in a few sentences, for those who do not see the picture.

        Which class, its score, where hiding the patch lowers it most, and to what. Raises ImageError as `index_of`.
        """
        from krypton_onnx.runtime.pictures.words import describe

        return describe(self, target, labels, score_name)

    def _repr_html_(self) -> str:
        """For notebooks: the picture with its description, and how it was made. Never raises."""
        from krypton_onnx.runtime.pictures.html import to_html

        return to_html(self)


def _as_saved(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The attributes from the arrays that NumPy makes of them."""
    plural = {"targets", "patch", "stride", "frame"}
    attributes: dict[str, Any] = {}
    for name, value in arrays.items():
        if name in plural:
            attributes[name] = tuple(value.tolist())
        else:
            attributes[name] = value if value.ndim else value.item()
    return attributes


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            missing = ~np.isfinite(value)
            value = value.astype(object)
            value[missing] = None
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
