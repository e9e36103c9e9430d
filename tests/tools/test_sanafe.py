"""SANA-FE's model of Loihi: its spikes and events are the network's, and placements differ."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import GraphError, TargetError
from icsnn_deploy.evaluation.activity import measure_activity
from icsnn_deploy.evaluation.chip_cost import model_cost
from icsnn_deploy.evaluation.cost_record import read_cost
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.tools.circuit import make_circuit

pytestmark = pytest.mark.sanafe


@pytest.mark.parametrize("name", ["demo", "cifar"])
def test_spikes_and_events_are_those_of_the_network(
    name: str, request: pytest.FixtureRequest
) -> None:
    bundle: Bundle = request.getfixturevalue(name)
    x = bundle.samples()[:2]
    cost = model_cost(bundle, x, neurons_per_core=(512, 128))
    print(f"{name}: {cost.spike_mismatches} of {cost.spikes_compared:,} spikes differ")
    assert cost.spike_mismatches == 0
    assert cost.spikes_compared > 10_000
    network = bundle.network()
    recording = ReferenceSimulator(network).run(to_input_units(network, x))
    before = make_circuit(network, most_synapses=10**7, tool="test").plan.incoming(
        network.output.name
    )
    counts = recording.spike_counts()
    to_readout = sum(
        (counts[c.source].reshape(len(x), -1) * np.count_nonzero(c.matrix(), axis=0)).sum()
        for c in before
    )
    acs = measure_activity(network, recording, to_input_units(network, x)).acs
    for placement in cost.placements:
        assert placement.synaptic_events == placement.counted_events
        assert placement.synaptic_events == pytest.approx(acs - to_readout / len(x))
        parts = sum(asdict(placement.energy).values())
        assert placement.joules == pytest.approx(parts)
        assert sum(row.synaptic_events for row in placement.layers) == placement.synaptic_events
    few, many = cost.placements
    print(f"{name}: {few.seconds * 1e3:.3g} ms and {many.seconds * 1e3:.3g} ms per image")
    assert few.cores < many.cores
    assert few.seconds != many.seconds


def test_the_backend_is_equal(cifar: Bundle) -> None:
    (found,) = verify(cifar, "sanafe", cifar.samples()[:2], progress=None).comparisons
    assert found.verdict == "pass", found.reason


def test_what_the_command_writes_is_shown_by_inspect_and_report(
    cifar: Bundle, tmp_path: Path
) -> None:
    file, page = tmp_path / "cost.json", tmp_path / "report.html"
    placed = ("--limit", "1", "--neurons-per-core", "512")
    run("cost", cifar.path, *placed, "--out", file)
    cost = read_cost(file)
    shown = f"{cost.placements[0].seconds * 1e3:.3g} ms"
    inspected = run("inspect", cifar.path, "--cost", file)
    assert "modelled by SANA-FE" in inspected
    assert shown in inspected
    options = ("--cost", file, "--target", "loihi1", "--parity-samples", 0)
    run("report", cifar.path, "--out", page, *options)
    for path in (page, page.with_suffix(".md")):
        text = path.read_text().replace("\\", "")  # Markdown escapes some characters
        assert "modelled by SANA-FE" in text
        assert shown in text


def run(*arguments: object) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_chip_without_a_model_and_a_core_that_is_too_large_are_refused(cifar: Bundle) -> None:
    with pytest.raises(TargetError, match="sanafe models loihi1"):
        model_cost(cifar, target="speck")
    with pytest.raises(TargetError, match="1 to 1024"):
        model_cost(cifar, neurons_per_core=(1025,))


def test_more_synapses_than_the_tool_runs_are_refused(cifar: Bundle) -> None:
    with pytest.raises(GraphError, match="more than 1,000 synapses, the most that SANA-FE"):
        make_circuit(cifar.network(), most_synapses=1000, tool="SANA-FE")
