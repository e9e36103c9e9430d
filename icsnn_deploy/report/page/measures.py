"""What a report shows of one bundle: numbers, texts and a few samples, as JSON values.

Arrays of samples stay arrays, and are left out of the JSON values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from icsnn_deploy.evaluation.activity import Activity
from icsnn_deploy.evaluation.cost_record import ChipCost
from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.graph.certificate import Certificate
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.parity.judge import Comparison
from icsnn_deploy.targets.check import CheckResult


@dataclass(frozen=True, kw_only=True)
class ExitPoint:
    """Early exit at one confidence: the mean number of steps, and what it costs.

    Args:
        confidence: at which a sample stops.
        mean_steps: over the samples.
        right: samples whose class is the label's; None without labels.
        agreeing: samples with the ANN's class; None without an ANN.
    """

    confidence: float
    mean_steps: float
    right: int | None
    agreeing: int | None


@dataclass(frozen=True, kw_only=True)
class LayerMeasures:
    """What one population did; shares are 0 to 1.

    Args:
        layer: its name.
        neurons: how many it has.
        firing_rate: spikes per neuron and step.
        silent: share of neurons without a spike in a sample, mean over the samples.
        never: share of neurons without a spike in any sample.
        saturated: share of neurons with a spike at every step of a sample, mean over the samples.
        first_spike: mean first-spike step, 1 to T, of the neurons that fire; None where none does.
        first_spikes: share of neurons whose first spike of a sample is at step 1, 2, ... T.
        r_squared: how well the output matches the ANN's activations; None if not measured.
        mean_error: mean of output - activation, in activation units; None if not measured.
        rms_error: root mean square of that difference.
        amplitude: "v_threshold", or "fitted" where activation units are not known.
        points: some (activation, output).
    """

    layer: str
    neurons: int
    firing_rate: float
    silent: float
    never: float
    saturated: float
    first_spike: float | None
    first_spikes: tuple[float, ...]
    r_squared: float | None = None
    mean_error: float | None = None
    rms_error: float | None = None
    amplitude: str = ""
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Raster:
    """Spikes of chosen neurons for one sample.

    Args:
        sample: its number.
        title: what the sample is.
        rows: layer, neuron and the steps of its spikes.
    """

    sample: int
    title: str
    rows: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The potential u[t] of one neuron, before the reset, by backend.

    Args:
        sample: its number.
        layer: the population.
        neuron: its index.
        v_threshold: of the neuron.
        u: potential at step 1, 2, ... T, by the name of the backend.
        step: where the backends first differ; None where they do not, or there is one.
    """

    sample: int
    layer: str
    neuron: tuple[int, ...]
    v_threshold: float
    u: Mapping[str, tuple[float, ...]]
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """One sample, with what it should be and what it is found to be.

    Args:
        sample: its number.
        values: the sample without a time axis, [*shape].
        label: its class; None without labels.
        found: the network's class.
        ann: the ANN's class; None without an ANN.
        logits: of the network, in units of the ANN where these are known.
        ann_logits: of the ANN.
    """

    sample: int
    values: Array = field(repr=False)
    label: int | None
    found: int
    ann: int | None
    logits: tuple[float, ...] = ()
    ann_logits: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ParityMeasures:
    """Comparisons with the reference.

    Args:
        samples: how many were compared.
        comparisons: of the backends that ran.
        failed: why each other backend did not run, by its name.
        divergences: potentials where a backend first differs, by its name.
    """

    samples: int
    comparisons: tuple[Comparison, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    divergences: Mapping[str, Trace] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The word pass or fail; "not run" where nothing was compared."""
        if any(comparison.verdict != "pass" for comparison in self.comparisons):
            return "fail"
        return "pass" if self.comparisons else "not run"


@dataclass(frozen=True, kw_only=True, eq=False)
class BundleMeasures:
    """Everything that a report shows of one bundle; None or empty where it was not measured.

    Args:
        name: of the bundle.
        evaluation: figures over the samples.
        exits: early exit at several confidences.
        confusion: samples by label and by class found, of a classifier with labels.
        layers: of each population, in order.
        activity: spikes, operations and energy.
        rasters: spikes of chosen neurons.
        traces: potentials of chosen neurons.
        examples: samples, among them some of each class.
        parity: comparison with the reference.
        certificate: of an integer network.
        targets: the check against each hardware target.
        weight_bits: least and largest width of the weights; None of a float network.
        record: how it was converted, from its report.json, which is not checked.
        producer: what wrote the bundle.
        versions: of this package and of what it ran on.
        samples_from: what the samples were read from.
        chip_cost: latency and energy as a tool models them, where they were given.
    """

    name: str
    evaluation: Evaluation
    exits: tuple[ExitPoint, ...]
    confusion: tuple[tuple[int, ...], ...]
    layers: tuple[LayerMeasures, ...]
    activity: Activity
    rasters: tuple[Raster, ...]
    traces: tuple[Trace, ...]
    examples: tuple[Example, ...]
    parity: ParityMeasures
    certificate: Certificate | None
    targets: tuple[CheckResult, ...]
    weight_bits: tuple[int, int] | None
    record: Mapping[str, Any]
    producer: str
    versions: Mapping[str, str]
    samples_from: str
    chip_cost: ChipCost | None = None

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON values, without samples, rasters and traces."""
        return {
            "name": self.name,
            "evaluation": self.evaluation.to_json(),
            "early_exit": [asdict(point) for point in self.exits],
            "confusion": [list(row) for row in self.confusion],
            "layers": [
                {k: v for k, v in asdict(layer).items() if k != "points"} for layer in self.layers
            ],
            "activity": self.activity.to_json(),
            "parity": {
                "verdict": self.parity.verdict,
                "samples": self.parity.samples,
                "comparisons": [each.to_json() for each in self.parity.comparisons],
                "failed": dict(self.parity.failed),
            },
            "certificate": self.certificate.to_json() if self.certificate else None,
            "targets": [target.to_json() for target in self.targets],
            "weight_bits": self.weight_bits,
            "producer": self.producer,
            "versions": dict(self.versions),
            "samples": self.samples_from,
            "chip_cost": self.chip_cost.to_json() if self.chip_cost else None,
        }
