"""The deployment bundle: written whole or not at all, and believed only where its hashes fit."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icsnn_deploy import atomic
from icsnn_deploy.bundle.bundle import Bundle, check_free, create_bundle, open_bundle
from icsnn_deploy.bundle.manifest import FORMAT, MANIFEST, VERSION
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BundleError, ExportError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Node, Relu
from icsnn_deploy.parity.verify import verify
from tests.support.graphs import residual_network, samples

NETWORK = residual_network(time_steps=2)
OTHER = residual_network(seed=1, time_steps=3)
INPUTS = samples(NETWORK, 2)
PIXELS = Normalization(mean=(0.5, 0.25), std=(0.5, 0.75))
OWN_FILES = {"graph.safetensors", "ann.safetensors", "samples.safetensors", "report.json"}


def as_ann(network: Graph) -> Graph:
    nodes: list[Node] = [
        Relu(name=node.name, inputs=node.inputs) if isinstance(node, IF) else node
        for node in network.nodes
    ]
    return Graph(nodes=tuple(nodes))


def create(path: Path, network: Graph = NETWORK, *, overwrite: bool = False) -> Bundle:
    return create_bundle(
        path,
        network=network,
        ann=as_ann(network),
        samples=INPUTS,
        report={"recipe": "test", "seconds": 0.5},
        normalization=PIXELS,
        overwrite=overwrite,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; a folder counts as a file of its own."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"folder"
        for path in sorted(folder.rglob("*"))
    }


def writes(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


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


# Damage


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
