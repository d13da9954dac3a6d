"""A Matplotlib figure that is saved the same way every time: text as text, no date, no random names."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import matplotlib
from matplotlib.figure import Figure

DPI = 120
VECTOR_DPI = 240  # of the pixels inside a vector picture
# Text stays text, which a reader can search, copy and read aloud, and ids inside the file do not change by chance.
_WRITING = {"svg.fonttype": "none", "svg.hashsalt": "krypton-onnx", "pdf.fonttype": 42, "ps.fonttype": 42}
_NO_DATE = {"svg": "Date", "svgz": "Date", "pdf": "CreationDate"}
_DESCRIBED = {"png": "Description", "svg": "Description", "svgz": "Description", "pdf": "Subject"}
# What is above is process-wide in Matplotlib, so it is set while one picture is written, and set back.
_one_at_a_time = threading.Lock()


class Picture(Figure):
    """description : what the picture shows, in words; written into the file."""

    description: str = ""

    def savefig(self, fname: Any, **kwargs: Any) -> None:
        """As Figure.savefig; two saves of equal figures are equal, byte for byte (.png, .svg, .pdf)."""
        form = _format(fname, kwargs)
        metadata: dict[str, Any] = {}
        if form in _NO_DATE:
            metadata[_NO_DATE[form]] = None
        if form in _DESCRIBED and self.description:
            metadata[_DESCRIBED[form]] = self.description
        metadata.update(kwargs.pop("metadata", None) or {})
        if metadata:
            kwargs["metadata"] = metadata
        if form in ("svg", "svgz", "pdf"):
            kwargs.setdefault("dpi", VECTOR_DPI)
        kwargs.setdefault("facecolor", self.get_facecolor())
        with _one_at_a_time, matplotlib.rc_context(_WRITING):  # type: ignore[arg-type]
            super().savefig(fname, **kwargs)

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        """For notebooks, which else show figures only where pyplot was imported; with the words as alternative text."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue(), {"alt": self.description}


def _format(fname: Any, kwargs: dict[str, Any]) -> str:
    given = kwargs.get("format")
    if not given and isinstance(fname, (str, os.PathLike)):
        given = os.path.splitext(os.fspath(fname))[1].lstrip(".")
    return str(given or matplotlib.rcParams["savefig.format"]).lower()
