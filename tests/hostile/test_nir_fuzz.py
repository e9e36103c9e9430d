"""Malformed NIR files, built with their structure in mind: one clear error, or a network that runs.

Never another exception, a warning, a hang, or memory without bound.
"""

from __future__ import annotations

import json
import math
import os
import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.metadata import KEY, V_INIT
from icsnn_deploy.exporters.nir.read.file import from_nir
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)
from tests.support.graphs import conv, dyadic, spiking, with_hard_reset, with_parts

EXAMPLES = 700
MEGABYTES = 400  # more at the peak, over all examples
SECONDS = 20  # an example; hundredths where nothing hangs


@dataclass(frozen=True)
class Mutation:
    """One change of a file."""

    kind: str
    pick: int
    value: Any = None
    text: str = ""
    note: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def apply(self, file: h5py.File) -> None:
        names = objects(file)
        # an earlier change may have left nothing that this one could be done to
        with suppress(Exception):
            if names:
                KINDS[self.kind](file, names[self.pick % len(names)], self)


# Files to begin with


def network() -> Graph:
    """Every kind of node, a sum of two and one of three, a population behind each."""
    rng = np.random.default_rng(4)
    shape = (2, 4, 4)
    pads = ((0, 0), (0, 0))
    nodes: list[Node] = [
        Input(name="input", shape=(1, 4, 4)),
        conv("conv", "input", rng, (1, 2)),
        spiking("if", "conv", rng, shape),
        conv("deep", "if", rng, (2, 2), groups=2),
        ChannelAffine(
            name="scale", inputs=("if",), scale=dyadic(rng, 2, 1, 1), shift=np.zeros((1, 1, 1))
        ),
        Add(name="join", inputs=("deep", "scale")),
        spiking("if2", "join", rng, shape),
        Add(name="twice", inputs=("if2", "if2", "if")),
        AvgPool(name="pool", inputs=("twice",), kernel=(2, 2), stride=(2, 2), padding=pads),
        Flatten(name="flat", inputs=("pool",)),
        Linear(name="fc", inputs=("flat",), weight=dyadic(rng, 3, 8), bias=dyadic(rng, 3)),
        spiking("if3", "fc", rng, (3,)),
        Linear(name="head", inputs=("if3",), weight=dyadic(rng, 2, 3), bias=np.zeros(2)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=3)


@cache
def originals() -> dict[str, bytes]:
    """Good files: ours of each profile, and one by others."""
    graph = network()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nir"
        for name in ("nir", "nir-portable", "nir-relay"):
            export(graph, path, name)
            found[name] = path.read_bytes()
        export(with_parts(graph), path, "nir")
        found["parts"] = path.read_bytes()
        export(with_hard_reset(graph), path, "nir")
        found["hard"] = path.read_bytes()
        foreign = nir.read(path)
        foreign.metadata = {}
        for node in foreign.nodes.values():
            node.metadata = {}
        nir.write(path, foreign)
        found["foreign"] = path.read_bytes()
    return found


# What goes wrong in them

NUMBERS = st.sampled_from(
    [
        *(0, 1, -1, 2, 3, 7, 64, 2**31 - 1, 2**31, -(2**31), 2**40),
        *(0.5, -0.0, 1e-45, 3.4028234663852886e38, 1e300, math.nan, math.inf, -math.inf),
    ]
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "Conv2d", "IF", "LIF", "Input", "Output", "NIRGraph", "Delay", "\0", "é/ü"]
    ),
    st.text(max_size=8),
)
DTYPES = ("f2", "f4", "f8", ">f4", "i1", "u1", "i4", "i8", "u8", "?", "c8", "S3", "V2")
SHAPES = st.lists(st.integers(0, 5), max_size=5)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Anything that a data set can hold."""
    kind = draw(st.sampled_from(["array", "array", "number", "text", "texts", "ramp"]))
    if kind == "number":
        return draw(NUMBERS)
    if kind == "text":
        return draw(TEXTS)
    if kind == "texts":
        return [draw(TEXTS).replace("\0", "") for _ in range(draw(st.integers(1, 3)))]
    shape, dtype = draw(SHAPES), np.dtype(draw(st.sampled_from(DTYPES)))
    if kind == "ramp" or dtype.kind in "SV":
        return (
            np.arange(math.prod(shape)).reshape(shape).astype("S3" if dtype.kind == "S" else "f4")
        )
    with np.errstate(all="ignore"):
        value = np.float64(draw(NUMBERS))
        return np.full(shape, value).astype(dtype)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 70), NUMBERS.map(repr), st.text(max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
HEADER = {
    "time_steps": st.sampled_from([0, 1, 2, 10**9, "3", None, 2.0]),
    "readout_start": st.sampled_from([0, 1, 5, -1, None]),
    "reset": st.sampled_from(["subtract", "v_reset", "", None]),
    "fires": st.sampled_from(["u >= v_threshold", "u > v_threshold", 1]),
    "dt": st.sampled_from([1, 0, "1"]),
    "encoding": st.sampled_from(["direct", "rate", "events", 3]),
    "input_dtype": st.sampled_from(["uint8", "float32", "object"]),
    "input_unit": st.sampled_from([1, 0.5, -1, 10**400, True, "1"]),
    "order": st.lists(TEXTS, max_size=3),
    "profile": st.sampled_from(["spec", "portable", 1]),
    "v_init_encoding": st.sampled_from(["relay", "metadata", "", {}]),
    "nodes": JSON,
}
NAMES = st.sampled_from(["conv", "deep", "if", "if2", "scale", "fc", "head", "input", "nobody", ""])
TERMS = st.recursive(
    NAMES, lambda t: st.fixed_dictionaries({"sum": TEXTS, "terms": st.lists(t, max_size=3)})
)
PAIRS = st.lists(st.lists(st.integers(-1, 3), min_size=1, max_size=3), max_size=3)
NOTE = {
    "name": st.one_of(TEXTS, NAMES),
    "sum": TEXTS,
    "terms": st.lists(TERMS, max_size=4),
    "was": st.sampled_from(["times", "scale", "avg_pool", "relay", "one", "pad", 2]),
    "types": st.dictionaries(st.sampled_from(["weight", "bias", "v_threshold"]), TEXTS, max_size=3)
    | st.just({"weight": "int8", "v_threshold": "int64", "v_init": "int16"}),
    "shapes": st.dictionaries(
        st.sampled_from(["v_threshold", "v_init", "scale"]), st.lists(st.integers(-1, 2**31))
    ),
    "conv": st.fixed_dictionaries(
        {
            "kernel": st.lists(st.integers(0, 4), max_size=3),
            "padding": PAIRS,
            "dilation": st.lists(st.integers(0, 3), max_size=3),
            "groups": st.integers(0, 4),
            "offset": st.lists(st.integers(-1, 3), max_size=3),
        }
    ),
}


def objects(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    return found


def said(file: h5py.File, path: str) -> Any:
    """The JSON in a file's data set, or an empty object."""
    try:
        value = json.loads(file[path][()])
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return value if isinstance(value, dict) else {}


def put(file: h5py.File, path: str, value: Any) -> None:
    if path in file:
        del file[path]
    if isinstance(value, str):
        value = value.replace("\0", "")  # h5py itself refuses to write it
    file.create_dataset(path, data=value)


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """One change, by what NIR files are made of."""
    kind = draw(st.sampled_from(sorted(KINDS)) | st.sampled_from(MILD))
    text = draw(TEXTS)
    note: dict[str, Any] = {}
    if kind in ("header", "note"):
        keys = HEADER if kind == "header" else NOTE
        chosen = draw(st.lists(st.sampled_from(sorted(keys)), min_size=1, max_size=3))
        note = {key: draw(keys[key]) for key in chosen}
    if kind == "metadata" and draw(st.booleans()):
        text = json.dumps(draw(JSON))
    return Mutation(
        kind=kind,
        pick=draw(st.integers(0, 2**20)),
        value=draw(arrays()),
        text=text,
        note=note,
        edges=draw(st.lists(st.tuples(NAMES, NAMES), max_size=3)) if kind == "edges" else [],
    )


def _replace(file: h5py.File, path: str, change: Mutation) -> None:
    put(file, path, change.value)


def _delete(file: h5py.File, path: str, change: Mutation) -> None:
    del file[path]


def _parameter(file: h5py.File, path: str, change: Mutation) -> None:
    """Another number in a parameter, which keeps its shape."""
    numbers = [n for n in objects(file) if n.endswith(PARAMETERS)]
    path = numbers[change.pick % len(numbers)]
    array = np.atleast_1d(file[path][()])
    with np.errstate(all="ignore"):
        array.flat[0] = np.asarray(change.value, "f8").flat[0]
    put(file, path, array)


def _type(file: h5py.File, path: str, change: Mutation) -> None:
    nodes = [name for name in objects(file) if name.endswith("/type")]
    put(file, nodes[change.pick % len(nodes)], change.text)


def _rename(file: h5py.File, path: str, change: Mutation) -> None:
    name = change.text.replace("\0", "").strip("/.") or "x"
    file.move(path, f"{path.rpartition('/')[0]}/{name}")


def _edges(file: h5py.File, path: str, change: Mutation) -> None:
    old = file["node/edges"][()].tolist()
    array = np.array([*(old if change.pick % 4 else []), *change.edges], object)
    del file["node/edges"]
    file.create_dataset("node/edges", data=array, dtype=h5py.string_dtype())


def _header(file: h5py.File, path: str, change: Mutation) -> None:
    where = f"node/metadata/{KEY}"
    put(file, where, json.dumps({**said(file, where), **change.note}))


def _note(file: h5py.File, path: str, change: Mutation) -> None:
    """A note on a node, in its metadata and in the graph's."""
    nodes = file["node/nodes"]
    if not isinstance(nodes, h5py.Group) or not nodes:
        return  # an earlier change put an array there, of any length
    names = sorted(nodes)
    name = names[change.pick % len(names)]
    where = f"node/nodes/{name}/metadata/{KEY}"
    put(file, where, json.dumps({**said(file, where), **change.note}))
    where = f"node/metadata/{KEY}"
    header = said(file, where)
    header["nodes"] = {**header["nodes"], name: {**header["nodes"][name], **change.note}}
    put(file, where, json.dumps(header))


def _metadata(file: h5py.File, path: str, change: Mutation) -> None:
    node = "/".join(path.split("/")[:3])
    put(file, f"node/metadata/{KEY}" if change.pick % 2 else f"{node}/metadata", change.text)


def _potentials(file: h5py.File, path: str, change: Mutation) -> None:
    populations = [n for n in objects(file) if n.endswith("/v_threshold")]
    owner = populations[change.pick % len(populations)].rpartition("/")[0]
    put(file, f"{owner}/metadata/{V_INIT}", change.value)


def _huge(file: h5py.File, path: str, change: Mutation) -> None:
    del file[path]
    chunks: dict[str, Any] = {"chunks": (2**16,)} if change.pick % 2 else {}
    file.create_dataset(path, (2 ** (20 + 2 * (change.pick % 8)),), "f4", **chunks)


def _link(file: h5py.File, path: str, change: Mutation) -> None:
    links = [h5py.SoftLink("/node"), h5py.ExternalLink("other.h5", "/x"), file["node"]]
    file[f"node/again{len(change.text)}"] = links[change.pick % 3]


def _unusual(file: h5py.File, path: str, change: Mutation) -> None:
    """A parameter in a way that HDF5 has besides: compressed, chunked, empty."""
    numbers = [n for n in objects(file) if n.endswith(PARAMETERS)]
    path = numbers[change.pick % len(numbers)]
    array = file[path][()]
    del file[path]
    options: list[dict[str, Any]] = [
        {"compression": "gzip"},
        {"compression": "lzf"},
        {"chunks": True},
    ]
    if change.pick % 7 == 0:
        file[path] = h5py.Empty("f4")
    else:
        file.create_dataset(path, data=array, **options[change.pick % 3])


PARAMETERS = (
    *("weight", "bias", "r", "v_threshold", "v_reset", V_INIT, "scale", "stride", "padding"),
    *("dilation", "groups", "input_shape", "kernel_size", "start_dim", "end_dim", "shape"),
    "input_type",
)
MILD = ("parameter", "header", "note", "unusual", "potentials")
"""What may leave a network behind."""

KINDS: dict[str, Callable[..., None]] = {
    "replace": _replace,
    "delete": _delete,
    "parameter": _parameter,
    "type": _type,
    "rename": _rename,
    "edges": _edges,
    "header": _header,
    "note": _note,
    "metadata": _metadata,
    "potentials": _potentials,
    "huge": _huge,
    "link": _link,
    "unusual": _unusual,
}

ARGUMENTS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "reset": st.sampled_from(["subtract", "v_reset", "other"]),
            "time_steps": st.sampled_from([1, 3, 0, -1, 10**9]),
        },
        optional={
            "encoding": st.sampled_from(["direct", "events", "morse"]),
            "input_dtype": st.sampled_from(["uint8", "float32", "int64"]),
        },
    ),
    st.just({"reset": "subtract", "time_steps": 2}),
    st.just({"reset": "v_reset", "time_steps": 2}),
)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Of the bytes: none, flipped ones, an end cut off."""
    kind = draw(st.sampled_from(["none", "none", "none", "flip", "cut"]))
    places = draw(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=6))

    def damage(data: bytes) -> bytes:
        if kind == "cut":
            return data[: int(places[0][0] * len(data))]
        broken = bytearray(data)
        for place, bits in places if kind == "flip" else []:
            broken[min(int(place * len(data)), len(data) - 1)] ^= bits
        return bytes(broken)

    return damage


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def nothing_else() -> Iterator[None]:
    """Warnings are errors, memory does not grow beyond the limit."""
    before = peak_megabytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert peak_megabytes() - before < MEGABYTES


def check_runs(graph: Graph) -> None:
    """The network runs; but for time, fewer steps, and not what is large but allowed."""
    values = sum(math.prod(graph.shape(node.name)) for node in graph.nodes)
    weights = sum(a.size for node in graph.nodes for a in node.arrays().values())
    if values + weights > 2**16:
        return
    short = replace(graph, time_steps=min(graph.steps, 2), readout_start=0)
    lead = (1,) if graph.input.encoding == "direct" else (short.steps, 1)
    x = np.ones((*lead, *graph.input.shape), graph.input.dtype)
    with np.errstate(all="ignore"):  # weights may be as large as float32 has them
        ReferenceSimulator(short).run(x)


ENDS = {"accepted": 0, "refused": 0}


@settings(
    max_examples=EXAMPLES,
    deadline=SECONDS * 1000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.sampled_from(["nir", "nir-portable", "nir-relay", "hard", "foreign"]),
    st.lists(mutations(), min_size=1, max_size=3),
    damages(),
    ARGUMENTS,
)
def check_example(
    original: str, changes: list[Mutation], damage: Callable[[bytes], bytes], given: dict[str, Any]
) -> None:
    refused = ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nir"
        path.write_bytes(originals()[original])
        with h5py.File(path, "r+") as file:
            for change in changes:
                change.apply(file)
        path.write_bytes(damage(path.read_bytes()))
        os.chdir(folder)  # where an external link would lead
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                graph = from_nir(path, **given)
        except ExportError as error:
            refused = str(error)
        finally:
            os.chdir("/")
        if refused:
            assert str(path) in refused
        else:
            check_runs(graph)
        ENDS["refused" if refused else "accepted"] += 1


def test_malformed_files_give_one_clear_error() -> None:
    originals()
    with nothing_else():
        check_example()
    # so that both ends are seen to be reached
    assert ENDS["accepted"] > EXAMPLES // 50
    assert ENDS["refused"] > EXAMPLES // 4
