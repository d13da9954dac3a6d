"""Names of classes: read from a file, and found by what somebody remembers of them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from krypton_onnx.errors import ImageError, one_line

MOST_CLASSES = 1_000_000
_LISTED = 5  # of names, in a message


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the classes, from class 0 on.

    A text file of one name a line (a last empty line does not count), or JSON: a list of names, an object from class id
    to name ({"0": "cat"}; ImageNet's {"0": ["n02123045", "cat"]} too), or one that holds such an object as "id2label",
    as configurations of Hugging Face do. Raises ImageError where the file cannot be read or is none of these.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and a device may have no end
            raise ImageError(f"{path}: is not a regular file; labels are a text or JSON file of class names")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; labels are a text or JSON file of class names") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{str(path)[:200]}: cannot be read as text; labels are class names, one a line") from None
    if path.suffix.lower() == ".json":
        try:
            return _from_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ImageError(f"{path}: {one_line(error)}") from None
    names = tuple(line.strip() for line in text.splitlines())
    while names and not names[-1]:
        names = names[:-1]
    return check_labels(names, str(path))


def check_labels(names: Sequence[str], where: str = "labels") -> tuple[str, ...]:
    """The names as a tuple. Raises ImageError where they are no names, or none."""
    if isinstance(names, (str, bytes)) or not all(isinstance(name, str) for name in names):
        raise ImageError(f"{where}: must be names of classes, from class 0 on")
    if not names:
        raise ImageError(f"{where}: holds no names")
    return tuple(names)


def class_name(class_id: int, labels: Sequence[str] | None) -> str:
    """ "espresso (class 967)", or "class 967" where it has no name."""
    name = "" if labels is None or class_id >= len(labels) else " ".join(labels[class_id].split())
    return f"{name} (class {class_id})" if name else f"class {class_id}"


def find_class(word: str | int, labels: Sequence[str] | None) -> int:
    """The class that somebody means by its id, or by its name or one of its names, whatever the case.

    The full name counts first, then one of several between commas ("tabby, tabby cat"), then the only name that
    contains `word`. Raises ImageError where there is none, with what may have been meant, or where there are several.
    """
    text = str(word).strip()
    if text.isascii() and text.isdecimal():
        return int(text)
    if labels is None:
        raise ImageError(f"class {text!r} is a name, but the classes have none: give its number, or labels")
    wanted = _plain(text)
    for matches in (
        lambda name: wanted == _plain(name),
        lambda name: wanted in map(_plain, name.split(",")),
        lambda name: wanted and wanted in _plain(name),
    ):
        found = [index for index, name in enumerate(labels) if matches(name)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(class_name(index, labels) for index in found[:_LISTED])
            more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
            raise ImageError(f"class {text!r} could be {listed}{more}: give the number, or the whole name")
    raise ImageError(f"no class is called {text!r}{_suggested(wanted, labels)}")


def _suggested(wanted: str, labels: Sequence[str]) -> str:
    by_name = {_plain(part): index for index, name in enumerate(labels) for part in (*name.split(","), name)}
    close = list(dict.fromkeys(by_name[name] for name in get_close_matches(wanted, by_name, 3)))
    if not close:
        return f"; classes are numbers from 0 to {len(labels) - 1}, or their names"
    return f"; did you mean {' or '.join(class_name(index, labels) for index in close)}?"


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _from_json(data: Any) -> tuple[str, ...]:
    if isinstance(data, dict) and isinstance(data.get("id2label"), dict):
        data = data["id2label"]
    if isinstance(data, dict):
        if not all(key.isascii() and key.isdecimal() and int(key) < MOST_CLASSES for key in data):
            raise ValueError('is no object from class ids to names ({"0": "cat", "1": "dog"})')
        names = [""] * (max(map(int, data), default=-1) + 1)
        for key, value in data.items():
            names[int(key)] = _name(value)
        return check_labels(names, "labels")
    if isinstance(data, list):
        return check_labels([_name(value) for value in data], "labels")
    raise ValueError("is neither a list of names nor an object from class ids to names")


def _name(value: Any) -> str:
    if isinstance(value, list) and value:  # as ["n02123045", "tabby"]
        value = value[-1]
    if not isinstance(value, str):
        raise ValueError(f"holds {str(value)[:40]!r} where a name should be")
    return value
