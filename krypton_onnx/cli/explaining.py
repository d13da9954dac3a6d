"""From the options of `explain` to one explanation after another: the model is opened once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from krypton_onnx.cli.preparing import PreparingOptions, tell_providers
from krypton_onnx.cli.specifying import Asked, specify
from krypton_onnx.errors import ImageError
from krypton_onnx.explanation import file_digest
from krypton_onnx.labels import find_class, read_labels

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from krypton_onnx import Explanation, ExplanationSpec, OcclusionSession


@dataclass(frozen=True, eq=False)
class Explainer:
    """An open model, and what is asked of it.

    asked : the specification, without what the options and the model say of pictures. labels : names of the classes,
    None where they are not known. arrays_only : it is a saved specification, and nothing says how to prepare a picture.
    """

    asked: ExplanationSpec
    session: OcclusionSession
    preparing: PreparingOptions
    labels: tuple[str, ...] | None
    arrays_only: bool

    def spec(self, pictures: bool) -> ExplanationSpec:
        """What is asked for; of pictures, with their preparation."""
        if not pictures or self.arrays_only:
            return self.asked
        return replace(self.asked, preparation=self.preparing.preparation(self.session, self.asked.preparation))

    def __call__(
        self,
        path: Path,
        source: Image | np.ndarray,
        quiet: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Explanation:
        """The explanation of what was read from `path`. Raises ImageError, ModelError as ExplanationSpec.explanation;
        warns, unless `quiet`, where nothing says how a picture is to be prepared."""
        picture = hasattr(source, "convert")
        if picture and self.arrays_only:
            self.asked.preparation_of_pictures(str(path))
        spec = self.spec(picture)
        prepared = self.preparing.prepare(source, self.session, str(path), self.asked.preparation, quiet)
        # Of a fill in pixel values, too; None falls back to what is stored in the model, whatever came before.
        self.session.preparation = spec.preparation
        explanation = spec.explanation(prepared, self.session, self.labels, progress, source=str(path))
        return replace(explanation, source_sha256=file_digest(path))


def open_explainer(
    model: Path | None,
    base: ExplanationSpec | None,
    asked: Mapping[str, Asked],
    preparing: PreparingOptions,
    classes: Sequence[str],
    labels: Path | None,
    quiet: bool,
) -> Explainer:
    """Open the model. base : the specification of --spec. classes : of --target, as they were written.

    Raises ModelError where the model is at fault, ImageError where a class or the file of `labels` is.
    """
    names = None if labels is None else read_labels(labels)
    numbers = [int(word) for word in classes if re.fullmatch(r"\s*-?[0-9]+\s*", word)]
    if len(numbers) == len(classes):  # before the model is read
        asked = {**asked, "targets": _targets(numbers)}
    _require_names(numbers, names, labels)
    wanted = specify(model, asked, base, quiet)
    session = wanted.session()
    tell_providers(session, quiet)
    names = session.labels if names is None else names
    if len(numbers) != len(classes):
        wanted = replace(wanted, targets=_targets([_found(word, names) for word in classes]).value, top=None)
    stated = base is None or base.preparation is not None or preparing.given or session.preparation is not None
    return Explainer(wanted, session, preparing, names, not stated)


def _found(word: str, names: tuple[str, ...] | None) -> int:
    try:
        return find_class(word, names)
    except ImageError as error:
        raise ImageError(f"--target: {error}") from None


def _targets(numbers: Sequence[int]) -> Asked:
    """As a specification has them: none, one, or several."""
    value = None if not numbers else numbers[0] if len(numbers) == 1 else tuple(numbers)
    return Asked(value, bool(numbers))


def _require_names(numbers: Sequence[int], names: Sequence[str] | None, path: Path | None) -> None:
    """A file of fewer names than the class asked for is one of another model."""
    for number in numbers:
        if names is not None and number >= len(names):
            raise ImageError(f"{path}: has {len(names)} names and so none for class {number}")
