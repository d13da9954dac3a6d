"""The page's own files: packaged with us, or built once by npm from the sources, into the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from krypton_onnx.errors import KryptonError, one_line
from krypton_onnx.web import licenses
from krypton_onnx.web.node import Node, find_node

SOURCES = Path(__file__).with_name("app")
PACKAGED = Path(__file__).with_name("built")
PAGE = "index.html"
STAMP = "sources.sha256"  # in a built page: the digest of what it was built from; no part of a site
# Of the sources, what the page is built from: tests and what tools leave beside them change nothing.
FOLDERS, SUFFIXES = ("src", "public"), (".html", ".json", ".ts")
PATIENCE = 1200.0  # seconds for one command of npm
LAST_LINES = 8  # of npm's output, in a message

Build = Callable[[Path, Path], None]  # (a copy of the sources, where the page is to be)
Say = Callable[[str], None]


def built_page(say: Say = lambda text: None, build: Build | None = None) -> Path:
    """The folder of the built page, which must not be changed. say : told, in a line, what takes long.

    Raises KryptonError where it must be built and cannot be.
    """
    digest = sources_digest()
    if (PACKAGED / PAGE).is_file() and digest in (None, _stamp(PACKAGED)):
        return PACKAGED
    if digest is None:
        raise KryptonError(f"{SOURCES}: neither the page nor its sources are there: install krypton-onnx again")
    cache = cache_folder()
    page = cache / f"web-{digest[:16]}"
    if _stamp(page) == digest:
        return page
    with _alone(cache / f"web-{digest[:16]}.lock", say):
        if _stamp(page) != digest:  # nobody built it meanwhile
            say("building the page, once (npm; about a minute)")
            build_page(page, build)
    return page


def build_page(page: Path, build: Build | None = None) -> None:
    """Build the sources into the folder `page`, which appears whole. Raises KryptonError where that fails."""
    digest = sources_digest()
    assert digest is not None
    work = page.parent / f".web-{secrets.token_hex(6)}"
    try:
        work.mkdir()
        _copy_sources(work / "app")
        (build or npm_build)(work / "app", work / "page")
        if not (work / "page" / PAGE).is_file():
            raise KryptonError(f"building the page made no {PAGE}")
        (work / "page" / STAMP).write_text(digest + "\n")
        if page.exists():  # half of one, or of other sources
            os.rename(page, work / "old")
        os.rename(work / "page", page)
    except OSError as error:
        raise KryptonError(f"cannot write {page}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def npm_build(app: Path, page: Path) -> None:
    """Build by npm, exactly what the lock file names. Raises KryptonError where it fails, with its last words."""
    node = find_node(least_node(app))
    # Scripts of packages are not run: none of ours needs one to be installed.
    _npm(node, app, "ci", "--ignore-scripts", "--include=dev")
    _npm(node, app, "run", "build", "--", "--outDir", str(page), "--emptyOutDir")
    (page / licenses.FILE).write_text(licenses.notices(app), encoding="utf-8")


def least_node(app: Path) -> tuple[int, ...]:
    """The version that package.json asks for."""
    engines = json.loads((app / "package.json").read_text(encoding="utf-8")).get("engines", {})
    least = re.match(r">=\s*(\d+(?:\.\d+)*)", str(engines.get("node", "")))
    return tuple(map(int, least[1].split("."))) if least else (20,)


def sources_digest() -> str | None:
    """SHA-256 of the sources and their names; None where there are none (a package without them)."""
    if not (SOURCES / "package-lock.json").is_file():
        return None
    digest = hashlib.sha256()
    for path in _sources():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(SOURCES).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Ours among the user's caches, made where it is missing. Raises KryptonError where it cannot be."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # As the XDG Base Directory Specification has it: a relative path does not count.
        base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
        folder = base / "krypton-onnx"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # no home
        raise KryptonError(f"the page is built into a cache folder, which cannot be made ({one_line(error)}): set "
                           "XDG_CACHE_HOME to a folder that can be written") from None  # fmt: skip
    return folder


def _stamp(page: Path) -> str | None:
    """What a built page was built from; None where it is none."""
    try:
        return (page / STAMP).read_text().strip() if (page / PAGE).is_file() else None
    except (OSError, UnicodeDecodeError):
        return None


def _sources() -> list[Path]:
    top = [path for path in SOURCES.iterdir() if path.is_file() and path.suffix in SUFFIXES]
    below = [path for folder in FOLDERS for path in (SOURCES / folder).rglob("*") if path.is_file()]
    return sorted(path for path in (*top, *below) if not path.name.startswith("."))


def _copy_sources(target: Path) -> None:
    for path in _sources():
        copy = target / path.relative_to(SOURCES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _npm(node: Node, folder: Path, *arguments: str) -> None:
    what = f"npm {' '.join(arguments[:2] if arguments[0] == 'run' else arguments[:1])}"
    try:
        done = subprocess.run(
            [*node.npm, *arguments], cwd=folder, env=node.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise KryptonError(f"building the page: {what} did not end within {PATIENCE / 60:.0f} minutes") from None
    if done.returncode != 0:
        lines = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]
        told = " | ".join(lines[-LAST_LINES:])[-1500:] or "it said nothing"
        raise KryptonError(f"building the page: {what} failed (exit code {done.returncode}): {told}")


@contextmanager
def _alone(path: Path, say: Say) -> Iterator[None]:
    """While the block runs no other process is in one with this path."""
    try:
        import fcntl
    except ImportError:  # Windows: two may build the same page at once, and the second replaces the first's
        yield
        return
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds the page, waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # unlocked when the file is closed, also where the process is killed
