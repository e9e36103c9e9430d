"""What is asked of a reader before a file is written for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.formats import NirOptions
from icsnn_deploy.exporters.nir.portable.reader_limits import READERS, needs
from tests.support.graphs import (
    conv,
    residual_network,
)
from tests.support.portable import network, population

RNG = np.random.default_rng(11)


def test_a_reader_is_asked_before_anything_is_written(tmp_path: Path) -> None:
    signal = network(
        conv("c", "x", RNG, (2, 2), (3,)),
        population("p", "c", np.ones((1, 1)), [[0.5]]),
        shape=(2, 8),
    )
    for name in READERS:
        export(residual_network(), tmp_path / "x.nir", "nir-portable", NirOptions(for_reader=name))
        if name == "spikingjelly":
            export(signal, tmp_path / "s.nir", "nir-relay", NirOptions(for_reader=name))
            continue
        with pytest.raises(ExportError, match="can't run this network") as caught:
            export(signal, tmp_path / "no.nir", "nir-relay", NirOptions(for_reader=name))
        assert READERS[name].version in str(caught.value)
        assert "Conv1d" in str(caught.value)
    assert {file.name for file in tmp_path.iterdir()} == {"x.nir", "s.nir"}


def test_readers_that_are_not_or_can_not(tmp_path: Path) -> None:
    graph = residual_network()
    with pytest.raises(ExportError, match="no NIR reader 'brian' is known; there are snntorch"):
        export(graph, tmp_path / "x", "nir-portable", NirOptions(for_reader="brian"))
    with pytest.raises(ExportError, match="take nir-portable or nir-relay"):
        export(graph, tmp_path / "x", "nir", NirOptions(profile="spec", for_reader="norse"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", READERS)
def test_what_a_reader_needs(name: str) -> None:
    graph = replace(residual_network(time_steps=5), readout_start=2)
    said = needs(name, "a/b.nir", graph, "metadata")
    assert READERS[name].version in said[0]
    assert any(line.startswith("potentials: ") and "'v_init'" in line for line in said)
    assert any("dt = 1, 5 steps" in line and "3 to 5" in line for line in said)
    assert said[-1] == f"or all of this: icsnn_deploy.readers.{name}.load('a/b.nir')"
    relay = needs(name, "a/b.nir", graph, "relay")
    assert any("relay_inputs(x, 5)" in line for line in relay)
    assert not any(line.startswith("potentials: ") for line in relay)
    assert said[1] == relay[1] == f"reset: {READERS[name].reset}"
    joins = [line for line in said if line.startswith("joins: ")]
    assert bool(joins) == READERS[name].depth_first
    assert not any(line.startswith("joins: ") for line in relay)  # made straight
