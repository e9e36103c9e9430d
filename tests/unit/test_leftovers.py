"""What killed processes left is removed by the next one; what others still write is not."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import pytest

from icsnn_deploy import atomic, leftovers
from icsnn_deploy.atomic import atomic_write, folder_beside, replace_folder, restore_folder
from icsnn_deploy.leftovers import name_beside, remove_leftovers, temporary_folder


def leaves(path: Path, kind: str) -> None:
    """Make something as a process would that is killed before it removes it."""
    if kind == "draft of a folder":
        with folder_beside(path) as draft:
            (draft / "file").touch()
            os._exit(9)
    if kind == "draft of a file":
        with atomic_write(path) as draft:
            draft.touch()
            os._exit(9)
    with temporary_folder("tests") as folder:
        (folder / "file").touch()
        os._exit(9)


def left(path: Path, kind: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=leaves, args=(path, kind))
    process.start()
    process.join()
    assert process.exitcode == 9


@pytest.mark.parametrize("kind", ["draft of a folder", "draft of a file"])
def test_drafts_of_a_killed_process_are_removed(tmp_path: Path, kind: str) -> None:
    left(tmp_path / "b", kind)
    assert len(os.listdir(tmp_path)) == 1
    with folder_beside(tmp_path / "other") as draft:
        assert os.listdir(tmp_path) == [draft.name]
    assert os.listdir(tmp_path) == []


def test_temporary_folders_of_a_killed_process_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left(tmp_path, "temporary folder")
    assert len(os.listdir(tmp_path)) == 1
    with temporary_folder("others"):
        assert len(os.listdir(tmp_path)) == 2
    with temporary_folder("tests") as folder:
        assert os.listdir(tmp_path) == [folder.name]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == []


def test_drafts_of_a_living_process_are_kept(tmp_path: Path) -> None:
    with folder_beside(tmp_path / "one") as one, folder_beside(tmp_path / "two"):
        remove_leftovers(tmp_path)
        assert one.is_dir()


def test_drafts_of_another_machine_are_kept_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "_machine", lambda: "0123abcd")
        draft = name_beside(tmp_path / "b")
    draft.mkdir()
    remove_leftovers(tmp_path)
    assert draft.is_dir()
    past = time.time() - 25 * 3600
    os.utime(draft, (past, past))
    remove_leftovers(tmp_path)
    assert not draft.exists()


@pytest.mark.parametrize("name", [".b.tmp", ".b.0123abcd.tmp", "b.0123abcd-1-0123abcd.tmp", ".old"])
def test_other_names_are_never_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert (tmp_path / name).exists()


def is_killed_between_the_renames(target: Path) -> None:
    real = os.rename

    def rename(source: Path, to: Path) -> None:
        real(source, to)
        os._exit(9)

    atomic._exchange = lambda one, other: False
    with folder_beside(target) as draft:
        os.rename = rename  # type: ignore[assignment]
        replace_folder(draft, target)


def test_a_folder_comes_back_that_a_killed_process_had_put_aside(tmp_path: Path) -> None:
    """Only where the system can't exchange two folders in one step."""
    target = tmp_path / "b"
    target.mkdir()
    (target / "old").touch()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=is_killed_between_the_renames, args=(target,))
    process.start()
    process.join()
    assert not target.exists()
    remove_leftovers(tmp_path)  # keeps the only copy
    restore_folder(target)
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["b"]


def test_a_long_name_leaves_room_for_the_rest(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 120)
    with atomic_write(target) as draft:
        draft.touch()
    assert target.exists()


def test_a_umask_that_denies_the_owner_is_told(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        with (
            pytest.raises(PermissionError, match=r"mode 000.*umask 022"),
            folder_beside(tmp_path / "b"),
        ):
            raise AssertionError("the body must not run")
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == []
