"""Every code block of the landing page and of the how-to guides runs, in the order of the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.page_blocks import blocks_of, command_lines, run_page

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
LANDING = DOCS / "README.md"
GUIDES = sorted(DOCS.glob("how-to/*.md"))
MANUAL = sorted(DOCS.glob("guide/*.md"))
OTHERS = [DOCS / "troubleshooting.md", *sorted(DOCS.glob("concepts/*.md"))]
WITH_NAMES = [
    DOCS.parent / "README.md",
    DOCS / "reference" / "python.md",
]
TOOLS = {
    "needs nengo-loihi": pytest.mark.nengo_loihi,
    "needs SANA-FE": pytest.mark.sanafe,
    "needs an RTL simulator": pytest.mark.rtl,
}
"""What a block may need that the tests of a tool have: its marker."""
REASONS = {
    "a part of a command",
    "installs packages",
    "needs a GPU",
    "needs Lava",
    "needs chip tools",
    "needs data of your own",
    "needs other frameworks",
    "needs the vendor's software",
    "other tests run it",
    "starts processes",
    "takes minutes",
    *TOOLS,
}
"""What a block may need that the tests do not have."""


@pytest.fixture(scope="module")
def after_landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of someone who has followed the landing page."""
    folder = tmp_path_factory.mktemp("landing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_page(LANDING)
    return folder


def test_the_landing_page_gives_a_verified_nir_file(after_landing: Path) -> None:
    assert (after_landing / "build/mynet/network.nir").is_file()


@pytest.mark.parametrize("page", [*GUIDES, *OTHERS], ids=lambda page: page.stem)
def test_a_page_runs_in_the_folder_of_the_landing_page(
    page: Path, after_landing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(after_landing, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run_page(page)


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: page.stem)
def test_a_page_of_the_guide_runs_with_both(
    page: Path, after_landing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder of the landing page, with a model and loaders of the reader."""
    shutil.copytree(after_landing, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run_page(page, reader_names())


@pytest.mark.parametrize("page", [*MANUAL, *GUIDES, LANDING], ids=lambda page: page.stem)
def test_no_code_is_hidden_in_an_indented_block(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\n\n    \S.*", text) == []


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        pytest.param(page, reason, marks=mark, id=f"{page.stem} {reason}")
        for page in GUIDES
        for reason, mark in TOOLS.items()
        if any(block.reason == reason for block in blocks_of(page))
    ],
)
def test_the_blocks_of_a_page_that_need_a_tool_run_where_it_is(
    page: Path, reason: str, after_landing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(after_landing, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run_page(page, reason=reason)


@pytest.mark.parametrize("page", WITH_NAMES, ids=lambda page: page.stem)
def test_a_page_runs_with_a_model_and_loaders_of_the_reader(
    page: Path, after_landing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a page calls `model` or `test_images` is a small network, and the digits."""
    shutil.copy(after_landing / "digits.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    run_page(page, reader_names())


def reader_names() -> dict[str, Any]:
    """Names that pages use without defining them."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )
    data = np.load("digits.npz")
    images, labels = torch.tensor(data["images"][:40]), torch.tensor(data["labels"][:40])
    calibration = torch.utils.data.TensorDataset(torch.tensor(data["calibration"][:128]))
    loader = torch.utils.data.DataLoader(calibration, batch_size=64)
    return {
        "model": model.eval(),
        "x": data["calibration"][:64],
        "y": data["labels"][:64],
        "train_set": calibration,
        "dict_loader": [{"pixel_values": data["calibration"][:64]}],
        "loader": loader,
        "calibration_loader": loader,
        "test_images": images.numpy(),
        "test_labels": labels.numpy(),
        "test_loader": torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(images, labels), batch_size=20
        ),
    }


@pytest.mark.parametrize("page", [LANDING, *GUIDES, *MANUAL, *OTHERS], ids=lambda page: page.stem)
def test_a_block_that_is_not_run_has_a_known_reason(page: Path) -> None:
    assert {block.reason for block in blocks_of(page)} - {None} <= REASONS


def test_a_wrong_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    for block, raised in (
        ("```python\nassert False\n```\n", AssertionError),
        ("```sh\nicsnn inspect nowhere\n```\n", AssertionError),
        ("```sh\nicsnn targets  # exit code 1\n```\n", AssertionError),
        ("```sh\nls\n```\n", AssertionError),
        ("```yaml\na: [\n```\n", Exception),
        ("```ruby\n```\n", AssertionError),
    ):
        page.write_text(block)
        with pytest.raises(raised):
            run_page(page)
        page.write_text(f"<!-- not run: installs packages -->\n{block}")
        run_page(page)
    assert list(command_lines("a \\\n b\n# c\nd  # exit code 2\n")) == [
        ("a   b", 0),
        ("d  # exit code 2", 2),
    ]
