"""An explanation to keep: the map, the image it is of, and how it was made. What pictures, reports and files are of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from krypton_onnx.errors import KryptonError
from krypton_onnx.files import atomic_write
from krypton_onnx.labels import class_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from krypton_onnx.runtime.heat_map import HeatMap
    from krypton_onnx.specification import ExplanationSpec

# What `save` writes, by suffix.
PICTURES = (".png", ".svg", ".pdf")
FORMATS = (*PICTURES, ".npz", ".json", ".html")

Occluded = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Explanation:
    """A heat map and all that belongs to it; `ExplanationSpec.explanation` makes it.

    heat_map : what was computed.
    spec : what was asked for, with the digest of the model: replayed, it gives the same map.
    source : name of the image; source_sha256 : of its file, None where the image is an array.
    picture : uint8 (H, W, 3), the image as the model saw it, for the eye.
    steps : how the image became what the model takes, in words.
    occluded : (tops, lefts), int64 (N,) -> uint8 (N, h, w, 3): what hides the image there, for the eye (where scores
        are averaged over several fills, the mean of them).
    seconds : that computing the map took. made : when, ISO 8601 with the time zone.
    labels : names of all classes, None where they are not known.
    """

    heat_map: HeatMap
    spec: ExplanationSpec
    source: str
    source_sha256: str | None
    picture: np.ndarray
    steps: tuple[str, ...]
    occluded: Occluded
    seconds: float
    made: str
    labels: tuple[str, ...] | None = None

    def name_of(self, class_id: int) -> str:
        """ "espresso (class 967)", or "class 967" where it has no name."""
        return class_name(class_id, self.labels)

    def plot(self, **how: Any) -> Figure:
        """HeatMap.plot over the image, with the names of the classes and the occluded image where it is wanted."""
        given = {"image": self.picture, "labels": self.labels, "occluded": self.occluded}
        return self.heat_map.plot(**{**given, **how})

    def to_dict(self) -> dict[str, Any]:
        """The attributes of the heat map by name, and what else there is to tell, as plain numbers, lists and words."""
        return {
            **self.heat_map.to_dict(),
            "names": [self.name_of(target) for target in self.heat_map.targets],
            "source": self.source,
            "source_sha256": self.source_sha256,
            "steps": list(self.steps),
            "seconds": self.seconds,
            "made": self.made,
            "specification": self.spec.to_dict(),
        }

    def save(self, path: str | os.PathLike[str], **how: Any) -> None:
        """Write it whole or not at all, as the suffix says: a picture (.png, .svg, .pdf; `how` as for `plot`), the
        arrays (.npz, for HeatMap.load), all that can be told (.json), or a report (.html).

        Raises KryptonError where the suffix is another, or the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix in PICTURES:
            figure = self.plot(**how)
            with atomic_write(path) as temporary:
                figure.savefig(temporary)
        elif suffix == ".npz":
            self.heat_map.save(path)
        elif suffix == ".json":
            text = json.dumps(self.to_dict(), allow_nan=False)
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        elif suffix == ".html":
            from krypton_onnx.report import write

            write(self, path)
        else:
            raise KryptonError(f"{path}: does not end in {', '.join(FORMATS)}")


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, as hexadecimal digits. Raises KryptonError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise KryptonError(f"{path}: cannot be read: {error.strerror or error}") from None
