"""The licences of the packages that a built page holds: who passes the page on must pass on their notices, too."""

from __future__ import annotations

import json
from pathlib import Path

FILE = "licenses.txt"
_TEXTS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "ThirdPartyNotices*")


def notices(app: Path) -> str:
    """Of every package that is no tool of the build: its name, version, licence, and the texts that it comes with.

    app : the sources, their packages installed.
    """
    lock = json.loads((app / "package-lock.json").read_text(encoding="utf-8"))
    packages = [name for name, one in lock.get("packages", {}).items() if name and not one.get("dev")]
    parts = ["This page holds code of the packages below, built into it unchanged or in part.\n"]
    return "\n".join([*parts, *(_notice(app / name) for name in sorted(packages) if (app / name).is_dir())])


def _notice(package: Path) -> str:
    told = json.loads((package / "package.json").read_text(encoding="utf-8"))
    author = told.get("author", "")
    name = author.get("name", "") if isinstance(author, dict) else author
    title = f"{told.get('name', package.name)} {told.get('version', '')}"
    lines = ["-" * 80, f"{title}: {told.get('license', 'no licence')}"]
    lines += [f"Author: {name}"] if name else []
    lines += [f"Homepage: {told['homepage']}"] if told.get("homepage") else []
    files = sorted({path for pattern in _TEXTS for path in package.glob(pattern) if path.is_file()})
    texts = [path.read_text(encoding="utf-8", errors="replace").strip() for path in files]
    return "\n".join([*lines, "", *(f"{text}\n" for text in texts)])
