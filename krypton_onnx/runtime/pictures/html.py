"""A heat map as HTML, for notebooks: the picture with its description, and how it was made. Needs no network."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from krypton_onnx.runtime.pictures import words
from krypton_onnx.runtime.pictures.compose import draw
from krypton_onnx.runtime.pictures.look import Look

if TYPE_CHECKING:
    from krypton_onnx.runtime.heat_map import HeatMap

MOST_DRAWN, MOST_LISTED = 3, 8
CELL = "text-align:left;padding:0 1em 0 0;font-size:13px"


def to_html(heat_map: HeatMap) -> str:
    """A fragment of HTML, whatever the state of the map; all that is not ours in it is escaped."""
    return (
        '<figure style="margin:0;font-family:sans-serif;font-size:13px">'
        f"{_picture(heat_map)}<figcaption>{_table(heat_map)}{_facts(heat_map)}</figcaption></figure>"
    )


def _picture(heat_map: HeatMap) -> str:
    targets = heat_map.targets[:MOST_DRAWN]
    said = " ".join(words.describe(heat_map, target) for target in targets)
    if not np.isfinite(heat_map.scores).any():
        return f"<p>{escape(said)}</p>"
    buffer = io.BytesIO()
    draw(heat_map, None, Look(target=targets)).savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img style="max-width:100%;height:auto" alt="{escape(said)}" src="data:image/png;base64,{data}">'


def _table(heat_map: HeatMap) -> str:
    head = "".join(
        f'<th scope="col" style="{CELL}">{escape(words.one_line(one))}</th>'
        for one in ("class", f"{heat_map.score_name} of the whole image", "largest drop")
    )
    rows = []
    for index, target in enumerate(heat_map.targets[:MOST_LISTED]):
        largest = next(iter(heat_map.extremes(target, 1)), None)
        fall = "unknown" if largest is None else f"{words.number(largest.drop)} {words.place(heat_map, largest)}"
        cells = (words.number(float(heat_map.baseline[index])), fall)
        data = "".join(f'<td style="{CELL}">{escape(one)}</td>' for one in cells)
        rows.append(f'<tr><th scope="row" style="{CELL}">{target}</th>{data}</tr>')
    more = len(heat_map.targets) - MOST_LISTED
    after = f"<p>and {more} more class{'' if more == 1 else 'es'}</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{after}"


def _facts(heat_map: HeatMap) -> str:
    said = [f"{heat_map.mode}, patch {_by(heat_map.patch)}, stride {_by(heat_map.stride)} px"]
    for name, value in (("estimated", heat_map.estimated_ssim), ("expected", heat_map.expected_ssim)):
        if value is not None:
            said.append(f"{name} SSIM {value:.3f}")
    computed = float(heat_map.computed.mean())
    said.append(f"{words.share(computed)} of {heat_map.computed.size} positions computed")
    if not heat_map.complete:
        said.append("not complete")
    note = f"<p>{escape(words.one_line(heat_map.note))}</p>" if heat_map.note else ""
    return f"<p>{escape(words.one_line('; '.join(said)))}</p>{note}"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
