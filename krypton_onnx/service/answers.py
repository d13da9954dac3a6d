"""From an explanation to what is sent back. In a worker."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from krypton_onnx.explanation import Explanation
    from krypton_onnx.runtime.heat_map import HeatMap

# By the word of ?format=.
MEDIA_TYPES = {
    "json": "application/json",
    "png": "image/png",
    "npz": "application/x-npz",
    "html": "text/html; charset=utf-8",
}
# Matplotlib's fonts are not made for several threads.
_drawing = threading.Lock()


def answer(explanation: Explanation, wanted: str, said: Sequence[str] = ()) -> bytes:
    """The body of an answer. wanted : a key of MEDIA_TYPES. said : warnings, for JSON.

    The model is named by its file alone, wherever it lies.
    """
    folder = Path(explanation.spec.model).parent
    if wanted == "json":
        return json.dumps(as_dict(explanation, said), allow_nan=False).encode()
    file = BytesIO()
    if wanted == "npz":
        explanation.heat_map.write(file)
    elif wanted == "png":
        with _drawing:
            explanation.plot().savefig(file, format="png")
    else:
        from krypton_onnx.report.contents import data
        from krypton_onnx.report.render import render

        with _drawing:  # its colours are Matplotlib's
            file.write(render(data(explanation, folder)).encode())
    return file.getvalue()


def as_dict(explanation: Explanation, said: Sequence[str] = ()) -> dict[str, Any]:
    """As Explanation.to_dict, and the warnings."""
    folder = Path(explanation.spec.model).parent
    return {**explanation.to_dict(), "specification": explanation.spec.to_dict(folder), "warnings": list(said)}


def refinement(heat_map: HeatMap) -> dict[str, Any]:
    """A map in the making, small enough to be sent several times a second.

    scores : base64 of float32, little endian, (targets, rows, columns); NaN where not computed yet.
    """
    done = int(heat_map.computed.sum())
    scores = base64.b64encode(np.ascontiguousarray(heat_map.scores, "<f4").tobytes()).decode("ascii")
    return {
        "done": done, "total": heat_map.computed.size, "shape": list(heat_map.scores.shape), "scores": scores,
        "baseline": [float(one) if np.isfinite(one) else None for one in heat_map.baseline],
        "targets": [int(one) for one in heat_map.targets],
    }  # fmt: skip
