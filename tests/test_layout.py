"""The rooms import in one direction only, nothing imports through the links at the root, the docs name what is public.

The source is read (ast), not run, so an import inside a function or under TYPE_CHECKING counts like any other.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import krypton_onnx

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "krypton_onnx"
ROOMS = ("rewriter", "runtime", "numba_kernels")
LEAVES = ("errors", "tolerance", "files", "forking", "values")
"""Modules that every room but numba_kernels may use; they use only each other."""
PICTURES = ("images", "labels")
"""From files to arrays and names: what a session needs to take a picture. They know no model."""

ALLOWED = {
    "numba_kernels": {"numba_kernels"},
    "rewriter": {"rewriter", "leaf"},
    "runtime": {"runtime", "rewriter", "numba_kernels", "pictures", "leaf"},
    "leaf": {"leaf"},
    "pictures": {"pictures", "leaf"},
    "cli": {"cli", "api", "runtime", "pictures", "leaf"},
    # The public names: what `convert` and `inspect` return is made of plans, and `register` is about the kernels.
    "api": {"api", "cli", "runtime", "rewriter", "pictures", "leaf"},
    f"{PACKAGE}/registration.py": {"api", "runtime", "numba_kernels", "leaf"},
}

FOLDERS = (PACKAGE, "tests", "benchmarks")
SOURCES = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(tree: ast.AST, folder: list[str]) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything that a module in `folder` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from krypton_onnx import runtime` names the room only behind the word import.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def layer(parts: list[str]) -> str:
    """The row of ALLOWED for a module of the package: its dotted name after `krypton_onnx.`."""
    first = parts[0] if parts else ""
    if first in (*ROOMS, "cli"):
        return first
    return "leaf" if first in LEAVES else "pictures" if first in PICTURES else "api"


def complaints(path: str, source: str) -> list[str]:
    """What is wrong with the imports of this file; `path` is relative to the root."""
    *folder, name = path.split("/")
    found = []
    for line, target in imported(ast.parse(source), folder):
        head, *rest = target.split(".")
        if head in ROOMS:
            found.append(f"{path}:{line}: imports through a link at the root: write {PACKAGE}.{target}")
        elif head == PACKAGE and folder[:1] == [PACKAGE]:
            own = path if path in ALLOWED else layer([*folder[1:], name.removesuffix(".py")])
            if layer(rest) not in ALLOWED[own]:
                found.append(f"{path}:{line}: {own} may not import {target}")
    return found


@pytest.mark.parametrize("path", SOURCES)
def test_imports_go_in_one_direction(path: str) -> None:
    assert complaints(path, (ROOT / path).read_text()) == []


def test_every_module_is_looked_at() -> None:
    for room in ROOMS:
        assert any(path.startswith(f"{PACKAGE}/{room}/") for path in SOURCES)
        assert (ROOT / room).resolve() == ROOT / PACKAGE / room


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tests/test_x.py", "import rewriter"),
        ("tests/test_x.py", "def test():\n    from runtime.session import OcclusionSession"),
        ("tests/test_x.py", "import importlib\nimportlib.import_module('runtime.split')"),
        ("benchmarks/x.py", "from numba_kernels import CPU_KERNELS"),
        ("krypton_onnx/demo.py", "import numba_kernels.window as window"),
        ("krypton_onnx/numba_kernels/x.py", "from krypton_onnx.errors import ModelError"),
        ("krypton_onnx/numba_kernels/x.py", "from ..errors import ModelError"),
        ("krypton_onnx/numba_kernels/x.py", "import krypton_onnx"),
        ("krypton_onnx/rewriter/x.py", "from krypton_onnx.runtime import grid"),
        ("krypton_onnx/rewriter/x.py", "from krypton_onnx import runtime"),
        ("krypton_onnx/rewriter/passes/x.py", "from ...numba_kernels import CPU_KERNELS"),
        ("krypton_onnx/rewriter/x.py", "if TYPE_CHECKING:\n    from krypton_onnx.runtime.grid import Grid"),
        ("krypton_onnx/runtime/x.py", "from krypton_onnx import OcclusionSession"),
        ("krypton_onnx/runtime/custom_ops/x.py", "from krypton_onnx.cli import console"),
        ("krypton_onnx/conversion.py", "from krypton_onnx.numba_kernels import CPU_KERNELS"),
        ("krypton_onnx/cli/x.py", "from krypton_onnx.rewriter import load_model"),
        ("krypton_onnx/errors.py", "from krypton_onnx.rewriter import Plan"),
        ("krypton_onnx/rewriter/x.py", "from krypton_onnx.images import read_image"),
        ("krypton_onnx/images/prepared.py", "from krypton_onnx.runtime.images import as_batch"),
        ("krypton_onnx/labels.py", "from krypton_onnx.specification import ExplanationSpec"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert len(complaints(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tests/test_x.py", "from krypton_onnx.runtime.session import OcclusionSession"),
        ("tests/test_x.py", "from elsewhere.runtime import session\nimport runtime_of_another"),
        ("krypton_onnx/numba_kernels/x.py", "import numpy as np\nfrom .rows import gather"),
        ("krypton_onnx/rewriter/passes/x.py", "from ..ort_graph import known_dims\nfrom ...errors import ModelError"),
        ("krypton_onnx/runtime/x.py", "from krypton_onnx.rewriter import Plan\nfrom ..numba_kernels import Kernel"),
        ("krypton_onnx/registration.py", "from krypton_onnx.numba_kernels import CPU_KERNELS"),
    ],
)
def test_an_allowed_import_is_not(path: str, source: str) -> None:
    assert complaints(path, source) == []


def test_public_names_are_those_in_the_docs() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    documented = {name for page in pages for name in re.findall(r"\bkx\.(\w+)", page.read_text())}
    assert documented == set(krypton_onnx.__all__)
    assert len(krypton_onnx.__all__) == len(documented), "a name is listed twice"
    for name in krypton_onnx.__all__:
        assert getattr(krypton_onnx, name).__name__ in (name, f"{PACKAGE}.{name}")  # a module, by its whole name
