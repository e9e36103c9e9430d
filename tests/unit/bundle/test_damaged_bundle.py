"""A damaged or forged bundle is believed only where its hashes fit."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.manifest import FORMAT, MANIFEST, VERSION
from icsnn_deploy.errors import BundleError
from tests.support.bundles import (
    NETWORK,
    OTHER,
    create,
    writes,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "b"
    create(path).with_export("nir", "network.nir", writes(b"spikes"))
    return path


@pytest.fixture
def damaged(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "b"))


READERS: dict[str, Callable[[Bundle], object]] = {
    "graph.safetensors": Bundle.network,
    "ann.safetensors": Bundle.ann,
    "samples.safetensors": Bundle.samples,
    "report.json": Bundle.report,
    "network.nir": lambda bundle: bundle.export("nir"),
}


def refused(folder: Path, name: str) -> str:
    """The message with which a file of a bundle is refused; the rest of it stays usable."""
    bundle = open_bundle(folder)
    for other, read in READERS.items():
        if other != name:
            read(bundle)
    with pytest.raises(BundleError) as caught:
        READERS[name](bundle)
    assert str(folder / name) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_changed_files(damaged: Path, name: str) -> None:
    data = (damaged / name).read_bytes()
    (damaged / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    message = refused(damaged, name)
    assert "sha256" in message
    assert "Make it again" in message


@pytest.mark.parametrize("name", READERS)
def test_files_of_another_size(damaged: Path, name: str) -> None:
    data = (damaged / name).read_bytes()
    for changed in (data[:-1], data + b"\0", b""):
        (damaged / name).write_bytes(changed)
        assert f"{len(changed)} bytes, the manifest says {len(data)}" in refused(damaged, name)


@pytest.mark.parametrize("name", READERS)
def test_missing_files(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    assert "missing" in refused(damaged, name)


@pytest.mark.parametrize("name", READERS)
def test_links_are_not_followed(damaged: Path, name: str) -> None:
    """Not even to a file with the right content."""
    (damaged / name).rename(damaged.with_name("elsewhere"))
    (damaged / name).symlink_to(damaged.with_name("elsewhere"))
    assert "not a regular file" in refused(damaged, name)


@pytest.mark.parametrize("name", READERS)
def test_pipes_and_folders_are_no_files(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    os.mkfifo(damaged / name)
    assert "not a regular file" in refused(damaged, name)
    (damaged / name).unlink()
    (damaged / name).mkdir()
    assert "not a regular file" in refused(damaged, name)


def test_a_graph_that_is_not_the_one_the_manifest_names(damaged: Path) -> None:
    manifest = json.loads((damaged / MANIFEST).read_text())
    manifest["graph_hash"] = OTHER.hash()
    (damaged / MANIFEST).write_text(json.dumps(manifest))
    assert f"expected {OTHER.hash()}" in refused(damaged, "graph.safetensors")


# Manifests

Manifest = dict[str, Any]


def manifest_of(folder: Path) -> Manifest:
    manifest: Manifest = json.loads((folder / MANIFEST).read_text())
    return manifest


def entry(manifest: Manifest, name: str, **changes: Any) -> None:
    manifest["files"][name] = {"sha256": "0" * 64, "size": 3, **changes}


MALFORMED: dict[str, Callable[[Manifest], object]] = {
    "no files": lambda m: m.pop("files"),
    "no exports": lambda m: m.pop("exports"),
    "no normalization": lambda m: m.pop("normalization"),
    "no graph hash": lambda m: m.pop("graph_hash"),
    "no ann hash": lambda m: m.pop("ann_hash"),
    "files as a list": lambda m: m.update(files=["graph.safetensors"]),
    "files as null": lambda m: m.update(files=None),
    "exports as a list": lambda m: m.update(exports=[["nir", "network.nir"]]),
    "export of no name": lambda m: m["exports"].update(nir=None),
    "export of a list": lambda m: m["exports"].update(nir=["network.nir"]),
    "entry as a string": lambda m: m["files"].update({"report.json": "0" * 64}),
    "entry without a hash": lambda m: m["files"]["report.json"].pop("sha256"),
    "entry without a size": lambda m: m["files"]["report.json"].pop("size"),
    "size as a list": lambda m: entry(m, "x", size=[1]),
    "size as text": lambda m: entry(m, "x", size="many"),
    "size without end": lambda m: entry(m, "x", size=float("inf")),
    "size of nothing": lambda m: entry(m, "x", size=float("nan")),
    "normalization as text": lambda m: m.update(normalization="yes"),
    "normalization without a std": lambda m: m.update(normalization={"mean": [0.5]}),
    "normalization of two sizes": lambda m: m.update(normalization={"mean": [1], "std": [1, 1]}),
    "normalization by 0": lambda m: m.update(normalization={"mean": [0.5], "std": [0]}),
    "normalization beyond floats": lambda m: m.update(
        normalization={"mean": [10**400], "std": [1]}
    ),
    "normalization of text": lambda m: m.update(normalization={"mean": ["a"], "std": [1]}),
}
NAMES = ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\\b", ".hidden", "a\0b", "a\nb", "a" * 101]


def _file_named(bad: str) -> Callable[[dict[str, Any]], object]:
    return lambda m: entry(m, bad)


def _export_named(bad: str) -> Callable[[dict[str, Any]], object]:
    return lambda m: m["exports"].update(nir=bad)


for bad in NAMES:
    MALFORMED[f"file named {bad!r}"] = _file_named(bad)
    MALFORMED[f"export named {bad!r}"] = _export_named(bad)
MALFORMED["format of half a character"] = lambda m: m["exports"].update({"\ud800": "network.nir"})


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_manifests(damaged: Path, what: str) -> None:
    manifest = manifest_of(damaged)
    MALFORMED[what](manifest)
    (damaged / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="malformed") as caught:
        open_bundle(damaged)
    assert str(damaged / MANIFEST) in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_file_outside_is_not_read_even_by_hand(damaged: Path) -> None:
    (damaged.parent / "x").write_bytes(b"secret")
    bundle = open_bundle(damaged)
    with pytest.raises(BundleError, match=r"holds no \.\./x"):
        bundle.file("../x")
    edited = replace(bundle, manifest=replace(bundle.manifest, exports={"nir": "network"}))
    with pytest.raises(BundleError, match="holds no network"):
        edited.export("nir")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 150_000,
        b"{" + b" " * (1 << 20) + b"}",
        b'{"size": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_manifests_that_are_no_json_object(damaged: Path, text: bytes) -> None:
    (damaged / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match=r"manifest\.json") as caught:
        open_bundle(damaged)
    assert len(str(caught.value)) < 600


def test_no_manifest(damaged: Path) -> None:
    (damaged / MANIFEST).unlink()
    with pytest.raises(BundleError, match="missing"):
        open_bundle(damaged)
    os.mkfifo(damaged / MANIFEST)
    with pytest.raises(BundleError, match="not a regular file"):
        open_bundle(damaged)


def test_no_bundle(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / ("n" * 300)):
        with pytest.raises(BundleError) as caught:
            open_bundle(path)
        assert str(path) in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="no such bundle; make one with icsnn convert"):
        open_bundle(tmp_path / "file")


@pytest.mark.parametrize("change", [{"version": 2}, {"version": "1"}, {"format": "other"}])
def test_another_version_or_format(damaged: Path, change: Manifest) -> None:
    (damaged / MANIFEST).write_text(json.dumps({**manifest_of(damaged), **change}))
    with pytest.raises(BundleError, match=f"this program reads '{FORMAT}' {VERSION}"):
        open_bundle(damaged)


def test_a_future_version_is_told_before_its_fields_are_read(damaged: Path) -> None:
    (damaged / MANIFEST).write_text(json.dumps({"format": FORMAT, "version": VERSION + 1}))
    with pytest.raises(BundleError, match=f"version {VERSION + 1}"):
        open_bundle(damaged)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../x", "report.json", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    own = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    deeper = [
        place for _, inner in own if isinstance(inner, (dict, list)) for place in places(inner)
    ]
    return [*((value, key) for key, _ in own), *deeper]


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutated_manifests(pristine: Path, tmp_path: Path, data: st.DataObject) -> None:
    """A bundle that opens and reads, or a BundleError, whatever stands in the manifest."""
    folder = tmp_path / "fuzz"
    if not folder.exists():
        shutil.copytree(pristine, folder)
    manifest = manifest_of(pristine)
    for _ in range(data.draw(st.integers(1, 3), label="mutations")):
        found = places(manifest)
        container, key = found[data.draw(st.integers(0, len(found) - 1), label="place")]
        action = data.draw(st.sampled_from(["replace", "drop", "rename", "copy"]), label="action")
        if action == "replace" or isinstance(container, list):
            container[key] = data.draw(JSON, label="value")
        elif action == "drop":
            container.pop(key)
        elif action == "rename":
            container[data.draw(st.text(max_size=5), label="name")] = container.pop(key)
        else:
            container[key] = copy.deepcopy(manifest)
        if not manifest:
            break
    (folder / MANIFEST).write_text(json.dumps(manifest))
    problem = None
    try:
        bundle = open_bundle(folder)
        for reader in READERS.values():
            reader(bundle)
        assert bundle.network().hash() == NETWORK.hash()
    except BundleError as error:
        problem = str(error)
    assert problem is None or str(folder) in problem
