"""Sites to test with: a page of two files in place of the real one, which Node builds, and what runs tell of them."""

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from krypton_onnx.cli import app

PAGE = {"index.html": "<!doctype html><title>page</title>\n", "assets/index-1a2b.js": "export {};\n"}


def write_page(folder: Path) -> None:
    for name, text in PAGE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


class Builder:
    """Stands where npm builds the page. built : the sources that it was given, by name."""

    def __init__(self) -> None:
        self.built: list[dict[str, str]] = []

    def __call__(self, app: Path, page: Path) -> None:
        files = (path for path in sorted(app.rglob("*")) if path.is_file())
        self.built.append({path.relative_to(app).as_posix(): path.read_text() for path in files})
        write_page(page)


def krypton(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def complaint(result) -> str:
    """The one line on stderr of a run that failed because of the model, the image or the place."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"krypton-onnx: error: [^\n]+\n", result.stderr), result.stderr
    return result.stderr


def written(result, site: Path) -> dict:
    """The manifest of a site that a run wrote."""
    assert result.exit_code == 0, result.output
    return json.loads((site / "model" / "manifest.json").read_text())


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
