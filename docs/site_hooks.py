"""What the site adds to the pages, called by MkDocs (`make docs`).

- Links to files outside docs/ lead to the repository; those to a notebook that the site shows, to
  its page.
- The tutorial is a page made of the notebook, with the outputs that the notebook has.
- reference/cli.md gets the help of every command, and reference/api.md every public name.
- A site whose pages load something from another host is refused.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {"examples/notebooks/tutorial.ipynb": "tutorial.md"}
LINK = re.compile(r"(\]\(|\bsrc=\")(?![a-z]+:|#|/)([^)\s#\"]+)")
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon)[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon)[^>]*>"
    r"|@import[^;]*//[^;]*;|url\([\"']?(?:https?:)?//[^)]*\)"
)
COMMANDS = "<!-- commands -->"
PUBLIC = "<!-- public names -->"


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each notebook, and its pictures beside it."""
    for notebook, page in NOTEBOOKS.items():
        text, resources = MarkdownExporter().from_filename(str(ROOT / notebook))
        files.append(File.generated(config, page, content=text))
        for name, content in resources["outputs"].items():
            files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in the generated parts of a page, and turn links that leave docs/."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, _commands())
    if PUBLIC in markdown:
        markdown = markdown.replace(PUBLIC, _public_names())
    source = page.file.src_uri
    folder = "examples/notebooks" if source in NOTEBOOKS.values() else f"docs/{source}/.."
    return LINK.sub(lambda m: m[1] + _turned(m[2], folder, source, files, config), markdown)


def on_post_build(config: Any) -> None:
    """Refuse pages that load something from another host."""
    site = Path(config["site_dir"])
    loaded = {
        f"{page.relative_to(site)}: {found[:120]}"
        for suffix in ("html", "css")
        for page in site.rglob(f"*.{suffix}")
        for found in LOADED.findall(page.read_text())
    }
    if loaded:
        raise PluginError("loaded from another host: " + "; ".join(sorted(loaded)))


def _turned(link: str, folder: str, source: str, files: Files, config: Any) -> str:
    """The address of a linked file, from the page of the site."""
    path = posixpath.normpath(posixpath.join(folder, link))
    here = posixpath.dirname(source)
    if path in NOTEBOOKS:
        return posixpath.relpath(NOTEBOOKS[path], here or ".")
    if path.startswith("docs/") and not path.endswith(".py"):
        return posixpath.relpath(path.removeprefix("docs/"), here or ".")
    if files.get_file_from_path(posixpath.join(here, link)):  # a picture of a notebook
        return link
    return f"{config['extra']['repository']}/blob/main/{path}"


def _commands() -> str:
    """The help of every command, as typer writes it for pages."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    try:
        from click import Context
    except ImportError:  # typer 0.29 brings its own
        from typer._click import Context

    from icsnn_deploy.cli import app

    command = get_command(app)
    context = Context(command, info_name="icsnn")
    text = get_docs_for_click(obj=command, ctx=context, name="icsnn", title="Commands")
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def _public_names() -> str:
    """A heading for each comment in the list of public names, and a block for each name."""
    stub = (ROOT / "icsnn_deploy" / "__init__.pyi").read_text()
    places = {
        node.lineno: alias.asname
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lines: list[str] = []
    for number, line in enumerate(stub.splitlines(), 1):
        heading = re.fullmatch(r"# (\w[\w ,]*)", line)
        if heading and number > 2:
            lines += ["", f"## {heading[1]}", ""]
        elif (name := places.get(number)) and name != "__version__":
            lines += [f"::: icsnn_deploy.{name}", ""]
    return "\n".join(lines)
