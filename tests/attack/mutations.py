"""Change one number of an export by its smallest unit, make the hashes fit, and verify the bundle.

    python -m tests.attack.mutations --count 2000 --seed 0

Every change must be found. The exception is the version that a file says it was written by: with
another one its content can't be compared, which verify reports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.errors import IcsnnError
from icsnn_deploy.exporters import ExportOptions, export_into
from icsnn_deploy.exporters.onnx.contract import OnnxOptions, TimedLayout
from icsnn_deploy.exporters.onnx.metadata import BLANK, CONTENT_KEY, stamp_content
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.parity.verify import verify
from tests.support.graphs import residual_network, samples, sequential_network
from tests.support.integer_graphs import on_lattice

BACKENDS = {
    "nir": "nir",
    "nir-portable": "nir-portable",
    "nir-relay": "nir-relay",
    "onnx": "onnxruntime",
    "onnx-step": "onnxruntime-step",
    "c": "c",
}
"""The backend that runs an export; others are compared by their content alone."""

NOT_FOUND, ANOTHER_VERSION, CRASH = "NOT FOUND", "told as another version's", "CRASH"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One export of one network."""

    title: str
    network: str
    export_format: str
    options: tuple[ExportOptions, ...] = ()


def targets() -> list[Target]:
    """Every format, each layout of ONNX, and parameters in a second file."""
    layouts = cast("tuple[TimedLayout, ...]", get_args(TimedLayout))
    onnx = [
        Target(
            title=f"onnx {layout}, {network}",
            network=network,
            export_format="onnx",
            options=(OnnxOptions(layout=layout, logits_t=True, spike_counts=True),),
        )
        for layout in layouts
        for network in ("integer", "float")
    ]
    outside = Target(
        title="onnx with a data file",
        network="float",
        export_format="onnx",
        options=(OnnxOptions(inline_bytes=0),),
    )
    others = [
        ("nir", "integer"),
        ("nir", "float"),
        ("nir-portable", "float"),
        ("nir-relay", "float"),
        ("onnx-step", "integer"),
        ("onnx-step", "float"),
        ("c", "integer"),
        ("systemverilog", "integer"),
        ("testvectors", "integer"),
        ("netx", "sequential"),
    ]
    plain = [Target(title=f"{f}, {n}", network=n, export_format=f) for f, n in others]
    return [*onnx, outside, *plain]


def networks() -> dict[str, Graph]:
    return {
        "integer": on_lattice(residual_network(time_steps=3)),
        "sequential": on_lattice(sequential_network(time_steps=3)),
        "float": residual_network(time_steps=3),
    }


def bundle_of(target: Target, network: Graph, path: Path) -> Bundle:
    """A bundle with one export and one sample."""
    given = to_input_units(network, samples(network, 1))
    bundle = create_bundle(path, network=network, ann=None, samples=given, report={})
    return export_into(bundle, target.export_format, options=target.options, lossy=True)


def change_hdf5(path: Path, rng: random.Random) -> str:
    """Change one number in an array, or one digit in a string."""
    import h5py

    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
        name = rng.choice([name for name in names if file[name].size])
        data = file[name]
        values = data[()]
        if data.dtype.kind in "OS":
            flat = np.atleast_1d(np.asarray(values))
            text = flat.reshape(-1)[0]
            changed = _digit(text if isinstance(text, bytes) else text.encode(), rng)
            if data.dtype.kind == "S":
                data[...] = np.array(changed, data.dtype).reshape(data.shape)
            else:
                data[...] = changed.decode()
            return name
        array = np.array(values)
        place = rng.randrange(array.size)
        array.reshape(-1)[place] = _next(array.reshape(-1)[place], rng)
        data[...] = array
        return f"{name}[{place}]"


def change_onnx(path: Path, rng: random.Random) -> str:
    """Change one number of a parameter, an operator, a shape or the metadata."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    places = list(_places(model.graph))
    entries = [entry for entry in model.metadata_props if entry.key != CONTENT_KEY]
    places += [("metadata " + entry.key, _metadata(entry)) for entry in entries]
    data = path.with_name(path.name + ".data")
    if data.exists():
        places += [("data file", lambda rng: _change_data(model, data, rng))] * len(places)
    name, change = rng.choice(places)
    change(rng)
    for entry in model.metadata_props:
        if entry.key == CONTENT_KEY:
            entry.value = BLANK
    stamped = stamp_content(model.SerializeToString(deterministic=True))
    assert stamped is not None
    path.write_bytes(stamped)
    return name


Change = Callable[[random.Random], None]


def _places(graph: Any, scope: str = "") -> Iterator[tuple[str, Change]]:
    """Everything in a graph that holds numbers, those of inner graphs too."""
    for tensor in graph.initializer:
        if tensor.raw_data or tensor.int64_data or tensor.float_data:
            yield f"{scope}parameter {tensor.name}", _tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            where = f"{scope}{node.op_type} {attribute.name}"
            if attribute.HasField("g"):
                yield from _places(attribute.g, f"{where}/")
            elif attribute.HasField("t"):
                yield where, _tensor(attribute.t)
            else:
                yield where, _attribute(attribute)
    for info in (*graph.input, *graph.output, *graph.value_info):
        sizes = [size for size in info.type.tensor_type.shape.dim if size.dim_value]
        if sizes:
            yield f"{scope}shape of {info.name}", _size(sizes)


def _tensor(tensor: Any) -> Change:
    def change(rng: random.Random) -> None:
        from onnx import numpy_helper

        array = numpy_helper.to_array(tensor).copy()
        place = rng.randrange(array.size)
        array.reshape(-1)[place] = _next(array.reshape(-1)[place], rng)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return change


def _attribute(attribute: Any) -> Change:
    def change(rng: random.Random) -> None:
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] += rng.choice((-1, 1))
        elif attribute.HasField("f"):
            attribute.f = float(_next(np.float32(attribute.f), rng))
        else:
            attribute.i += rng.choice((-1, 1))

    return change


def _size(sizes: list[Any]) -> Change:
    def change(rng: random.Random) -> None:
        rng.choice(sizes).dim_value += rng.choice((-1, 1))

    return change


def _metadata(entry: Any) -> Change:
    def change(rng: random.Random) -> None:
        entry.value = _digit(entry.value.encode(), rng).decode()

    return change


def _change_data(model: Any, data: Path, rng: random.Random) -> None:
    values = np.frombuffer(data.read_bytes(), np.float32).copy()
    place = rng.choice(np.flatnonzero(values).tolist())
    values[place] = _next(values[place], rng)
    data.write_bytes(values.tobytes())
    for entry in model.metadata_props:
        if entry.key == "data_sha256":
            entry.value = hashlib.sha256(data.read_bytes()).hexdigest()


def change_text(path: Path, rng: random.Random) -> str:
    """Change one digit in one file of a folder."""
    file = rng.choice(sorted(file for file in path.iterdir() if file.is_file()))
    file.write_bytes(_digit(file.read_bytes(), rng))
    return file.name


def _digit(text: bytes, rng: random.Random) -> bytes:
    """A text with one digit changed by one; without a digit, one character."""
    places = [n for n, letter in enumerate(text) if 48 <= letter <= 57] or [0]
    place = rng.choice(places)
    letter = text[place] if text else 47
    return text[:place] + bytes([letter - 1 if letter == 57 else letter + 1]) + text[place + 1 :]


def _next(value: Any, rng: random.Random) -> Any:
    """The number beside this one."""
    kind = np.asarray(value).dtype
    if kind.kind == "f":
        return np.nextafter(value, kind.type(rng.choice((-np.inf, np.inf))))
    if kind.kind == "b":
        return not value
    limits = np.iinfo(kind)
    step = rng.choice((-1, 1))
    return kind.type(
        value + step if limits.min <= int(value) + step <= limits.max else value - step
    )


def change(bundle: Bundle, export_format: str, rng: random.Random) -> str:
    """Change an export in place, and the manifest, so that it fits."""
    path = bundle.path / bundle.exports[export_format]
    before = {file: (bundle.path / file).read_bytes() for file in bundle.files_of(export_format)}
    if path.is_dir():
        place = change_text(path, rng)
    elif path.suffix == ".onnx":
        place = change_onnx(path, rng)
    else:
        place = change_hdf5(path, rng)
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    after = {file: (bundle.path / file).read_bytes() for file in before}
    assert after != before, place
    for file, data in after.items():
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][file] = {"sha256": digest, "size": len(data)}
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    return place


def outcome(path: Path, export_format: str) -> str:
    """How verify finds a changed export, or that it does not."""
    backend = BACKENDS.get(export_format, "reference")
    try:
        report = verify(open_bundle(path), [backend], exports=[export_format])
    except IcsnnError as error:
        message = str(error)
        if "\n" in message or not message.isprintable():
            return f"{CRASH}: a message that is not one line"
        return "content" if "not what icsnn-deploy" in message else "refused by the reader"
    except Exception as error:
        return f"{CRASH}: {type(error).__name__}: {error}"
    if report.verdict == "fail":
        return "behavior"
    state = report.exports[export_format].state
    return ANOTHER_VERSION if state == "other version" else NOT_FOUND


def attack(count: int, seed: int) -> dict[str, Counter[str]]:
    """Change `count` numbers, in turn in every target; returns the outcomes of each."""
    rng = random.Random(seed)
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder, graphs = Path(name), networks()
        made = [
            (target, bundle_of(target, graphs[target.network], folder / str(number)))
            for number, target in enumerate(targets())
        ]
        for number in range(count):
            if number and number % 200 == 0:
                print(f"{number} done", file=sys.stderr)
            target, bundle = made[number % len(made)]
            copy = Path(shutil.copytree(bundle.path, folder / "changed"))
            place = change(open_bundle(copy), target.export_format, rng)
            result = outcome(copy, target.export_format)
            if result.startswith((NOT_FOUND, CRASH)):
                print(f"{target.title}: {place}: {result}", file=sys.stderr)
            found.setdefault(target.title, Counter())[result.partition(":")[0]] += 1
            shutil.rmtree(copy)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = attack(given.count, given.seed)
    for title, results in found.items():
        print(f"{title:28}", ", ".join(f"{name} {n}" for name, n in sorted(results.items())))
    total = sum(found.values(), Counter())
    print(
        f"{'all ' + str(given.count):28}", ", ".join(f"{n} {c}" for n, c in sorted(total.items()))
    )
    return int(total[NOT_FOUND] + total[CRASH] > 0)


if __name__ == "__main__":
    sys.exit(main())
