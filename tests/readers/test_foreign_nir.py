"""NIR files that snnTorch and sinabs wrote themselves run here as they run there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.recording import Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.metadata import Reset
from icsnn_deploy.exporters.nir.read.file import from_nir
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.readers.environment import find_environment

SCRIPTS = Path(__file__).parents[1] / "foreign"
FRAMEWORKS = {"snntorch": "readers", "sinabs": "sinabs"}


@pytest.fixture(scope="module", params=FRAMEWORKS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a framework's files and what its own simulation did."""
    folder = tmp_path_factory.mktemp(request.param)
    python = find_environment(FRAMEWORKS[request.param]).python
    script = SCRIPTS / f"from_{request.param}.py"
    subprocess.run([python, script, folder], check=True, timeout=300, capture_output=True)
    return folder


@pytest.mark.parametrize(("name", "reset"), [("soft", "subtract"), ("hard", "v_reset")])
def test_their_files_run_as_their_own_simulation(written: Path, name: str, reset: Reset) -> None:
    with np.load(written / f"{name}.npz") as file:
        recorded = dict(file)
    inputs = recorded.pop("inputs").astype(np.uint8)
    graph = from_nir(
        written / f"{name}.nir",
        reset=reset,
        time_steps=len(inputs),
        encoding="events",
        input_dtype="uint8",
    )
    assert {node.name for node in graph.nodes_of(IF)} == set(recorded)
    export(graph, written / f"{name}.onnx", "onnx")
    simulators: list[Simulator] = [
        ReferenceSimulator(graph),
        TorchSimulator(graph),
        OnnxRuntimeSimulator(written / f"{name}.onnx"),
    ]
    for simulator in simulators:
        found = simulator.run(inputs).spikes
        for layer, spikes in recorded.items():
            assert 0.02 < spikes.mean() < 0.9, layer  # neither silent nor saturated
            assert np.count_nonzero(found[layer] != spikes) == 0, (simulator.name, layer)


def test_the_other_reading_is_another_network(written: Path) -> None:
    """So that the choice of the reset is seen to matter."""
    with np.load(written / "soft.npz") as file:
        recorded = dict(file)
    inputs = recorded.pop("inputs").astype(np.uint8)
    graph = from_nir(
        written / "soft.nir", reset="v_reset", time_steps=len(inputs), encoding="events"
    )
    found = ReferenceSimulator(graph).run(inputs).spikes
    assert any(np.count_nonzero(found[layer] != spikes) for layer, spikes in recorded.items())
