"""Render a page as one HTML file that needs no other file and no network."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.report.page.document import Page

if TYPE_CHECKING:
    from jinja2 import Environment

INSTALL = "pip install 'icsnn-deploy[report]'"
"""The command that installs what pages are made with."""


def render_page(page: Page) -> str:
    """The HTML of a page.

    Every text of the page is escaped; only the <svg> of its pictures is taken as it is.

    Raises:
        BackendUnavailableError: Jinja2 is not installed; names the command to run.
    """
    return environment().get_template("page.html").render(page=page)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Jinja2 with the package's templates; raises BackendUnavailableError."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise BackendUnavailableError(
            f"pages are rendered with Jinja2, which is not installed; run: {INSTALL}"
        ) from error
    found = Environment(
        loader=PackageLoader("icsnn_deploy.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["png_uri"] = _png_uri
    return found


def _png_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
