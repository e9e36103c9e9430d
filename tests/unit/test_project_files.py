"""What the project's pages, workflows and citation say of the repository is true."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from icsnn_deploy.version import __version__
from tests.support.wheel_check import NO_EXTRA, PARTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
FORMS = sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("docs/**/*.md")])

CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]: +(\S+)", re.MULTILINE)
COMMAND = re.compile(r"\bmake((?: +[A-Z_]+=\S+)*)((?: +[a-z][a-z0-9-]*)+)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(CODE_BLOCK.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (unique := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(unique)
    return found


def broken_links(page: Path) -> Iterator[str]:
    """Relative links that lead to no file, or to no heading of a page."""
    text = CODE_BLOCK.sub("", page.read_text())
    for match in LINK.finditer(re.sub(r"`[^`\n]*`", "", text)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or ROOT not in target.resolve().parents:
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target.read_text()):
            yield f"{link}: no such heading"


def targets() -> set[str]:
    """The targets of the Makefile that are no files."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    declared = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert declared is not None
    return set(declared[1].split())


def code(page: Path) -> str:
    """What a page shows as code, in lines or between backticks; all of a workflow."""
    text = page.read_text()
    if page.suffix != ".md":
        return "\n".join(step["run"] for step in steps(page) if "run" in step)
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    fenced = [match[0] for match in CODE_BLOCK.finditer(text)]
    return "\n".join([*lines, *fenced, *re.findall(r"`([^`]+)`", CODE_BLOCK.sub("", text))])


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_every_page_of_the_site_is_in_its_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r"[\w/-]+\.md", menu))
    assert {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")} <= listed


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_text_is_taken_for_a_link(page: Path) -> None:
    """[channel][y] is a link with the label y; in backticks it is text."""
    text = re.sub(r"`[^`\n]*`", "", CODE_BLOCK.sub("", page.read_text()))
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    assert re.findall(r"\]\[[^\]]+\]", text) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# A [title](x), `code` and\n# Twice\n# Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[good](other.md#a-title-code-and) [good](other.md#twice-1) [good](#here)\n"
        "[web](https://example.org/none.md) `[code](none.md)`\n```\n[code](none.md)\n```\n"
        "[bad](none.md) [bad](other.md#none) [bad](#none) ![bad](<none.svg>)\n\n[bad]: gone.md\n"
    )
    assert [problem.partition(":")[0] for problem in broken_links(page)] == [
        *("none.md", "other.md#none", "#none", "none.svg", "gone.md")
    ]


@pytest.mark.parametrize("page", [*PAGES, *WORKFLOWS], ids=relative)
def test_every_make_target_that_a_page_names_is_there(page: Path) -> None:
    named = {name for _, names in COMMAND.findall(code(page)) for name in names.split()}
    assert named <= targets()


def test_targets_of_the_makefile_have_a_rule() -> None:
    text = (ROOT / "Makefile").read_text()
    assert {name for name in targets() if not re.search(rf"^{name}:", text, re.MULTILINE)} == set()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=relative)
def test_workflows_run_make_and_nothing_else(workflow: Path) -> None:
    """What runs there runs here by the same command."""
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert commands
    assert all(COMMAND.fullmatch(command) for command in commands)
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_the_classifiers_are_the_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    classified = [c.rpartition(" ")[2] for c in project["classifiers"] if c.startswith(prefix)]
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == classified
    assert project["requires-python"] == f">={classified[0]}"


def test_the_lowest_dependencies_are_tried_on_the_lowest_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [
        step["with"]["python-version"]
        for step in steps(ROOT / ".github/workflows/lowest.yml")
        if "python-version" in step.get("with", {})
    ]
    assert versions == [project["requires-python"].removeprefix(">=")]


def test_every_extra_is_tried_in_a_bare_environment() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == set(PARTS) - {NO_EXTRA}


@pytest.mark.parametrize("form", FORMS, ids=relative)
def test_issue_forms_are_well_formed(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    if form.name == "config.yml":
        assert all({"name", "url", "about"} == set(link) for link in content["contact_links"])
        return
    assert {"name", "description", "body"} <= set(content)
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    assert citation["title"] == project["name"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert citation["repository-code"] == project["urls"]["Repository"]


def test_the_changelog_begins_with_what_is_unreleased_and_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert re.search(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])", text)
    kinds = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
