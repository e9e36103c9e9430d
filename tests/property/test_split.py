"""A network in two parts gives every spike and logit of the whole one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, Layout, OnnxOptions
from icsnn_deploy.exporters.onnx.write import write
from icsnn_deploy.graph.arrangement import named_outputs, pack_inputs
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.passes.split_first_layer import split_first_layer
from icsnn_deploy.splitting.host_file import HostFileSimulator
from tests.property.test_lattice import RESETS, assert_identical, integer_graphs
from tests.support.branches import branched_networks, rounded
from tests.support.graphs import if_graphs, samples


def assert_parts_are_the_whole(graph: Graph) -> None:
    """On the reference simulator, to the last bit."""
    x = to_input_units(graph, samples(graph, 3))
    whole = ReferenceSimulator(graph).run(x)
    parts = split_first_layer(graph)
    host = ReferenceSimulator(parts.host).run(x)
    chip = ReferenceSimulator(parts.chip).run(pack_inputs(parts.chip, host.spikes))
    assert set(host.spikes) == set(parts.populations)
    assert {**host.spikes, **chip.spikes}.keys() == whole.spikes.keys()
    for name, spikes in {**host.spikes, **chip.spikes}.items():
        np.testing.assert_array_equal(spikes, whole.spikes[name])
    np.testing.assert_array_equal(chip.logits, whole.logits)
    rates = named_outputs(parts.host, host.logits)
    for name, spikes in host.spikes.items():
        np.testing.assert_array_equal(rates[name], spikes.mean(axis=0))


@settings(max_examples=30, deadline=None)
@given(st.one_of(if_graphs(RESETS), branched_networks()))
def test_the_parts_of_a_float_network_are_the_whole(graph: Graph) -> None:
    assert_parts_are_the_whole(graph)


@settings(max_examples=12, deadline=None)
@given(
    st.one_of(integer_graphs(), st.builds(rounded, branched_networks(), bits=st.integers(2, 8))),
    st.sampled_from(LAYOUTS),
)
def test_the_parts_of_an_integer_network_are_certified_and_the_whole_on_files(
    graph: Graph, layout: Layout
) -> None:
    assert_parts_are_the_whole(graph)
    parts = split_first_layer(graph)
    assert parts.host.is_integer
    assert parts.chip.is_integer
    whole = certify(graph)
    bounds = {bound.layer: bound for bound in whole.bounds}
    for part in (parts.host, parts.chip):
        certificate = certify(part)
        assert certificate.float32
        for bound in certificate.bounds:
            if bound.layer in graph and not (part is parts.host and bound.layer == "output"):
                assert bound == bounds[bound.layer]
    x = to_input_units(graph, samples(graph, 3))
    expected = ReferenceSimulator(parts.host).run(x)
    with TemporaryDirectory() as folder:
        path = Path(folder)
        write(parts.host, path / "host.onnx", OnnxOptions(layout=layout, raw_spikes=True))
        host = HostFileSimulator(path / "host.onnx").run(x)
        assert_identical(host, expected)
        spikes = pack_inputs(parts.chip, host.spikes)
        wanted = ReferenceSimulator(parts.chip).run(spikes)
        write(parts.chip, path / "chip.onnx", OnnxOptions(layout=layout))
        assert_identical(OnnxRuntimeSimulator(path / "chip.onnx").run(spikes), wanted)
        export(parts.chip, path / "chip.nir", "nir")
        assert_identical(NirSimulator(path / "chip.nir").run(spikes), wanted)
        assert_identical(TorchSimulator(parts.chip).run(spikes), wanted)
