"""From the options on the command line, and a saved specification below them, to one specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from krypton_onnx.cli.console import misuse, show_warning

if TYPE_CHECKING:
    from krypton_onnx import ExplanationSpec


@dataclass(frozen=True)
class Asked:
    """A field of a specification as the command line has it. given: written there, and not the option's default."""

    value: Any
    given: bool


def asked(context: typer.Context, values: Mapping[str, tuple[str, Any]]) -> dict[str, Asked]:
    """By field of the specification. values: by parameter of the command, the field and its value."""

    def given(parameter: str) -> bool:
        source = context.get_parameter_source(parameter)
        return source is not None and not source.name.startswith("DEFAULT")

    return {field: Asked(value, given(parameter)) for parameter, (field, value) in values.items()}


def specify(
    model: Path | None, fields: Mapping[str, Asked], base: ExplanationSpec | None, quiet: bool
) -> ExplanationSpec:
    """What is asked for: the options that were given, over the specification, over the options' defaults.

    Exits with code 2 where options contradict each other. Warns where `model` is not the specified one.
    """
    from krypton_onnx import ExplanationSpec
    from krypton_onnx.runtime.scores import ACTIVATED

    if base is None:
        assert model is not None  # a required argument where there is no specification
        values = {name: one.value for name, one in fields.items()}
        _refuse_quality(fields, values["mode"])
        return ExplanationSpec(str(model), **values)
    values = {name: one.value for name, one in fields.items() if one.given}
    mode = values.get("mode", base.mode)
    _refuse_quality(fields, mode)
    if mode != "approximate":
        values["min_ssim"] = None
    # What is given takes the place of what the specification has, and cannot stand beside it.
    if "targets" in values:
        values["top"] = None
    elif "top" in values:
        values["targets"] = None
    if values.get("score", base.score) not in ACTIVATED and "activation" not in values:
        values["activation"] = None
    if "patch_shape" in values:
        values["patch_shape_sha256"] = None
    if model is not None:
        values |= {"model": str(model), "model_sha256": None}
    specified = replace(base, **values)
    if model is None or base.model_sha256 is None:
        return specified
    pinned = specified.with_digest()
    if pinned.model_sha256 != base.model_sha256 and not quiet:
        show_warning(f"{model} is not the model of the specification, its content differs")
    return pinned


def _refuse_quality(fields: Mapping[str, Asked], mode: str) -> None:
    if fields["min_ssim"].given and mode != "approximate":
        misuse("--min-ssim", "only an approximate map has a quality to ask for (--mode approximate)")
