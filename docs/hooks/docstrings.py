"""How the reference shows docstrings: their lines `name : text` become the items of a list.

The docstrings are written to be read in a terminal, by help(): paragraphs, and a line for each argument that starts
with its name, or several names, and a colon. Markdown would run such lines together.
"""

from __future__ import annotations

import re

import griffe

ITEM = re.compile(r"(?P<names>[a-z_][\w.]*(?:, [a-z_][\w.]*)*) : (?P<text>.*)", re.DOTALL)
HEADING = re.compile(r"(?m)^(\w+)\n-{3,}$")  # of a section, as NumPy's docstrings have them
AFTER_SENTENCE = re.compile(r"(?<=\.) (?=[a-z_][\w.]*(?:, [a-z_][\w.]*)* : )")  # a second item in the same line


def listed(docstring: str) -> str:
    """The docstring as Markdown."""
    paragraphs = HEADING.sub(r"**\1**\n", docstring).split("\n\n")
    return "\n\n".join(_items(paragraph) for paragraph in paragraphs)


def _items(paragraph: str) -> str:
    """A paragraph whose first line is an item, as a list; any other as it is."""
    lines = AFTER_SENTENCE.sub("\n", paragraph.strip("\n")).split("\n")
    if not ITEM.fullmatch(lines[0]):
        return paragraph
    items: list[str] = []
    for line in lines:
        if ITEM.fullmatch(line):
            items.append(line)
        else:
            items[-1] += " " + line.strip()
    return "\n".join(_item(item) for item in items)


def _item(item: str) -> str:
    match = ITEM.fullmatch(item)
    assert match is not None
    names = ", ".join(f"`{name}`" for name in match["names"].split(", "))
    return f"- {names}: {match['text']}"


class Lists(griffe.Extension):
    """Rewrites the docstrings as griffe reads them."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = listed(obj.docstring.value)
