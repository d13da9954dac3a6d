"""Notebooks become pages: nbconvert writes their cells and stored outputs as Markdown, the pictures as files."""

from __future__ import annotations

import re

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter


def on_files(files: Files, config, **_: object) -> Files:
    """MkDocs calls it once, with every file of docs/. The notebook itself stays a file to download."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page, pictures = as_markdown(notebook.content_string, notebook.src_uri)
        files.append(File.generated(config, notebook.src_uri.removesuffix(".ipynb") + ".md", content=page))
        for name, data in pictures.items():
            files.append(File.generated(config, name, content=data))
    return files


def on_page_markdown(markdown: str, page, **_: object) -> str:
    """A link to a notebook, which a code host shows as it is, leads to its page; on that page it is the file."""
    if page.file.generated_by is not None:
        return markdown
    return re.sub(r"\]\(([\w./-]+)\.ipynb\)", r"](\1.md)", markdown)


def as_markdown(notebook: str, uri: str) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook (JSON), and its pictures by the path from docs/. Nothing is run."""
    folder = uri.removesuffix(".ipynb") + "_files"
    resources = {"output_files_dir": folder, "unique_key": "output"}
    page, resources = MarkdownExporter().from_notebook_node(nbformat.reads(notebook, as_version=4), resources)
    return re.sub(r"!\[(?:png|jpeg|svg)\]", "![What the cell above shows]", page), resources["outputs"]
