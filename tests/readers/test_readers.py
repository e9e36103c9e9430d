"""NIR files in the frameworks people use: no spike differs through the helpers, and why they exist.

Where a framework mends what a helper corrects, a test here fails and says what to delete. Workers
start in seconds, so that one answers for many files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.demo.digits import load_digits, train
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export, export_into
from icsnn_deploy.exporters.nir.portable.reader_limits import READERS
from icsnn_deploy.exporters.nir.portable.relay import relay_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.progress import silent
from icsnn_deploy.readers.environment import READERS as HOMES
from icsnn_deploy.readers.environment import find_environment, pins
from icsnn_deploy.readers.launch import Request, run_requests
from icsnn_deploy.readers.versions import TESTED

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "foreign"
FILES = ("nir-portable", "nir-relay")
IMAGES, STEPS = 20, 8


def run_in(home: str, requests: Sequence[Request]) -> list[Recording]:
    return run_requests(find_environment(home).python, requests)


def assert_same(found: Recording, expected: Recording) -> None:
    assert list(found.spikes) == list(expected.spikes)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, f"{found.backend}: {name}")
    np.testing.assert_array_equal(found.logits, expected.logits, found.backend)


# The demo's network on the lattice: a residual join, pooling


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    digits = load_digits()
    model = train(digits, silent, epochs=1)
    recipe = Recipe(name="fast", time_steps=STEPS)
    conversion = convert(model, digits.train_images[:128], recipe)
    lattice = quantize(
        conversion.network,
        digits.train_images[:64],
        conversion.ann,
        LatticeOptions(per_layer=True),
    )
    made = create_bundle(
        tmp_path_factory.mktemp("readers") / "demo",
        network=lattice.network,
        ann=conversion.ann,
        samples=to_input_units(lattice.network, digits.test_images[:IMAGES]),
        report={},
    )
    return export_into(made, *FILES)


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> Recording:
    recording = ReferenceSimulator(bundle.network()).run(bundle.samples())
    rates = [spikes.mean() for spikes in recording.spikes.values()]
    assert len(rates) == 4
    assert all(0.02 < rate < 0.9 for rate in rates)  # neither silent nor saturated
    return recording


@pytest.fixture(scope="module")
def helped(bundle: Bundle) -> dict[tuple[str, str], Recording]:
    """Both files in every reader, through its helper."""
    found: dict[tuple[str, str], Recording] = {}
    for home, readers in HOMES.items():
        asked = [(reader, name) for reader in readers for name in FILES]
        requests = [
            Request(reader=reader, file=bundle.export(name), inputs=bundle.samples())
            for reader, name in asked
        ]
        found |= dict(zip(asked, run_in(home, requests), strict=True))
    return found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("reader", READERS)
def test_no_spike_of_the_demo_differs(
    reader: str, name: str, helped: dict[tuple[str, str], Recording], expected: Recording
) -> None:
    assert_same(helped[reader, name], expected)


# The readers' own imports


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import readers

        yield readers
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def plain(bundle: Bundle, expected: Recording, benchmark: Any) -> dict[tuple[str, str], Any]:
    """The portable file as each imports it, and the relay file with nothing but soft reset."""
    x = bundle.samples()
    stepped = np.broadcast_to(x, (STEPS, *x.shape))
    found: dict[tuple[str, str], Any] = {}
    for readers in HOMES.values():
        jobs = [
            job
            for reader in readers
            for job in (
                benchmark.Job(reader=reader, file=bundle.export(FILES[0]), stepped=stepped),
                benchmark.Job(
                    reader=reader,
                    file=bundle.export(FILES[1]),
                    stepped=relay_inputs(x, STEPS),
                    reset=True,
                ),
            )
        ]
        keys = [(reader, name) for reader in readers for name in FILES]
        found |= dict(zip(keys, benchmark.run_plain(jobs, expected), strict=True))
    return found


@pytest.mark.parametrize(
    ("reader", "error"),
    [
        ("snntorch", r"TypeError: conv2d\(\) received an invalid .* got \(tuple"),
        ("spikingjelly", r"ValueError: nir\.IF\.r must equal 1 / dt"),
        ("nirtorch", r"ValueError: Unknown node type .*IF.*, mapping does not exist"),
    ],
)
def test_their_own_import_ends_in_an_error(
    reader: str, error: str, plain: dict[tuple[str, str], Any]
) -> None:
    """If this fails, see which correction can be deleted here and in docs/guide/readers.md."""
    assert re.match(error, plain[reader, "nir-portable"].error)


@pytest.mark.parametrize("reader", ["norse", "sinabs"])
def test_their_own_import_sends_other_spikes(
    reader: str, plain: dict[tuple[str, str], Any]
) -> None:
    outcome = plain[reader, "nir-portable"]
    assert outcome.error is None
    assert outcome.mismatches > outcome.spikes / 100


@pytest.mark.parametrize("reader", READERS)
def test_a_relay_needs_nothing_but_the_reset(
    reader: str, plain: dict[tuple[str, str], Any]
) -> None:
    outcome = plain[reader, "nir-relay"]
    assert (outcome.error, outcome.mismatches, outcome.logits) == (None, 0, 0)


# What exactly the helpers correct


def facts(home: str, *arguments: str | Path) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "facts.json"
        command = [find_environment(home).python, SCRIPTS / f"facts_{home}.py", *arguments, out]
        done = subprocess.run(command, timeout=300, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.fixture(scope="module")
def readers_facts(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    inputs = tmp_path_factory.mktemp("facts") / "inputs.npy"
    np.save(inputs, bundle.samples())
    return facts("readers", bundle.export("nir-portable"), inputs)


@pytest.fixture(scope="module")
def sinabs_facts() -> dict[str, Any]:
    return facts("sinabs")


SOFT, SOFT_ABOVE = [1, 1, 1, 0], [0, 1, 1, 1]
"""One neuron of threshold 4 that gets 4, 8, 2, 0: where it fires at u >= 4, and at u > 4."""


def test_what_is_corrected_of_snntorch(readers_facts: dict[str, Any]) -> None:
    """Each line that fails is a correction of readers/snntorch.py to delete."""
    found = readers_facts["snntorch"]
    assert found["beta"] == 0.9
    assert found["returns_a_tuple"]
    assert not found["reset_delay"]
    assert found["without_reset_delay"] not in (SOFT, SOFT_ABOVE)
    assert found["with_reset_delay"] == SOFT_ABOVE


def test_what_is_corrected_of_spikingjelly(readers_facts: dict[str, Any]) -> None:
    found = readers_facts["spikingjelly"]
    assert found["refused"] == "nir.IF.r must equal 1 / dt."
    assert found["v_reset"] == 0
    assert found["hard"] == [1, 1, 0, 0]  # fires at a tie


def test_what_is_corrected_of_norse(readers_facts: dict[str, Any]) -> None:
    found = readers_facts["norse"]
    assert found["hard"] == found["asked_to_subtract"] == [0, 1, 0, 0]  # silent at a tie
    assert found["pool"] == "None"


def test_what_is_corrected_of_nirtorch(readers_facts: dict[str, Any]) -> None:
    assert readers_facts["nirtorch"] == {
        "keeps_the_bias": False,
        "conv_inputs": 5,  # of 3
        "has_a_neuron": False,
    }


def test_what_is_corrected_of_sinabs(sinabs_facts: dict[str, Any]) -> None:
    assert sinabs_facts["neuron"] == {
        "layer": "IAFSqueeze",
        "spike_fn": "MultiSpike",
        "min_v_mem": -4,
        "spikes": [1, 2, 0, 0],  # of 4, 9, -9 and 6, which goes on from -4
    }
    assert sinabs_facts["dropped"] == ["AvgPool2d", "Linear"]


def test_what_is_corrected_of_the_older_executor(sinabs_facts: dict[str, Any]) -> None:
    """norse and sinabs load through it. If this fails, delete readers/executor.py."""
    order = sinabs_facts["order"]
    assert order.index("join") < order.index("shortcut")


def test_a_reader_that_is_here_runs_here(
    readers_facts: dict[str, Any], expected: Recording
) -> None:
    counts = {name: int(spikes.sum()) for name, spikes in expected.spikes.items()}
    assert readers_facts["here"] == {"worker": False, "spikes": counts}


# Random networks


@st.composite
def networks(draw: st.DrawFn) -> list[Graph]:
    from tests.property.test_nir_portable import portable_graphs

    return [draw(portable_graphs()) for _ in range(8)]


@settings(
    max_examples=1,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(networks())
def test_random_networks(graphs: list[Graph]) -> None:
    from tests.property.test_nir_portable import inputs_of

    with TemporaryDirectory() as folder:
        files = [written(graph, Path(folder) / str(n)) for n, graph in enumerate(graphs)]
        for home, readers in HOMES.items():
            asked: list[tuple[Graph, Array, Request]] = []
            for reader in readers:
                for graph, paths in zip(graphs, files, strict=True):
                    x = inputs_of(graph)
                    if len(graph.input.shape) != 2:  # only SpikingJelly holds one axis
                        asked += [
                            (graph, x, Request(reader=reader, file=path, inputs=x))
                            for path in paths
                        ]
            assume(asked)
            answers = run_in(home, [request for _, _, request in asked])
            for (graph, x, _), answer in zip(asked, answers, strict=True):
                assert_same(answer, ReferenceSimulator(graph).run(x))


def written(graph: Graph, path: Path) -> list[Path]:
    """The files of a network: portable, and relay where there is one."""
    files = [path.with_suffix(".nir"), path.with_suffix(".relay.nir")]
    export(graph, files[0], "nir-portable")
    try:
        export(graph, files[1], "nir-relay")
    except ExportError:
        return files[:1]
    return files


# The backends, and the page about all this


def test_a_backend_is_a_reader_with_a_file(bundle: Bundle) -> None:
    done = CliRunner().invoke(
        app, ["verify", str(bundle.path), "--backend", "nir:sinabs-relay", "--limit", "2", "--json"]
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [found["backend"] for found in report["comparisons"]] == ["nir:sinabs-relay"]
    assert report["comparisons"][0]["spike_mismatches"] == 0


def test_a_backend_needs_its_file(bundle: Bundle, tmp_path: Path) -> None:
    bare = create_bundle(
        tmp_path / "bare",
        network=bundle.network(),
        ann=bundle.ann(),
        samples=bundle.samples(),
        report={},
    )
    done = CliRunner().invoke(app, ["verify", str(bare.path), "--backend", "nir:norse"])
    assert done.exit_code == 2
    assert "nir-portable" in done.stderr


def test_the_pages_versions_are_those_that_ran() -> None:
    page = (ROOT / "docs" / "guide" / "readers.md").read_text()
    assert set(TESTED) == set(READERS)
    for home in HOMES:
        assert dict(find_environment(home).versions) == pins(home)
    for reader, held in READERS.items():
        assert held.version.lower() == f"{reader} {TESTED[reader][reader]}"
        assert f"| {held.version} |" in page
