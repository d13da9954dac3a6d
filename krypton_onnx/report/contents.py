"""What a report shows, as data: the contract between an explanation, the template and the scripts of the page.

Arrays are base64 of their bytes, little-endian, rows first. Everything that names something is text, never markup.
"""

from __future__ import annotations

import base64
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from krypton_onnx.report.facts import facts, limits_of_a_map, plain, source_name, summary
from krypton_onnx.report.images import png_uri, shrunk, sprite_of
from krypton_onnx.runtime.pictures.words import number

if TYPE_CHECKING:
    from krypton_onnx.explanation import Explanation
    from krypton_onnx.runtime.heat_map import HeatMap

FORMAT = 1
MOST_EXTREMES = 8
MOST_SCORES = 400_000  # of all classes together
MOST_PIXELS_AVERAGED = 4_000_000  # of the view by pixels, which the page computes


def data(explanation: Explanation, folder: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """An explanation as plain values that JSON holds.

    folder : the one that the page will lie in; the specification names a model inside it relative to it.

    Keys: format; title, summary, warnings, meaning, facts, toml (texts); image {src, height, width, smooth};
    grid {tops, lefts, patch, stride}; targets [{id, name, score}]; baseline (T,) and scores (T, rows, cols)
    float32; computed uint8 and predicted int32 (rows, cols) or None; names {class id: name};
    mask float32 (h, w) or None; per_pixel, whether that view is offered; score_name;
    patches {src, height, width, columns, single} or None; colors {diverging, sequential: 256 x RGB, categories, other,
    fade}; extremes, a list of [row, column] a target, largest drops first.
    """
    heat_map, thinning = _thinned(explanation.heat_map)
    sprite = sprite_of(explanation.occluded, heat_map.tops, heat_map.lefts, heat_map.patch)
    frame = heat_map.frame or explanation.picture.shape[:2]
    picture = shrunk(explanation.picture)
    warnings = summary(explanation).warnings
    if thinning:
        warnings.append(thinning)
    if sprite is None:
        warnings.append("What stands in the patch's place is left out of this page: it would be too large.")
    elif sprite.coarser > 1:
        warnings.append(f"What stands in the patch's place is shown {sprite.coarser} times coarser than it was.")
    if picture.shape != explanation.picture.shape:
        height, width = explanation.picture.shape[:2]
        warnings.append(f"The image is shown smaller than the {width} x {height} pixels that were explained.")
    return {
        "format": FORMAT,
        "title": f"Occlusion map of {source_name(explanation)}",
        "summary": summary(explanation).lines,
        "warnings": warnings,
        "meaning": limits_of_a_map(explanation),
        "facts": facts(explanation),
        "toml": plain(explanation.spec.to_toml(folder), keep="\n\t"),
        "image": {"src": png_uri(picture), "height": frame[0], "width": frame[1], "smooth": max(frame) >= 120},
        "grid": {
            "tops": heat_map.tops.tolist(), "lefts": heat_map.lefts.tolist(),
            "patch": list(heat_map.patch), "stride": [
                min(step, side) for step, side in zip(heat_map.stride, frame, strict=True)
            ],
        },
        "targets": [
            {"id": target, "name": plain(explanation.name_of(target)), "score": number(float(score))}
            for target, score in zip(heat_map.targets, heat_map.baseline, strict=True)
        ],
        "baseline": _encoded(heat_map.baseline, "<f4"),
        "scores": _encoded(heat_map.scores, "<f4"),
        "computed": _encoded(heat_map.computed, "u1"),
        **_predicted(heat_map, explanation),
        "mask": None if heat_map.mask is None else _encoded(heat_map.mask, "<f4"),
        "per_pixel": not thinning and math.prod(frame) <= MOST_PIXELS_AVERAGED,
        "score_name": plain(heat_map.score_name),
        "patches": None if sprite is None else {
            "src": png_uri(sprite.pixels), "height": sprite.tile[0], "width": sprite.tile[1],
            "columns": sprite.columns, "single": sprite.single,
        },
        "colors": _colors(),
        "extremes": [
            [[one.row, one.col] for one in heat_map.extremes(target, MOST_EXTREMES) if one.drop > 0]
            for target in heat_map.targets
        ],
    }  # fmt: skip


def _encoded(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode("ascii")


def _predicted(heat_map: HeatMap, explanation: Explanation) -> dict[str, Any]:
    """Which class the occluded image turns into, and what all classes of the page are called."""
    named, predicted = set(heat_map.targets), heat_map.predicted
    if predicted is not None:
        named |= set(np.unique(predicted[predicted >= 0]).tolist())
    return {
        # One that is nowhere known is none.
        "predicted": None if predicted is None or (predicted < 0).all() else _encoded(predicted, "<i4"),
        "names": {str(one): plain(explanation.name_of(one)) for one in sorted(named)},
    }


def _colors() -> dict[str, Any]:
    """The colours of the pictures, so that a page and a picture of one map look the same."""
    from krypton_onnx.runtime.pictures import colors

    steps = np.linspace(0, 1, 256)
    of = {"diverging": colors.diverging(), "sequential": colors.sequential()}
    return {
        **{name: _encoded(cmap(steps, bytes=True)[:, :3], "u1") for name, cmap in of.items()},
        "categories": list(colors.CATEGORIES), "other": colors.OTHER, "fade": colors.FADE,
    }  # fmt: skip


def _thinned(heat_map: HeatMap) -> tuple[HeatMap, str]:
    """A map of at most MOST_SCORES scores, and a sentence where it has fewer positions than were explained."""
    classes, rows, cols = heat_map.scores.shape
    apart = 1
    while classes * math.ceil(rows / apart) * math.ceil(cols / apart) > MOST_SCORES and apart < max(rows, cols):
        apart += 1
    if apart == 1:
        return heat_map, ""
    some = slice(None, None, apart), slice(None, None, apart)
    fewer = replace(
        heat_map,
        scores=heat_map.scores[:, *some],
        computed=heat_map.computed[some],
        predicted=None if heat_map.predicted is None else heat_map.predicted[some],
        tops=heat_map.tops[some[0]],
        lefts=heat_map.lefts[some[1]],
        stride=(apart * heat_map.stride[0], apart * heat_map.stride[1]),
    )
    of = f" of {classes} classes" if classes > 1 else ""
    return fewer, (
        f"This page shows one row and one column in {apart} of the {rows} x {cols} positions{of}, to stay small: "
        "save the map as .npz to keep all."
    )
