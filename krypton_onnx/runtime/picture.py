"""Drawing a heat map by Matplotlib's object-oriented API: no pyplot, so no global state and no display."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from krypton_onnx.errors import ImageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from krypton_onnx.runtime.heat_map import HeatMap

Extent = tuple[float, float, float, float]

# ColorBrewer's red and blue, even in lightness to both sides and told apart by the colour-blind; reversed,
# so that red is a fall of the score. Light at 0: what does not matter stays paper.
COLORS = "RdBu_r"
# Over an image, a cell is opaque from this share of the largest drop on, and the less so below.
FADE = 0.35
OPACITY = 0.85
PANEL_INCHES = 4.2
MIN_ASPECT = 0.5
DPI = 120


def draw(heat_map: HeatMap, image: np.ndarray | None, target: int | None, title: str | None, score_name: str) -> Figure:
    """The figure that HeatMap.plot describes."""
    drop = heat_map.drop[_index_of(heat_map, target)]
    if not np.isfinite(drop).any():
        raise ImageError("nothing to draw: no position of the heat map is computed yet")
    extent = cell_extent(heat_map)
    height, width = abs(extent[3] - extent[2]), abs(extent[1] - extent[0])
    if image is not None:
        image = _rgb(image)
        height, width = image.shape[:2]
    panels = 1 if image is None else 2
    aspect = min(max(height / width, MIN_ASPECT), 1 / MIN_ASPECT)
    # Room for the colour bar and its label to the right, the title above and the note below.
    size = (PANEL_INCHES * panels + 1.3, PANEL_INCHES * aspect + 0.6)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if image is not None:
        axes[0].imshow(image)
        grey = (image @ (0.299, 0.587, 0.114))[:, :, None].repeat(3, axis=2)
        axes[1].imshow(grey.astype(np.uint8))
    cells = _draw_cells(axes[-1], drop, extent, over_image=image is not None)
    if image is not None:
        axes[1].set(xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim())
    for panel in axes:
        panel.set(xticks=[], yticks=[])
    axes[-1].set_xlabel("each cell: {} x {} px around it are hidden".format(*heat_map.patch), fontsize=9)
    bar = figure.colorbar(cells, ax=axes[-1], fraction=0.046, pad=0.03)
    meaning = "(red: supports the class, blue: speaks against it)"
    bar.set_label(f"drop of the {score_name} when hidden\n{meaning}", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    return figure


def _index_of(heat_map: HeatMap, target: int | None) -> int:
    if target is None:
        return 0
    if target not in heat_map.targets:
        raise ImageError(f"class {target} was not explained; the targets are {list(heat_map.targets)}")
    return heat_map.targets.index(target)


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ImageError(f"the image to draw on is uint8 (H, W, 1 or 3), not {image.dtype} {image.shape}")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _draw_cells(axes: Axes, drop: np.ndarray, extent: Extent, over_image: bool) -> AxesImage:
    largest = float(np.nanmax(np.abs(drop)))
    # A map without any drop at all still needs a scale.
    limit = largest if largest > 0 else 1.0
    opacity = np.ones(drop.shape)
    if over_image:
        opacity = OPACITY * np.clip(np.abs(np.nan_to_num(drop)) / (FADE * limit), 0.0, 1.0)
    opacity[np.isnan(drop)] = 0.0
    return axes.imshow(
        np.ma.masked_invalid(drop),
        cmap=colormaps[COLORS],
        vmin=-limit,
        vmax=limit,
        alpha=opacity,
        extent=extent,
        interpolation="nearest",
    )


def cell_extent(heat_map: HeatMap) -> Extent:
    """(left, right, bottom, top) of the cells in pixel-index coordinates, where pixel 0 spans -0.5 to 0.5.

    A cell is as large as the stride and lies at the centre of its patch.
    """
    (height, width), (step_y, step_x) = heat_map.patch, heat_map.stride
    centre_y = np.asarray(heat_map.tops)[[0, -1]] + (height - 1) / 2
    centre_x = np.asarray(heat_map.lefts)[[0, -1]] + (width - 1) / 2
    return (
        float(centre_x[0] - step_x / 2),
        float(centre_x[1] + step_x / 2),
        float(centre_y[1] + step_y / 2),
        float(centre_y[0] - step_y / 2),
    )
