"""Write the report of bundles as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import DataError
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.report.page.drawing import require_matplotlib
from icsnn_deploy.report.page.markdown import render_markdown
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.render import environment, render_page
from icsnn_deploy.report.page.sections import report_page

ENDINGS = (".html", ".htm")


def check_out(out: Path) -> None:
    """Check, before anything is measured, that a report can be written to this file.

    Raises:
        DataError: another ending, a folder, or a folder that does not exist.
        BackendUnavailableError: Jinja2 or matplotlib is not installed; names the command to run.
    """
    if out.suffix.lower() not in ENDINGS:
        raise DataError(f"{out}: a file that ends in {' or '.join(ENDINGS)} is needed")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise DataError(f"{out}: a file in a folder that exists is needed")
    environment()
    require_matplotlib()


def write_report(
    found: Sequence[tuple[Bundle, BundleMeasures]], out: Path, *, progress: Progress = silent
) -> tuple[Path, Path]:
    """Write the page, and beside it the same as Markdown; each whole or not at all.

    Args:
        found: bundles with what was measured of them; several are compared.
        out: the HTML file.
        progress: called before and after.

    Returns:
        the HTML file and the Markdown file.

    Raises:
        DataError: a file can't be written.
    """
    check_out(out)
    progress("drawing the page", 0, None)
    page = report_page(found)
    files = {out: render_page(page), out.with_suffix(".md"): render_markdown(page)}
    for path, text in files.items():
        try:
            with atomic_write(path) as draft:
                draft.write_text(text, encoding="utf-8", errors="replace")  # names of files
        except OSError as error:
            raise DataError(f"{path}: can't be written ({error.strerror})") from error
    progress("drawing the page", 1, 1)
    return out, out.with_suffix(".md")
