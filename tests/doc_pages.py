"""The documentation's pages, and how their code blocks run: Sybil parses the pages, each language is run its own way.

A block is run where the page has it, after the blocks before it, in the folder of `doc_files`; the Python blocks of a
page share their names. Marks, which a reader of the page does not see, are comments before a block:

    <!-- skip: next "why it cannot run here" -->    Sybil's own; tests/test_docs.py lists them all
    <!-- prints -->                                 what the block before prints is this text, numbers apart
"""

import contextlib
import io
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from typer.testing import CliRunner

import krypton_onnx as kx
from krypton_onnx.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
PRINTS = re.compile(r"<!-- prints -->\s*\Z")
OUTPUT = "_output"  # in a page's names: what the last block printed
PROGRAM = "krypton-onnx"


def parse(page: str | Path) -> Document:
    """A page's blocks, ready to be evaluated in their order. page: a path from the root, or a whole one."""
    document = Sybil([SkipParser(), _blocks]).parse(ROOT / page)
    document.namespace.update(__name__="__main__", installed=_installed)
    return document


def skips(document: Document) -> list[str]:
    """The marks of what does not run: the argument of each, a reason or a condition."""
    return [example.parsed[1] for example in document if isinstance(example.parsed, tuple)]


def languages(document: Document) -> list[tuple[int, str]]:
    """(line, language) of every block."""
    return [(example.line, example.region.lexemes["language"]) for example in document if example.region.lexemes]


def run(document: Document) -> list[str]:
    """Evaluate every block. Returns the reasons of those that were skipped."""
    reasons = []
    for example in document:
        try:
            example.evaluate()
        except SkipTest as skipped:
            reasons.append(str(skipped))
        except Exception as error:
            where = f"{os.path.relpath(document.path, ROOT)}:{example.line}"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
    return reasons


def _installed(package: str) -> bool:
    """For the conditions of marks."""
    return find_spec(package) is not None


def _blocks(document: Document) -> Iterator[Region]:
    lexer = RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^\n]*)$\n", re.MULTILINE))
    for region in lexer(document):
        region.parsed = region.lexemes["source"]
        region.evaluator = EVALUATORS.get(region.lexemes["language"], _unknown)
        yield region


def _python(example: Example) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        PythonEvaluator()(example)
    example.namespace[OUTPUT] = printed.getvalue()


def _bash(example: Example) -> None:
    """Commands of the program, in this process, whose exit code must be 0. Of the shell: globs, `> FILE`, comments."""
    printed = []
    for line in example.parsed.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != PROGRAM:
            raise AssertionError(f"not a command of {PROGRAM}: {line}; mark the block where it cannot run here")
        target = words[words.index(">") + 1] if ">" in words else None
        words = words[1 : words.index(">")] if target else words[1:]
        result = CliRunner().invoke(app, [one for word in words for one in _expanded(word)])
        if result.exit_code != 0:
            raise AssertionError(f"{line}\nexit code {result.exit_code}: {result.output}") from result.exception
        if target:
            Path(target).write_text(result.stdout)
        printed.append(result.output)
    example.namespace[OUTPUT] = "".join(printed)


def _expanded(word: str) -> list[str]:
    found = sorted(glob(word)) if set(word) & set("*?[") else []
    return found or [word]


def _text(example: Example) -> None:
    """Output as it is shown: every line but "..." is printed by the block before, in this order, numbers apart."""
    if not PRINTS.search(example.document.text[: example.start]):
        return
    printed = _without_numbers(example.namespace[OUTPUT])
    rest = iter(printed)
    for line in _without_numbers(example.parsed):
        if line != "..." and not any(line == one for one in rest):
            raise AssertionError(f"{line!r} is not printed, after the lines before it; but:\n" + "\n".join(printed))


def _without_numbers(text: str) -> list[str]:
    """The lines of a text, each number a #, runs of blanks and rules as one; blank lines left out."""
    lines = (re.sub(r"\d[\d,.]*(?:e[-+]?\d+)?", "#", line) for line in text.splitlines())
    lines = (re.sub(r"[─-╿]+", "-", re.sub(r"\s+", " ", line)).strip() for line in lines)
    return [line for line in lines if line.strip(" -")]


def _toml(example: Example) -> None:
    """A specification is read as one, other TOML as TOML."""
    values = tomllib.loads(example.parsed)
    if "format" in values:
        Path("spec.toml").write_text(example.parsed)
        kx.ExplanationSpec.load("spec.toml")


def _json(example: Example) -> None:
    json.loads(example.parsed)


def _shown(_: Example) -> None:
    """A listing to be read: nothing to run."""


def _unknown(example: Example) -> None:
    raise AssertionError(f"a block of {example.region.lexemes['language']!r}: known are {', '.join(EVALUATORS)}")


LISTINGS = ("cpp", "csharp", "java", "javascript", "protobuf", "yaml")
EVALUATORS = {"python": _python, "bash": _bash, "text": _text, "toml": _toml, "json": _json}
EVALUATORS |= dict.fromkeys(LISTINGS, _shown)
