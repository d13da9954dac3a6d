"""The page around the data: a Jinja template, a style sheet and the scripts, all inside, and the policy of the page."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from krypton_onnx.errors import KryptonError
from krypton_onnx.files import atomic_write, require_writable
from krypton_onnx.report.contents import data

if TYPE_CHECKING:
    from krypton_onnx.explanation import Explanation

TEMPLATE, STYLE = "page.html.j2", "report.css"
SCRIPTS = ("values.js", "drawing.js", "elements.js", "report.js")  # in the order of their dependence


def write(explanation: Explanation, path: str | os.PathLike[str]) -> None:
    """Write the report of an explanation to `path`, whole or not at all.

    A model in the folder of `path` or below is named relative to it in the specification, so that both can be moved
    together. Raises KryptonError where `path` cannot be written or Jinja2 is not installed.
    """
    require_writable(path)
    text = render(data(explanation, Path(path).parent))
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def page(explanation: Explanation) -> str:
    """The report of an explanation as HTML. Raises KryptonError where Jinja2 is not installed."""
    return render(data(explanation))


def render(contents: dict[str, Any]) -> str:
    """The page of what `report.data` returned. Raises KryptonError where Jinja2 is not installed."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise KryptonError("a report needs Jinja2: pip install 'krypton-onnx[report]'") from None
    # All that is not ours is text: autoescape. Only our own files are taken as they are.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style, scripts = _own(STYLE), [_own(name) for name in SCRIPTS]
    return environment.from_string(_own(TEMPLATE)).render(
        report=contents,
        policy=_policy(style, scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=Markup(_json(contents)),
    )


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _json(contents: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in; the image stands in the page itself, once."""
    without = {**contents, "image": {name: value for name, value in contents["image"].items() if name != "src"}}
    shown_by_the_template = ("summary", "warnings", "meaning", "facts", "toml")
    kept = {name: value for name, value in without.items() if name not in shown_by_the_template}
    text = json.dumps(kept, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def hashes() -> tuple[str, str]:
    """Of the style and of the scripts: what a policy must allow on a page that shows a report inside itself."""
    return _hash(_own(STYLE)), _hashes([_own(name) for name in SCRIPTS])


def _hashes(texts: list[str]) -> str:
    return " ".join(_hash(text) for text in texts)


def _policy(style: str, scripts: list[str]) -> str:
    """A Content-Security-Policy: nothing is loaded, and no style or script runs but our own."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hashes(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
