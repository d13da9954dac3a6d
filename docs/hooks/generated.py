"""A part of the site that is made when it is built: what the command line says about itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache

from mkdocs.exceptions import PluginError

EXAMPLE = re.compile(r"^Examples?: +(.+)$", re.MULTILINE)  # as the help of every command has one
COMMANDS = "<!-- commands -->"  # where docs/command-line.md has the options of every command


def on_page_markdown(markdown: str, page, **_: object) -> str:
    """MkDocs calls it for every page."""
    return markdown.replace(COMMANDS, commands()) if page.file.src_uri == "command-line.md" else markdown


@cache
def commands() -> str:
    """Every command, its arguments and options, as Markdown: Typer's own page, its headings one level deeper."""
    typer = [sys.executable, "-m", "typer", "krypton_onnx.cli", "utils", "docs", "--name", "krypton-onnx"]
    # Without colours, and as wide as it likes: a terminal's size must not show in the page.
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
    done = subprocess.run(typer, capture_output=True, text=True, env=environment)
    _, _, after = done.stdout.partition("\n## ")  # what comes before the first command is on the page itself
    if done.returncode != 0 or not after:
        raise PluginError(f"{' '.join(typer)} failed:\n{done.stdout}{done.stderr}")
    return EXAMPLE.sub("```bash\n\\1\n```", "\n## " + after)
