"""Files seen whole or not at all: what stands in a folder while one is written, and after."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from icsnn_deploy.atomic import atomic_write, folder_beside, replace_folder


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("there", [True, False])
def test_a_file_takes_its_place_when_it_is_done(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "file"
    if there:
        target.write_bytes(b"old")
    with atomic_write(target) as draft:
        draft.write_bytes(b"new")
        assert draft.parent == tmp_path
        assert draft.name.startswith(".file.")
        assert target.read_bytes() == b"old" if there else not target.exists()
    assert names(tmp_path) == ["file"]
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [True, False])
def test_a_write_that_fails_keeps_the_old_file(
    tmp_path: Path, failure: type[BaseException], written: bool
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail() -> None:
        with atomic_write(target) as draft:
            if written:
                draft.write_bytes(b"half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert names(tmp_path) == ["file"]
    assert target.read_bytes() == b"old"


def test_a_rename_that_fails_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "folder") as draft:
        draft.write_bytes(b"new")
    assert names(tmp_path) == ["folder"]


def test_a_body_that_writes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"gold")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with atomic_write(tmp_path / "link") as draft:
        draft.write_bytes(b"new")
    assert (tmp_path / "precious").read_bytes() == b"gold"
    assert not (tmp_path / "link").is_symlink()


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as one, atomic_write(tmp_path / "file") as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert (tmp_path / "file").read_bytes() == b"one"  # the outer block ends last
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "file") as draft:
            draft.touch()
        with folder_beside(tmp_path / "bundle") as folder:
            os.rename(folder, tmp_path / "bundle")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("failure", [None, ValueError, KeyboardInterrupt])
def test_a_folder_goes_with_what_is_left_in_it(
    tmp_path: Path, failure: type[BaseException] | None
) -> None:
    def work() -> None:
        with folder_beside(tmp_path / "file") as folder:
            assert names(folder) == []
            assert folder.parent == tmp_path
            (folder / "moved").write_bytes(b"kept")
            (folder / "left").mkdir()
            os.replace(folder / "moved", tmp_path / "file")
            if failure is not None:
                raise failure

    if failure is None:
        work()
    else:
        with pytest.raises(failure):
            work()
    assert names(tmp_path) == ["file"]


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), folder_beside(tmp_path / "missing" / "file"):
        raise AssertionError("the body must not run")


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "bundle"
    if there:
        target.mkdir()
        (target / "old").touch()
    with folder_beside(target) as draft:
        (draft / "new").touch()
        replace_folder(draft, target)
        assert names(target) == ["new"]
        assert [names(draft)] == [["old"]] if there else not draft.exists()
    assert names(tmp_path) == ["bundle"]
    assert names(target) == ["new"]


def test_a_path_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder and the root have none; they are refused as folders are."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"'\.'"), atomic_write(Path(".")) as draft:
        draft.write_bytes(b"new")
    assert names(tmp_path) == []
