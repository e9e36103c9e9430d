"""Several commands on one bundle: no update is lost, and a killed one is finished by the next."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from icsnn_deploy import atomic
from icsnn_deploy.bundle import swap
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import BundleError
from icsnn_deploy.locks import locked_folder
from tests.support.graphs import residual_network

NETWORK = residual_network(time_steps=2)
OTHER = residual_network(seed=1, time_steps=3)


def create(path: Path, seed: int = 0) -> Bundle:
    network = OTHER if seed else NETWORK
    return create_bundle(path, network=network, ann=None, samples=None, report={}, overwrite=True)


def writes(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)

    return write


def writes_folder(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "a").write_text(text)

    return write


def listed_and_there(bundle: Bundle) -> set[str]:
    """The files of a bundle, which all are listed, checked, and in exports that are there."""
    bundle.check_files()
    files = {
        str(path.relative_to(bundle.path)) for path in bundle.path.rglob("*") if path.is_file()
    }
    assert files == {*bundle.manifest.files, "manifest.json"}
    return files


def test_exports_of_two_openings_are_both_kept(tmp_path: Path) -> None:
    create(tmp_path / "b")
    one, other = open_bundle(tmp_path / "b"), open_bundle(tmp_path / "b")
    one.with_export("nir", "network.nir", writes("nir"))
    both = other.with_export("onnx", "network.onnx", writes("onnx"))
    assert set(both.exports) == set(open_bundle(tmp_path / "b").exports) == {"nir", "onnx"}
    listed_and_there(both)


def test_an_export_of_a_replaced_network_is_refused(tmp_path: Path) -> None:
    opened = create(tmp_path / "b")
    create(tmp_path / "b", seed=1)
    with pytest.raises(BundleError, match="another command changed the bundle"):
        opened.with_export("nir", "network.nir", writes("of the old network"))
    assert listed_and_there(open_bundle(tmp_path / "b"))


def test_files_of_a_replaced_bundle_are_not_mixed(tmp_path: Path) -> None:
    opened = create(tmp_path / "b").with_export("nir", "network.nir", writes("old"))
    create(tmp_path / "b", seed=1).with_export("nir", "network.nir", writes("new"))
    for read in (opened.network, lambda: opened.export("nir")):
        with pytest.raises(BundleError, match="another command changed the bundle"):
            read()


def test_a_writer_waits_for_another_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = create(tmp_path / "b")
    writer = threading.Thread(
        target=lambda: bundle.with_export("nir", "network.nir", writes("nir"))
    )
    with caplog.at_level(logging.WARNING), locked_folder(bundle.path):
        writer.start()
        while "another command writes to it; waiting" not in caplog.text:
            writer.join(0.01)
            assert writer.is_alive()
        assert not open_bundle(bundle.path).exports
    writer.join()
    assert set(open_bundle(bundle.path).exports) == {"nir"}


def test_a_lock_is_that_of_the_folder_which_is_there_now(tmp_path: Path) -> None:
    """A writer that waited for a folder that was replaced locks the new one."""
    (tmp_path / "b").mkdir()
    held = threading.Event()

    def lock() -> None:
        with locked_folder(tmp_path / "b"):
            held.set()
            assert (tmp_path / "b" / "new").exists()

    with locked_folder(tmp_path / "b"):
        writer = threading.Thread(target=lock)
        writer.start()
        assert not held.wait(0.05)
        os.rename(tmp_path / "b", tmp_path / "old")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "new").touch()
    writer.join()
    assert held.is_set()


CALLS = ("rename", "replace", "mkdir", "unlink", "rmdir", "scandir", "listdir", "open")


def killed(work: Callable[[], object], number: int) -> bool:
    """Run in a child that ends without any cleanup before its system call of this number."""

    def run() -> None:
        left = iter(range(number))

        def ends(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                if next(left, None) is None:
                    os._exit(9)
                return real(*args, **kwargs)

            return call

        for name in CALLS:
            setattr(os, name, ends(getattr(os, name)))
        real = atomic._exchange
        atomic._exchange = ends(real)  # type: ignore[assignment]
        work()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, 9)
    return process.exitcode == 9


def states(work: Callable[[Path], object], make: Callable[[Path], Bundle], tmp_path: Path) -> int:
    """Kill `work` before each of its calls; returns how many there are.

    Each time the next command finds the old or the new bundle whole, and nothing is left.
    """
    work(make(tmp_path / "new" / "b").path)
    old, new = make(tmp_path / "old" / "b"), open_bundle(tmp_path / "new" / "b")
    assert old.manifest != new.manifest
    found: set[bool] = set()
    for number in range(200):
        path = make(tmp_path / str(number) / "b").path
        if not killed(lambda path=path: work(path), number):  # type: ignore[misc]
            assert found == {True, False}
            return number
        opened = open_bundle(path)
        assert opened.manifest in (old.manifest, new.manifest)
        listed = {name.partition("/")[0] for name in (*opened.manifest.files, "manifest.json")}
        visible = {name for name in os.listdir(path) if not name.startswith(".")}
        assert visible == listed
        opened.check_files()
        found.add(opened.manifest == new.manifest)
        work(path)
        assert open_bundle(path).manifest == new.manifest
        listed_and_there(open_bundle(path))
        assert os.listdir(path.parent) == ["b"]
        assert not [name for name in os.listdir(path) if name.startswith(".")]
    raise AssertionError("it does not end")


def with_exports(path: Path) -> Bundle:
    made = create(path).with_export("nir", "network.nir", writes("old"))
    return made.with_export("c", "network-c", writes_folder("old"))


@pytest.mark.parametrize("kind", ["file", "folder", "first", "replaced", "in two steps"])
def test_a_kill_at_any_call_leaves_the_old_or_the_new_bundle(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "in two steps":
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    work: dict[str, Callable[[Path], object]] = {
        "file": lambda p: open_bundle(p).with_export("nir", "network.nir", writes("new")),
        "folder": lambda p: open_bundle(p).with_export("c", "network-c", writes_folder("new")),
        "first": lambda p: open_bundle(p).with_export("onnx", "network.onnx", writes("new")),
        "replaced": lambda p: create(p, seed=1),
        "in two steps": lambda p: create(p, seed=1),
    }
    assert states(work[kind], with_exports, tmp_path) > 5


def test_a_finished_export_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Nothing outside of the bundle is moved, whatever lies there."""
    bundle = create(tmp_path / "b")
    elsewhere = create(tmp_path / "elsewhere").path
    (bundle.path / ".network.nir.finished").symlink_to(elsewhere)
    before = sorted(os.listdir(elsewhere))
    with pytest.raises(BundleError, match="not a folder that icsnn-deploy made"):
        open_bundle(bundle.path)
    assert sorted(os.listdir(elsewhere)) == before
    (bundle.path / ".network.nir.finished").unlink()
    (bundle.path / ".network.nir.finished").mkdir()
    (elsewhere / "manifest.json").rename(bundle.path / ".network.nir.finished" / "manifest.json")
    (bundle.path / ".network.nir.finished" / swap._OLD).symlink_to(elsewhere)
    with pytest.raises(BundleError, match="not a folder that icsnn-deploy made"):
        open_bundle(bundle.path)
