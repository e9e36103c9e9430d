"""What a report measures, against the same computed in another way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.early_exit import run_until_sure
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BackendUnavailableError, DataError, SimulationError
from icsnn_deploy.evaluation.activity import measure_activity
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.graph.readout import top1
from icsnn_deploy.report.layers import OutputFit
from icsnn_deploy.report.page import parity_measures
from icsnn_deploy.report.page.measure import HeldSamples, ReportOptions, measure
from icsnn_deploy.report.page.measures import BundleMeasures, Example
from icsnn_deploy.report.page.sample_measures import ExampleChooser
from icsnn_deploy.report.page.samples_run import CONFIDENCES
from tests.support.evaluating import NETWORK, build, data
from tests.support.graphs import two_headed_network
from tests.support.integer_graphs import on_lattice

COUNT = 23


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return build(tmp_path / "bundle")


def held(x: Any) -> HeldSamples:
    return HeldSamples(samples=x, axis=0, name="x")


def measured(bundle: Bundle, folder: Path, **options: Any) -> BundleMeasures:
    x, y = data(folder, COUNT, bundle.network())
    return measure(bundle, held(x), y, ReportOptions(batch_size=5, targets=("loihi2",), **options))


def test_activity_is_that_of_all_samples_in_one_run(tmp_path: Path, bundle: Bundle) -> None:
    found = measured(bundle, tmp_path)
    x, _ = data(tmp_path, COUNT)
    recording = TorchSimulator(NETWORK).run(x)
    counts, first = recording.spike_counts(), recording.first_spike_times()
    for layer in found.layers:
        n, t = counts[layer.layer], first[layer.layer]
        assert layer.firing_rate == pytest.approx(n.mean() / NETWORK.steps)
        assert layer.silent == pytest.approx((n == 0).mean())
        assert layer.never == pytest.approx((n == 0).all(axis=0).mean())
        assert layer.saturated == pytest.approx((n == NETWORK.steps).mean())
        assert layer.first_spike == pytest.approx(t[t > 0].mean())
        assert sum(layer.first_spikes) == pytest.approx(1 - layer.silent)
    whole = measure_activity(NETWORK, recording, x)
    assert found.activity.acs == pytest.approx(whole.acs)
    assert found.activity.spikes == pytest.approx(whole.spikes)
    assert found.activity.samples == COUNT
    assert found.activity.energy.high_nanojoule == pytest.approx(whole.energy.high_nanojoule)


def test_errors_against_the_ann_are_those_of_output_fit(tmp_path: Path, bundle: Bundle) -> None:
    found = measured(bundle, tmp_path)
    x, _ = data(tmp_path, COUNT)
    counts = TorchSimulator(NETWORK).run(x).spike_counts()
    activations = TorchANN(bundle.ann()).run_with_activations(x)[1]
    for layer in found.layers:
        node = NETWORK.population(layer.layer)
        output = node.v_threshold * counts[layer.layer] / NETWORK.steps
        fit = OutputFit()
        fit.add(activations[layer.layer].numpy(), output)
        assert layer.r_squared == pytest.approx(fit.r_squared)
        difference = output - activations[layer.layer].numpy()
        assert layer.mean_error == pytest.approx(difference.mean(), abs=1e-6)
        assert layer.rms_error == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-5)
        known = {(round(float(a), 5)) for a in activations[layer.layer].numpy().ravel()}
        assert {round(a, 5) for a, _ in layer.points} <= known


def test_an_integer_network_is_compared_by_the_amplitude_that_fits(tmp_path: Path) -> None:
    """A multiple of each channel's activations is met exactly, whatever the unit of the lattice."""
    from icsnn_deploy.report.page.layer_measures import LayerSums

    network = on_lattice(NETWORK)
    node = network.nodes_of(IF)[0]
    sums = LayerSums(network, node)
    counts = np.random.default_rng(0).integers(0, network.steps, (4, *network.shape(node.name)))
    scale = np.arange(1, counts.shape[1] + 1).reshape(1, -1, *(1,) * (counts.ndim - 2))
    sums.add(counts, np.zeros_like(counts))
    sums.compare(scale * counts / network.steps, counts)
    assert sums.measures().r_squared == pytest.approx(1)
    assert sums.measures().amplitude == "fitted"


def test_accuracy_confusion_and_early_exit_are_those_of_the_logits(
    tmp_path: Path, bundle: Bundle
) -> None:
    found = measured(bundle, tmp_path)
    x, y = data(tmp_path, COUNT)
    simulator = TorchSimulator(NETWORK)
    logits = simulator.classify(x)
    assert found.evaluation.top1 == pytest.approx(np.mean(top1(logits) == y))
    matrix = np.array(found.confusion)
    assert matrix.sum() == COUNT
    assert all(
        matrix[a, b] == np.sum((y == a) & (top1(logits) == b)) for a in range(3) for b in range(3)
    )
    for point in found.exits:
        early = run_until_sure(simulator, x, point.confidence)
        assert point.mean_steps == pytest.approx(early.mean_steps)
        assert point.right == np.sum(top1(early.logits) == y)
    assert len(found.exits) == len(CONFIDENCES)


def test_examples_are_right_and_wrong_samples_of_each_class(tmp_path: Path, bundle: Bundle) -> None:
    found = measured(bundle, tmp_path)
    x, y = data(tmp_path, COUNT)
    logits = TorchSimulator(NETWORK).classify(x)
    for example in found.examples:
        assert (example.label, example.found) == (y[example.sample], top1(logits)[example.sample])
        assert np.array_equal(example.values, x[example.sample])
    kinds = {(e.label, e.label == e.found) for e in found.examples}
    assert kinds == {(int(a), bool(a == b)) for a, b in zip(y, top1(logits), strict=True)}


def of_neuron(values: Array, sample: int, neuron: tuple[int, ...]) -> Array:
    """[T, B, *shape] -> [T]."""
    return np.array([step[sample][neuron] for step in values])


def test_rasters_and_traces_are_those_of_the_recording(tmp_path: Path, bundle: Bundle) -> None:
    found = measured(bundle, tmp_path)
    x, _ = data(tmp_path, COUNT)
    names = frozenset(layer.layer for layer in found.layers)
    recording = TorchSimulator(NETWORK).run(x, Record(potentials=names))
    assert found.rasters
    for raster in found.rasters:
        for layer, neuron, times in raster.rows:
            spikes = of_neuron(recording.spikes[layer], raster.sample, neuron)
            assert times == tuple(np.flatnonzero(spikes) + 1)
    for trace in found.traces:
        u = of_neuron(recording.potentials[trace.layer], trace.sample, trace.neuron)
        assert trace.u["torch"] == tuple(map(float, u))


class Wrong:
    """The reference, but for one spike of one sample."""

    name = "wrong"
    gives_logits_t = True
    cuts_batches = False

    def __init__(self) -> None:
        self.inner = ReferenceSimulator(NETWORK)

    def run(self, inputs: Any, record: Record = Record()) -> Recording:
        found = self.inner.run(inputs, record)
        if record.spikes:
            layer = next(iter(found.spikes))
            found.spikes[layer][2, 1].flat[0] ^= 1
        return found


class Broken(Wrong):
    """Fails at every run."""

    name = "broken"

    def run(self, inputs: Any, record: Record = Record()) -> Recording:
        raise SimulationError("it broke\nat length")


def opened(kinds: Mapping[str, type]) -> Callable[[Bundle, str], object]:
    def open_it(bundle: Bundle, spec: str) -> object:
        if spec not in kinds:
            raise BackendUnavailableError("not here; run: pip install it")
        return kinds[spec]()

    return open_it


def test_a_backend_that_fails_hides_no_other(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"torch": Wrong, "onnxruntime": Broken}
    monkeypatch.setattr(parity_measures, "open_backend", opened(kinds))
    found = measured(bundle, tmp_path, backends=("torch", "onnxruntime", "nir")).parity
    assert [c.backend for c in found.comparisons] == ["torch"]
    assert found.failed == {
        "onnxruntime": "it broke | at length",
        "nir": "not here; run: pip install it",
    }
    assert found.verdict == "fail"
    trace = found.divergences["torch"]
    assert (trace.sample, trace.step) == (1, 3)
    assert set(trace.u) == {"reference", "wrong"}
    assert len(trace.u["reference"]) == NETWORK.steps


def test_nothing_is_compared_where_no_sample_is_asked_for(tmp_path: Path, bundle: Bundle) -> None:
    assert measured(bundle, tmp_path, parity_samples=0).parity.verdict == "not run"


def test_a_network_that_is_no_classifier_is_measured_as_well(tmp_path: Path) -> None:
    network = two_headed_network()
    found_bundle = build(tmp_path / "heads", network)
    x = np.array(found_bundle.samples())
    found = measure(found_bundle, held(x), None, ReportOptions(targets=("loihi2",)))
    assert found.confusion == ()
    assert found.exits == ()
    assert list(found.evaluation.outputs) != []
    assert found.rasters


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DataError, match="batch_size"):
        ReportOptions(batch_size=0)


def test_of_many_classes_those_that_come_first_have_examples() -> None:
    chooser = ExampleChooser(classes=2, first=1)
    for number, (label, found) in enumerate([(900, 900), (900, 900), (7, 8), (500, 500), (7, 7)]):
        chooser.add(number, label, found, lambda n=number, a=label, b=found: example(n, a, b))  # type: ignore[misc]
    assert [each.sample for each in chooser.examples()] == [0, 2, 4]


def example(number: int, label: int, found: int) -> Example:
    return Example(sample=number, values=np.zeros(1), label=label, found=found, ann=None)
