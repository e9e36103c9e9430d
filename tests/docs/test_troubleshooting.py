"""docs/troubleshooting.md has a section, with a remedy, for every class of errors."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import icsnn_deploy
from icsnn_deploy import errors
from icsnn_deploy.errors import IcsnnError

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"


def sections() -> dict[str, str]:
    """The text of each section of errors, by its heading."""
    page = PAGE.read_text().partition("## Every error\n")[2]
    return dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", page, re.DOTALL | re.MULTILINE))


def classes() -> set[str]:
    """Names of all error classes of the package, wherever they are defined."""
    names = {
        name
        for module in pkgutil.walk_packages(icsnn_deploy.__path__, "icsnn_deploy.")
        if "worker" not in module.name and not module.name.endswith("__main__")
        for name in re.findall(r"^class (\w+)\(\w*Error\b", source(module.name), re.MULTILINE)
    }
    types = (v for v in vars(errors).values() if isinstance(v, type))
    known = {found.__name__ for found in types if issubclass(found, IcsnnError)}
    return known | {name for name in names if not name.startswith("_")}


def source(module: str) -> str:
    path = Path(icsnn_deploy.__path__[0], *module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text()


def test_every_class_of_errors_has_a_section() -> None:
    assert len(classes()) > 10
    assert set(sections()) == classes()


def test_every_section_has_a_remedy() -> None:
    without = [name for name, text in sections().items() if "**Remedy:**" not in text]
    assert without == ["IcsnnError"]
