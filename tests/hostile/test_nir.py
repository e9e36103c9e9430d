"""Damaged, hostile and foreign NIR files: one clear error, or a network that loads."""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.metadata import KEY, V_INIT
from icsnn_deploy.exporters.nir.read.file import from_nir, read_graph
from icsnn_deploy.exporters.nir.write.file import to_nir, write
from icsnn_deploy.graph.nodes import ChannelAffine
from tests.support.graphs import residual_network, samples

pytestmark = pytest.mark.no_cover  # processor time is limited, and counting lines takes some

Change = Callable[[Any], None]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.nir"
    write(residual_network(), path)
    return path


def refused(path: Path, match: str) -> None:
    """Reading fails within a second of work, with one error that names the file."""
    start = time.process_time()  # the clock on the wall runs for other programs, too
    with pytest.raises(ExportError, match=match) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)
    assert time.process_time() - start < 1


def edited(path: Path, change: Change) -> Path:
    """The file changed in place through h5py."""
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def rebuilt(path: Path, change: Change) -> Path:
    """The network changed as NIR objects and written without type check."""
    network = to_nir(residual_network())
    change(network)
    nir.write(path, network)
    return path


# Damage


def test_truncated_anywhere(good: Path) -> None:
    data = good.read_bytes()
    for length in [0, 1, 7, 8, 100, 2048, len(data) - 1, *range(3000, len(data), 6131)]:
        good.write_bytes(data[:length])
        refused(good, "truncated")


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes(good: Path, seed: int) -> None:
    data = good.read_bytes()
    rng = np.random.default_rng(seed)
    for position in (*rng.integers(0, 4096, 30), *rng.integers(0, len(data), 30)):
        broken = bytearray(data)
        broken[position] ^= int(rng.integers(1, 256))
        good.write_bytes(broken)
        with contextlib.suppress(ExportError):  # any other exception fails the test
            read_graph(good)


def test_a_text_heap_that_hangs_the_library(good: Path) -> None:
    data = bytearray(good.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 32] = bytes(16)  # free space of size 0 in front of the strings
    good.write_bytes(data)
    refused(good, "free space")


def test_other_things_than_a_nir_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.nir", "check the path")
    refused(tmp_path, "not a regular file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "not a regular file")
    text = tmp_path / "text.nir"
    text.write_text("hello")
    refused(text, "not a readable HDF5 file")
    with h5py.File(tmp_path / "empty.nir", "w"):
        pass
    refused(tmp_path / "empty.nir", "not a NIR network")
    nir.write(tmp_path / "single.nir", nir.Linear(weight=np.ones((2, 2), np.float32)))
    refused(tmp_path / "single.nir", "not a NIR network")


# Ways out of the file, and bombs


def test_external_link(good: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["bias"] = np.zeros(4, np.float32)

    def change(file: Any) -> None:
        del file["node/nodes/stem_conv/bias"]
        file["node/nodes/stem_conv/bias"] = h5py.ExternalLink("secret.h5", "/bias")

    refused(edited(good, change), "link into another file")


@pytest.mark.parametrize("target", ["/node", "/nowhere", "/node/nodes/stem_conv"])
def test_soft_link(good: Path, target: str) -> None:
    def change(file: Any) -> None:
        file["node/nodes/again"] = h5py.SoftLink(target)

    refused(edited(good, change), "soft link")


@pytest.mark.parametrize("target", ["/", "/node", "/node/nodes", "/node/nodes/head/weight"])
def test_hard_link_to_what_is_there_already(good: Path, target: str) -> None:
    def change(file: Any) -> None:
        file["node/nodes/head/again"] = file[target]

    refused(edited(good, change), "linked more than once")


def test_external_storage(good: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(16))

    def change(file: Any) -> None:
        group = file["node/nodes/stem_conv"]
        del group["bias"]
        external = [(str(tmp_path / "raw"), 0, 16)]
        group.create_dataset("bias", (4,), "f4", external=external)

    refused(edited(good, change), "another file")


def test_virtual_array(good: Path) -> None:
    def change(file: Any) -> None:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
        del file["node/nodes/stem_conv/bias"]
        file["node/nodes/stem_conv"].create_virtual_dataset("bias", layout)

    refused(edited(good, change), "virtual")


@pytest.mark.parametrize("options", [{}, {"chunks": (2**20,)}, {"compression": "gzip"}])
def test_declared_sizes(good: Path, options: dict[str, Any]) -> None:
    def change(file: Any) -> None:
        del file["node/nodes/stem_conv/bias"]
        file["node/nodes/stem_conv"].create_dataset("bias", (2**31,), "f4", **options)

    assert edited(good, change).stat().st_size < 2**20
    refused(good, "declared data")


@pytest.mark.parametrize("name", ["padding", "stride", "dilation"])
def test_sizes_of_sixteen_million_axes(good: Path, name: str) -> None:
    """Each would become a number of Python: hundreds of megabytes."""

    def change(file: Any) -> None:
        del file[f"node/nodes/stem_conv/{name}"]
        file["node/nodes/stem_conv"].create_dataset(name, (2**24,), "f4", chunks=(2**12,))

    refused(edited(good, change), f"{name}' has 16777216 values")


def test_sizes_that_add_up(good: Path) -> None:
    def change(file: Any) -> None:
        for number in range(20):
            file.create_dataset(f"x{number}", (2**20,), "f4")

    refused(edited(good, change), "declared data")


def test_chunk_that_expands_beyond_its_size(good: Path) -> None:
    def change(file: Any) -> None:
        data = file.create_dataset("x", (64,), "f4", chunks=(64,), compression="gzip")
        data.id.write_direct_chunk((0,), zlib.compress(bytes(2**27)))

    refused(edited(good, change), "expands beyond")


def test_many_strings_that_are_one_long_text(good: Path) -> None:
    def change(file: Any) -> None:
        file.create_dataset("many", data=["y" * 65_521] + ["x"] * 5000, dtype=h5py.string_dtype())

    with h5py.File(edited(good, change)) as file:
        start = file["many"].id.get_offset()
    data = bytearray(good.read_bytes())
    data[start : start + 16 * 5001] = data[start : start + 16] * 5001
    good.write_bytes(data)
    refused(good, "declared data")


def test_strings_in_chunks(good: Path) -> None:
    def change(file: Any) -> None:
        file.create_dataset("x", data=["a"], dtype=h5py.string_dtype(), chunks=(1,))

    refused(edited(good, change), "not contiguous")


@pytest.mark.parametrize(
    ("label", "data", "options", "match"),
    [
        ("compound", np.zeros(2, [("a", "f4"), ("b", "i4")]), {}, "neither numbers nor strings"),
        ("opaque", np.zeros(2, "V8"), {}, "neither numbers nor strings"),
        ("reference", None, {"shape": (1,), "dtype": h5py.ref_dtype}, "neither numbers"),
        ("empty", h5py.Empty("f4"), {}, "without data"),
        ("filter", np.zeros(2, "i4"), {"scaleoffset": 0, "chunks": (2,)}, "filters other than"),
        ("enumeration", None, {"shape": (1,), "dtype": h5py.enum_dtype({"A": 1})}, "enumeration"),
    ],
)
def test_types_and_filters(
    good: Path, label: str, data: Any, options: dict[str, Any], match: str
) -> None:
    def change(file: Any) -> None:
        file.create_dataset(label, data=data, **options)

    refused(edited(good, change), match)


def test_named_type(good: Path) -> None:
    def change(file: Any) -> None:
        file["x"] = np.dtype("f4")

    refused(edited(good, change), "neither a group nor an array")


def test_deep_nesting(good: Path) -> None:
    refused(edited(good, lambda file: file.create_group("/".join("x" * 2000))), "deeper")


def test_too_many_objects(good: Path) -> None:
    def change(file: Any) -> None:
        for number in range(40):
            group = file.create_group(f"x{number}")
            for inner in range(600):
                group.create_group(str(inner))

    refused(edited(good, change), "objects")


def test_bytes_before_the_file(good: Path) -> None:
    good.write_bytes(bytes(512) + good.read_bytes())
    refused(good, "foreign data|not a readable")


# Values


def node_field(name: str, field: str, value: Any) -> Change:
    return lambda network: setattr(network.nodes[name], field, value)


def full(value: float) -> Any:
    return np.full((4, 6, 6), value, np.float32)


@pytest.mark.parametrize(
    ("name", "field", "value", "match"),
    [
        ("stem_if", "v_threshold", full(np.nan), "v_threshold: not finite"),
        ("stem_if", "v_threshold", full(0), "> 0 needed"),
        ("stem_if", "v_threshold", full(-1), "> 0 needed"),
        ("stem_if", "v_threshold", np.full((4, 6, 6), b"x"), "v_threshold: not an array"),
        ("stem_if", "v_reset", full(1), "v_reset other than 0"),
        ("stem_if", "v_reset", full(np.nan), "v_reset other than 0"),
        ("stem_if", "r", full(np.inf), "not finite"),
        ("stem_conv", "bias", np.zeros(3, np.float32), "bias: shape"),
        ("stem_conv", "weight", np.zeros((4, 3, 3, 3), np.float32), "input of shape"),
        ("stem_conv", "weight", np.zeros((4, 2, 3), np.float32), "rank 4"),
        ("stem_conv", "stride", (0, 1), "stride|infinity"),
        ("stem_conv", "stride", (1, 1, 1), "stride"),
        ("stem_conv", "dilation", (1.5, 1.5), "dilation"),
        ("stem_conv", "groups", -1, "groups"),
        ("stem_conv", "groups", 3, "groups"),
        ("stem_conv", "input_shape", (9, 9), "input_shape"),
        ("stem_conv", "padding", (2**20, 2**20), "too large"),
        ("pool", "kernel_size", np.array([7, 7]), "window"),
        ("flatten", "start_dim", 2, "flattens axes"),
        ("flatten", "end_dim", 1, "flattens axes"),
        ("head", "weight", np.ones((10, 35), np.float32), "head"),
        ("output", "output_type", {"output": np.array([11])}, "output.shape"),
        ("block_shortcut", "scale", np.ones((1, 6, 6), np.float32), "scale: shape"),
    ],
)
def test_bad_values(tmp_path: Path, name: str, field: str, value: Any, match: str) -> None:
    refused(rebuilt(tmp_path / "x.nir", node_field(name, field, value)), match)


@pytest.mark.parametrize(
    "value",
    [
        full(np.nan),
        full(np.inf),
        np.zeros((1, 6, 6), np.float32),
        np.zeros(6, np.float32),
        "zero",
        {"a": 1},
        True,
    ],
)
def test_bad_initial_potentials(tmp_path: Path, value: Any) -> None:
    def change(network: Any) -> None:
        network.nodes["stem_if"].metadata[V_INIT] = value

    refused(rebuilt(tmp_path / "x.nir", change), "stem.if.v_init")


def test_absent_initial_potentials_are_zero(tmp_path: Path) -> None:
    def change(network: Any) -> None:
        del network.nodes["stem_if"].metadata[V_INIT]

    graph = read_graph(rebuilt(tmp_path / "x.nir", change))
    assert not graph.node("stem.if").arrays()["v_init"].any()


def test_a_resistance_scales_the_current(tmp_path: Path) -> None:
    graph = read_graph(rebuilt(tmp_path / "x.nir", node_field("stem_if", "r", full(0.5))))
    scale = graph.node("stem.if.r")
    assert isinstance(scale, ChannelAffine)
    assert graph.node("stem.if").inputs == ("stem.if.r",)
    assert (scale.scale == 0.5).all()


def test_unknown_nodes_are_listed_together(tmp_path: Path) -> None:
    def change(network: Any) -> None:
        one = np.ones((4, 6, 6), np.float32)
        network.nodes["stem_if"] = nir.LIF(tau=one, r=one, v_leak=one, v_threshold=one)
        network.nodes["block_if1"] = nir.Threshold(threshold=one)
        network.nodes["inner"] = to_nir(residual_network())

    path = rebuilt(tmp_path / "x.nir", change)
    refused(path, r"(?s)block_if1: Threshold.*inner: NIRGraph.*stem_if: LIF")


# Structure


@pytest.mark.parametrize(
    ("edge", "match"),
    [
        (("block_if1", "stem_if"), "recurrent"),
        (("head", "output"), "twice"),
        (("nobody", "head"), "no such node"),
        (("output", "head"), "recurrent"),
        (("stem_if", "input"), "into the input|recurrent"),
        (("input", "head"), "can't be added"),
    ],
)
def test_bad_edges(tmp_path: Path, edge: tuple[str, str], match: str) -> None:
    refused(rebuilt(tmp_path / "x.nir", lambda network: network.edges.append(edge)), match)


def test_nodes_without_edges(tmp_path: Path) -> None:
    def change(network: Any) -> None:
        network.nodes["lost"] = nir.Linear(weight=np.ones((2, 2), np.float32))

    refused(rebuilt(tmp_path / "x.nir", change), "no edge leads to it")
    refused(
        rebuilt(
            tmp_path / "x.nir", lambda network: network.nodes.update(two=network.nodes["input"])
        ),
        "input nodes",
    )


# Metadata


def test_a_foreign_file_needs_time_steps(tmp_path: Path) -> None:
    def change(network: Any) -> None:
        network.metadata = {}
        for node in network.nodes.values():
            node.metadata = {}

    path = rebuilt(tmp_path / "x.nir", change)
    refused(path, "read it with from_nir")
    with pytest.raises(ExportError, match="reset and time_steps needed"):
        from_nir(path)
    graph = from_nir(path, reset="subtract", time_steps=3)
    assert graph.time_steps == 3
    assert "stem_if" in graph
    ReferenceSimulator(graph).run(samples(graph, 1))


def test_what_disagrees_with_our_own_header(good: Path) -> None:
    graph = from_nir(good, reset="subtract", time_steps=8, encoding="direct", input_dtype="float32")
    assert graph.hash() == read_graph(good).hash()
    for given in ({"time_steps": 4}, {"reset": "v_reset"}, {"encoding": "rate"}):
        with pytest.raises(ExportError, match=r"is asked for.*leave it out"):
            from_nir(good, **given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time_steps", None),
        ("time_steps", 0),
        ("time_steps", True),
        ("time_steps", "8"),
        ("time_steps", 8.0),
        ("time_steps", 10**12),
        ("time_steps", [8]),
        ("readout_start", 8),
        ("readout_start", -1),
        ("encoding", "morse"),
        ("encoding", ["direct"]),
        ("input_dtype", "float64"),
        ("input_dtype", None),
        ("reset", "zero"),
        ("fires", "never"),
        ("dt", 0.5),
    ],
)
def test_bad_header(tmp_path: Path, key: str, value: Any) -> None:
    def change(network: Any) -> None:
        said = json.loads(network.metadata[KEY])
        network.metadata[KEY] = json.dumps({**said, key: value})

    refused(rebuilt(tmp_path / "x.nir", change), key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, 2]",
        "null",
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"time_steps": ' + "9" * 10_000 + "}",
        "x" * 2**21,
        np.arange(3),
        7,
    ],
)
@pytest.mark.parametrize("where", ["graph", "node"])
def test_metadata_that_is_no_json_object(tmp_path: Path, text: Any, where: str) -> None:
    def change(network: Any) -> None:
        target = network if where == "graph" else network.nodes["stem_conv"]
        target.metadata[KEY] = text

    refused(rebuilt(tmp_path / "x.nir", change), KEY)


@pytest.mark.parametrize(
    "note",
    [
        {"name": 3},
        {"name": "a/b"},
        {"name": ""},
        {"name": "head"},  # taken
        {"name": "stem.conv", "conv": 1, "was": {"a": 1}},
        {"conv": {"kernel": [10**9, 1], "padding": [[0, 0]] * 2, "dilation": [10**9, 1]}},
        {
            "was": "scale",
            "conv": {
                "kernel": [3, 3],
                "padding": [[1, 1], [1, 1]],
                "dilation": [1, 1],
                "groups": 2,
                "offset": [0, 0],
            },
        },
    ],
)
def test_notes_are_not_believed(tmp_path: Path, note: dict[str, Any]) -> None:
    """A false note changes names at most, never the arithmetic."""

    def change(network: Any) -> None:
        network.nodes["stem_conv"].metadata[KEY] = json.dumps(note)

    path = rebuilt(tmp_path / "x.nir", change)
    original = residual_network()
    x = samples(original, 2)
    np.testing.assert_array_equal(
        NirSimulator(path).run(x).logits, ReferenceSimulator(original).run(x).logits
    )
