"""Exports that are folders: every file is listed, checked and replaced with the others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.errors import BundleError
from tests.support.graphs import residual_network


def writes(**files: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        for name, text in files.items():
            (path / name).write_text(text)

    return write


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    network = residual_network(time_steps=2)
    made = create_bundle(tmp_path / "b", network=network, ann=None, samples=None, report={})
    return made.with_export("c", "network-c", writes(a="first", b="second"))


def test_each_file_of_a_folder_is_listed(bundle: Bundle) -> None:
    assert open_bundle(bundle.path) == bundle
    assert bundle.manifest.files_in("network-c") == ("network-c/a", "network-c/b")
    assert bundle.export("c") == bundle.path / "network-c"
    bundle.check_files()


def test_a_new_folder_replaces_the_old_one_as_a_whole(bundle: Bundle) -> None:
    before = bundle.manifest.sha256_of_export("network-c")
    again = bundle.with_export("c", "network-c", writes(b="third", c="fourth"))
    assert again.manifest.files_in("network-c") == ("network-c/b", "network-c/c")
    assert sorted(os.listdir(again.export("c"))) == ["b", "c"]
    assert again.manifest.sha256_of_export("network-c") != before


@pytest.mark.parametrize("damage", ["change", "remove", "link", "link the folder"])
def test_damage_to_any_file_is_found(bundle: Bundle, damage: str) -> None:
    folder = bundle.path / "network-c"
    if damage == "change":
        (folder / "b").write_text("Second")
    elif damage == "link the folder":
        shutil.move(folder, bundle.path / "elsewhere")
        folder.symlink_to(bundle.path / "elsewhere")
    else:
        (folder / "b").rename(bundle.path / "elsewhere")
        if damage == "link":
            (folder / "b").symlink_to(bundle.path / "elsewhere")
    with pytest.raises(BundleError):
        open_bundle(bundle.path).export("c")
    with pytest.raises(BundleError):
        bundle.check_files()


def test_files_beside_those_of_the_export_do_no_harm(bundle: Bundle) -> None:
    (bundle.path / "network-c" / "network.o").write_text("compiled")
    assert open_bundle(bundle.path).export("c") == bundle.path / "network-c"


def test_a_failing_writer_leaves_the_old_folder(bundle: Bundle) -> None:
    def fails(path: Path) -> None:
        path.mkdir()
        raise OSError(28, "No space left on device")

    with pytest.raises(BundleError, match="No space left"):
        bundle.with_export("c", "network-c", fails)
    assert (open_bundle(bundle.path).export("c") / "a").read_text() == "first"


def test_a_folder_of_the_user_is_not_replaced(bundle: Bundle) -> None:
    (bundle.path / "mine").mkdir()
    (bundle.path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="the manifest does not list; move it elsewhere"):
        bundle.with_export("other", "mine", writes(a="x"))
    assert (bundle.path / "mine" / "thesis.txt").exists()


def test_files_of_the_user_in_the_folder_are_not_deleted(bundle: Bundle) -> None:
    mine = bundle.path / "network-c" / "main.c"
    mine.write_text("my work")
    with pytest.raises(BundleError, match=r"would delete main\.c; move what is yours elsewhere"):
        bundle.with_export("c", "network-c", writes(a="x"))
    assert mine.read_text() == "my work"
    assert (open_bundle(bundle.path).export("c") / "a").read_text() == "first"


@pytest.mark.parametrize("name", ["other/a", "network-c/d/a", "network-c/../a", "network-c/", "/a"])
def test_a_manifest_lists_no_file_outside_the_folder_of_an_export(
    bundle: Bundle, name: str
) -> None:
    path = bundle.path / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name] = manifest["files"]["network-c/a"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="malformed"):
        open_bundle(bundle.path)
