"""Option groups: a command takes one object a group, Typer sees the options of all groups one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from typer.models import OptionInfo, ParameterInfo


class Options:
    """A group: subclasses are frozen dataclasses whose fields are annotated as parameters of a command.

    panel : under which heading --help lists those that name none themselves.
    """

    panel: ClassVar[str | None] = None


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command for Typer, the options of its groups in place of the parameters that take these."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, Options):
            assert is_dataclass(kind)
            groups[name] = kind, [field.name for field in fields(kind)]
            own = get_type_hints(kind, include_extras=True)
            parameters += [_parameter(field, own[field.name], kind.panel) for field in fields(kind)]
        else:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**values: Any) -> Any:
        for name, (kind, members) in groups.items():
            values[name] = kind(**{member: values.pop(member) for member in members})
        return command(**values)

    # Read by Typer, instead of those of `command`.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(field: Field[Any], annotation: Any, panel: str | None) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_in_panel(annotation, panel)
    )


def _in_panel(annotation: Any, panel: str | None) -> Any:
    """The annotation, listed under `panel` where it does not say under which."""
    if panel is None or get_origin(annotation) is not Annotated:
        return annotation
    kind, *extras = get_args(annotation)
    for index, extra in enumerate(extras):
        if isinstance(extra, OptionInfo) and extra.rich_help_panel is None:
            extras[index] = placed = copy(extra)
            assert isinstance(placed, ParameterInfo)
            placed.rich_help_panel = panel
    return Annotated[(kind, *extras)]
