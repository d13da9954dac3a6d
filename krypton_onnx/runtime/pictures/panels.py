"""What is painted into a panel: the image, the cells of the map over it, and a hatching where nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from krypton_onnx.errors import ImageError
from krypton_onnx.runtime.pictures.colors import HATCH, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.image import AxesImage

    from krypton_onnx.runtime.heat_map import HeatMap

Extent = tuple[float, float, float, float]

# No panel has more dots a side, so pixels and cells beyond are not drawn one by one.
MOST_DRAWN = 1600
# The image that is shown may have other pixels than the one explained, but must be of the same shape.
ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class Cells:
    """A map as it is drawn.

    values : float (rows, cols), NaN where not computed; or uint8 (rows, cols, 3), colours as they are.
    opacity : float (rows, cols); known : bool (rows, cols), False where it is hatched.
    limits : the values at the ends of the colours; None for colours as they are.
    """

    values: np.ndarray
    opacity: np.ndarray
    known: np.ndarray
    extent: Extent
    limits: tuple[float, float] | None
    cmap: Colormap | None
    interpolation: str


def cell_extent(heat_map: HeatMap) -> Extent:
    """(left, right, bottom, top) of the cells in pixel-index coordinates, where pixel 0 spans -0.5 to 0.5.

    A cell is as large as the stride and lies at the centre of its patch.
    """
    (height, width), (step_y, step_x) = heat_map.patch, heat_map.stride
    centre_y = np.asarray(heat_map.tops)[[0, -1]] + (height - 1) / 2
    centre_x = np.asarray(heat_map.lefts)[[0, -1]] + (width - 1) / 2
    # A step longer than the image is one position, and a cell no larger than its patch needs to be.
    if heat_map.frame is not None:
        step_y, step_x = min(step_y, heat_map.frame[0]), min(step_x, heat_map.frame[1])
    return (
        float(centre_x[0] - step_x / 2),
        float(centre_x[1] + step_x / 2),
        float(centre_y[1] + step_y / 2),
        float(centre_y[0] - step_y / 2),
    )


def frame_extent(frame: tuple[int, int]) -> Extent:
    """(left, right, bottom, top) of an image of (height, width)."""
    return -0.5, frame[1] - 0.5, frame[0] - 0.5, -0.5


def checked_image(image: np.ndarray, frame: tuple[int, int] | None) -> np.ndarray:
    """uint8 (H, W, 3). Raises ImageError where it is something else, or not of the shape of the explained image."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ImageError(f"the image to draw on is uint8 (H, W, 1 or 3), not {image.dtype} {image.shape}")
    if frame is not None:
        height, width = image.shape[:2]
        if abs(height * frame[1] - width * frame[0]) > ASPECT_TOLERANCE * width * frame[0] + max(frame):
            raise ImageError(
                f"the image to draw on is {height} x {width}, but the explained one is {frame[0]} x {frame[1]}: "
                "give the image as the model saw it"
            )
    return np.broadcast_to(image, (*image.shape[:2], 3))


def shrunk(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3), no more pixels a side than are drawn."""
    if max(image.shape[:2]) <= MOST_DRAWN:
        return image
    from PIL import Image

    factor = MOST_DRAWN / max(image.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def thinned(values: np.ndarray) -> np.ndarray:
    """Of a map of pixels, at most as many as are drawn."""
    rows, cols = (-(-side // MOST_DRAWN) for side in values.shape[:2])
    return values[rows // 2 :: rows, cols // 2 :: cols]


def prepare(axes: Axes, extent: Extent, to_scale: bool) -> None:
    """No ticks, a thin frame, and the extent as it is, whatever the host set (rcParams)."""
    axes.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:], facecolor="white")
    axes.set_aspect("equal" if to_scale else "auto")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK, linewidth=0.6)


def paint_image(axes: Axes, image: np.ndarray, extent: Extent) -> AxesImage:
    """An image as large as the explained one, over all of it."""
    # Few pixels are squares, many are smoothed as they shrink.
    smooth = "nearest" if max(image.shape[:2]) < 120 else "antialiased"
    return axes.imshow(image, extent=extent, origin="upper", aspect=axes.get_aspect(), interpolation=smooth)


def paint_cells(axes: Axes, cells: Cells) -> AxesImage:
    """The cells, and a hatching where they are not known."""
    colors: dict[str, Any] = {}
    if cells.limits is not None:
        colors = {"cmap": cells.cmap, "vmin": cells.limits[0], "vmax": cells.limits[1]}
    values = np.ma.masked_invalid(cells.values) if cells.limits is not None else cells.values
    # Not "none", which forgets the opacity of the cells in .svg and .pdf.
    drawn = axes.imshow(
        values, alpha=cells.opacity, extent=cells.extent, origin="upper", aspect=axes.get_aspect(),
        interpolation=cells.interpolation, interpolation_stage="data" if cells.limits is not None else "rgba", **colors,
    )  # fmt: skip
    if not cells.known.all():
        axes.add_patch(_hatching(~cells.known, cells.extent))
    return drawn


def _hatching(where: np.ndarray, extent: Extent) -> PathPatch:
    """Over the cells that are True, those beside each other as one rectangle."""
    left, right, bottom, top = extent
    height, width = (bottom - top) / where.shape[0], (right - left) / where.shape[1]
    edges = np.diff(np.pad(where, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, firsts = np.nonzero(edges == 1)
    lasts = np.nonzero(edges == -1)[1]
    rectangles: list[tuple[int, int, int, int]] = []  # first row, row after the last, first column, column after
    open_runs: dict[tuple[int, int], int] = {}
    for row, first, last in zip(rows.tolist(), firsts.tolist(), lasts.tolist(), strict=True):
        above = open_runs.get((first, last))
        if above is not None and rectangles[above][1] == row:
            rectangles[above] = (rectangles[above][0], row + 1, first, last)
        else:
            open_runs[first, last] = len(rectangles)
            rectangles.append((row, row + 1, first, last))
    corners = [
        [(left + width * x, top + height * y) for x, y in ((a, r), (b, r), (b, s), (a, s), (a, r))]
        for r, s, a, b in rectangles
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(corners)
    path = Path(np.concatenate(corners), codes)
    return PathPatch(path, facecolor=(0.92, 0.92, 0.92, 0.7), edgecolor=HATCH, hatch="////", linewidth=0.0)
