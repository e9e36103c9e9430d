"""The deployment bundle: written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy import atomic
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.create import check_free, create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.errors import BundleError, ExportError
from icsnn_deploy.parity.verify import verify
from tests.support.bundles import (
    INPUTS,
    NETWORK,
    OTHER,
    OWN_FILES,
    PIXELS,
    as_ann,
    contents,
    create,
    writes,
)


def test_round_trip(tmp_path: Path) -> None:
    created = create(tmp_path / "deep" / "bundle")
    opened = open_bundle(tmp_path / "deep" / "bundle")
    assert opened == created
    assert opened.network().hash() == NETWORK.hash() == opened.graph_hash
    assert opened.ann().hash() == as_ann(NETWORK).hash() == opened.ann_hash
    assert np.array_equal(opened.samples(), INPUTS)
    assert opened.samples().dtype == np.float32
    assert opened.report() == {"recipe": "test", "seconds": 0.5}
    assert opened.normalization == PIXELS
    assert opened.exports == {}
    assert set(os.listdir(opened.path)) == OWN_FILES | {MANIFEST}
    assert os.listdir(tmp_path / "deep") == ["bundle"]
    assert opened.path.stat().st_mode & 0o777 == 0o755


def test_a_bundle_reads_its_network_once(tmp_path: Path) -> None:
    """A verification asks for it once a backend."""
    opened = open_bundle(create(tmp_path / "b").path)
    assert opened.network() is opened.network()


def test_without_normalization(tmp_path: Path) -> None:
    create_bundle(tmp_path / "b", network=NETWORK, ann=as_ann(NETWORK), samples=INPUTS, report={})
    assert open_bundle(tmp_path / "b").normalization is None


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        create(tmp_path / name).with_export("nir", "network.nir", writes(b"data"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_export(tmp_path: Path) -> None:
    bundle = create(tmp_path / "b").with_export("nir", "network.nir", writes(b"first"))
    assert bundle.export("nir").read_bytes() == b"first"
    bundle = bundle.with_export("onnx", "network.onnx", writes(b"second"))
    bundle = bundle.with_export("nir", "network.nir", writes(b"third"))
    assert open_bundle(tmp_path / "b") == bundle
    assert bundle.export("nir").read_bytes() == b"third"
    assert bundle.export("onnx").read_bytes() == b"second"
    assert set(os.listdir(bundle.path)) == OWN_FILES | {MANIFEST, "network.nir", "network.onnx"}


def test_a_missing_export_names_the_command(tmp_path: Path) -> None:
    bundle = create(tmp_path / "b")
    with pytest.raises(BundleError) as caught:
        bundle.export("onnx-step")
    assert str(caught.value) == (
        f"{bundle.path}: no onnx-step export; run: icsnn export {bundle.path} --format onnx-step"
    )
    with pytest.raises(BundleError, match=f"run: icsnn export {bundle.path} --format nir$"):
        verify(bundle, ["nir"])


# Overwriting


def test_an_existing_bundle_is_kept_unless_told(tmp_path: Path) -> None:
    create(tmp_path / "b")
    before = contents(tmp_path)
    with pytest.raises(BundleError, match="--overwrite"):
        create(tmp_path / "b", OTHER)
    assert contents(tmp_path) == before
    create(tmp_path / "b", OTHER, overwrite=True)
    assert open_bundle(tmp_path / "b").graph_hash == OTHER.hash()
    assert os.listdir(tmp_path) == ["b"]


def test_overwriting_drops_the_old_exports(tmp_path: Path) -> None:
    create(tmp_path / "b").with_export("nir", "network.nir", writes(b"old"))
    create(tmp_path / "b", OTHER, overwrite=True)
    assert set(os.listdir(tmp_path / "b")) == OWN_FILES | {MANIFEST}


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")


def make_foreign_manifest(path: Path) -> None:
    make_folder(path)
    (path / MANIFEST).write_text('{"name": "a web page", "icons": []}')


def make_broken_manifest(path: Path) -> None:
    make_folder(path)
    (path / MANIFEST).write_text("{")


def make_file(path: Path) -> None:
    path.write_text("text")


def make_link_to_a_bundle(path: Path) -> None:
    create(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize(
    "make",
    [
        make_folder,
        make_foreign_manifest,
        make_broken_manifest,
        make_file,
        make_link_to_a_bundle,
        make_dangling_link,
    ],
)
def test_what_is_no_bundle_is_never_overwritten(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "b"
    make(path)
    before = contents(tmp_path)
    for overwrite, message in [(False, "exists already"), (True, "not a bundle")]:
        with pytest.raises(BundleError, match=message):
            create(path, overwrite=overwrite)
        with pytest.raises(BundleError, match=message):
            check_free(path, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_free_path_and_a_bundle_pass(tmp_path: Path) -> None:
    check_free(tmp_path / "b", overwrite=False)
    create(tmp_path / "b")
    check_free(tmp_path / "b", overwrite=True)


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "b", tmp_path / ("n" * 300)):
        with pytest.raises(BundleError) as caught:
            create(path)
        assert str(caught.value).startswith(str(path))
    assert contents(tmp_path) == {"file": b""}


# Failures in the middle


def full_disk(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def failing_call(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Like `real`, but for one call, counted from 0."""
    calls = iter(range(10**6))

    def call(*args: Any, **kwargs: Any) -> Any:
        return full_disk() if next(calls) == number else real(*args, **kwargs)

    return call


@pytest.mark.parametrize("number", range(5))
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", failing_call(number, Path.write_bytes))
        with pytest.raises(BundleError, match=r"b: can't be written \(No space left"):
            create(tmp_path / "b")
    assert os.listdir(tmp_path) == []
    create(tmp_path / "b").network()


@pytest.mark.parametrize("number", range(5))
def test_a_write_that_fails_keeps_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    create(tmp_path / "b")
    before = contents(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", failing_call(number, Path.write_bytes))
    with pytest.raises(BundleError, match="No space left"):
        create(tmp_path / "b", OTHER, overwrite=True)
    assert contents(tmp_path) == before


def test_an_exchange_that_fails_keeps_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "b").with_export("nir", "network.nir", writes(b"old"))
    before = contents(tmp_path)
    monkeypatch.setattr(atomic, "_exchange", full_disk)
    with pytest.raises(BundleError, match="No space left"):
        create(tmp_path / "b", OTHER, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_rename_that_fails_keeps_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Without an exchange, the first puts the old bundle aside, the second the new one there."""
    create(tmp_path / "b").with_export("nir", "network.nir", writes(b"old"))
    before = contents(tmp_path)
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", failing_call(number, os.rename))
    with pytest.raises(BundleError, match="No space left"):
        create(tmp_path / "b", OTHER, overwrite=True)
    assert contents(tmp_path) == before


def test_an_interrupt_between_the_renames_keeps_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "b")
    before = contents(tmp_path)
    real, calls = os.rename, iter(range(9))

    def rename(source: Path, target: Path) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "b", OTHER, overwrite=True)
    assert contents(tmp_path) == before


def test_a_rename_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rename", full_disk)
    with pytest.raises(BundleError, match="No space left"):
        create(tmp_path / "b")
    assert os.listdir(tmp_path) == []


def test_a_report_that_is_no_json_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        create_bundle(
            tmp_path / "b",
            network=NETWORK,
            ann=as_ann(NETWORK),
            samples=INPUTS,
            report={"figure": np.float32(1)},
        )
    assert os.listdir(tmp_path) == []


def fails_halfway(path: Path) -> None:
    path.write_bytes(b"half")
    raise ExportError("the network is too large")


def out_of_space(path: Path) -> None:
    path.write_bytes(b"half")
    full_disk()


def writes_nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("write", "kind"),
    [(fails_halfway, ExportError), (out_of_space, BundleError), (writes_nothing, BundleError)],
)
def test_an_export_that_fails_keeps_the_old_one(
    tmp_path: Path, write: Callable[[Path], None], kind: type[Exception]
) -> None:
    bundle = create(tmp_path / "b").with_export("nir", "network.nir", writes(b"old"))
    before = contents(tmp_path)
    with pytest.raises(kind):
        bundle.with_export("nir", "network.nir", write)
    assert contents(tmp_path) == before
    assert open_bundle(tmp_path / "b").export("nir").read_bytes() == b"old"


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("number", range(5))
def test_an_export_whose_rename_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool, number: int
) -> None:
    """Renames: the new manifest in the draft, old file aside if any, new file, manifest."""
    bundle = create(tmp_path / "b")
    if old:
        bundle = bundle.with_export("nir", "network.nir", writes(b"old"))
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing_call(number, os.replace))
        if number < (4 if old else 3):
            with pytest.raises(BundleError, match=r"network\.nir: can't be written"):
                bundle.with_export("nir", "network.nir", writes(b"new"))
            assert contents(tmp_path) == before
        else:
            bundle.with_export("nir", "network.nir", writes(b"new"))
            assert open_bundle(bundle.path).export("nir").read_bytes() == b"new"
    bundle.with_export("nir", "network.nir", writes(b"newer"))
    assert open_bundle(bundle.path).export("nir").read_bytes() == b"newer"


def test_an_export_on_a_disk_that_stays_full_is_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the old file can't be moved back, the rest of the bundle can be used meanwhile."""
    bundle = create(tmp_path / "b").with_export("nir", "network.nir", writes(b"old"))
    real, calls = os.replace, iter(range(99))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *a: full_disk() if next(calls) >= 2 else real(*a))
        with pytest.raises(BundleError, match="No space left"):
            bundle.with_export("nir", "network.nir", writes(b"new"))
        opened = open_bundle(bundle.path)
        assert opened.network().hash() == NETWORK.hash()
        with pytest.raises(BundleError, match=r"network\.nir: missing"):
            opened.export("nir")
    assert open_bundle(bundle.path).export("nir").read_bytes() == b"new"
    assert set(os.listdir(bundle.path)) == OWN_FILES | {MANIFEST, "network.nir"}


def test_a_damaged_export_can_be_made_again(tmp_path: Path) -> None:
    bundle = create(tmp_path / "b").with_export("nir", "network.nir", writes(b"old"))
    (bundle.path / "network.nir").unlink()
    assert bundle.with_export("nir", "network.nir", writes(b"new")).export("nir").is_file()


def test_an_export_over_a_link_does_not_follow_it(tmp_path: Path) -> None:
    bundle = create(tmp_path / "b")
    (tmp_path / "precious").write_bytes(b"gold")
    (bundle.path / "network.nir").symlink_to(tmp_path / "precious")
    bundle.with_export("nir", "network.nir", writes(b"new"))
    assert (tmp_path / "precious").read_bytes() == b"gold"
    assert open_bundle(bundle.path).export("nir").read_bytes() == b"new"
