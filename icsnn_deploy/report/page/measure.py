"""Run a bundle's network and its ANN once over the samples, and measure what a report shows."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.manifest import MANIFEST, read_json
from icsnn_deploy.errors import DataError, LatticeError
from icsnn_deploy.evaluation.cost_record import ChipCost
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.graph.certificate import Certificate, certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.judging.labels import check_output_labels
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.parity_measures import default_backends, measure_parity
from icsnn_deploy.report.page.sample_measures import rasters
from icsnn_deploy.report.page.samples_run import SamplesRun, title_of
from icsnn_deploy.sources.selection import check_limit
from icsnn_deploy.targets import TARGETS, find_target
from icsnn_deploy.targets.check import CheckResult, check
from icsnn_deploy.version import __version__


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report measures.

    Args:
        backends: that are compared with the reference; None: torch, and that of each export.
        parity_samples: samples that are compared, the first ones; 0 compares none.
        targets: names of hardware targets; None: all that have limits.
        host_first_layer: the host runs the analog first layer, where a target takes spikes only.
        batch_size: samples that are run at once.
        margin: allowed at the first divergence of a float network (Tolerance).
        device: torch device of network and ANN.
    """

    backends: tuple[str, ...] | None = None
    parity_samples: int = 8
    targets: tuple[str, ...] | None = None
    host_first_layer: bool = True
    batch_size: int = 64
    margin: float = 1e-4
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.parity_samples < 0 or self.batch_size < 1:
            raise DataError(
                f"parity_samples {self.parity_samples}, batch_size {self.batch_size}: at least 0 "
                "and at least 1 are needed"
            )
        for name in self.targets or ():
            find_target(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldSamples:
    """Samples in memory as a data set, [N, *shape] or [T, N, *shape]."""

    samples: Array
    axis: int
    name: str

    def __len__(self) -> int:
        return int(self.samples.shape[self.axis])

    def blank(self) -> Array:
        """One sample."""
        return self.read(0, 1)

    def read(self, start: int, stop: int) -> Array:
        """Samples `start` to `stop`."""
        return self.samples[(slice(None),) * self.axis + (slice(start, stop),)]

    def digest(self) -> str:
        """Empty: always in the same order."""
        return ""


def own_samples(bundle: Bundle) -> HeldSamples:
    """The samples that came with a bundle; raises BundleError if there are none."""
    axis = bundle.network().input.batch_axis
    return HeldSamples(samples=bundle.samples(), axis=axis, name="the bundle's own samples")


def measure(
    bundle: Bundle,
    samples: DataSet,
    labels: Array | Mapping[str, Array] | None = None,
    options: ReportOptions = ReportOptions(),
    *,
    task: Task | Mapping[str, Task] | None = None,
    limit: int | None = None,
    chip_cost: ChipCost | None = None,
    progress: Progress = silent,
) -> BundleMeasures:
    """Measure what a report shows of a bundle.

    Args:
        bundle: the network, its ANN and its exports.
        samples: the data set.
        labels: of the only output, or by the name of the output (judging.labels).
        options: what to measure.
        task: what the output is, where the bundle's task is wrong; of several outputs, by name.
        limit: use only the first samples.
        chip_cost: of this network, to be shown beside the estimate.
        progress: called as each stage advances.

    Raises:
        DataError: samples, labels or task do not fit the network, or a limit below 1.
        BundleError: a file of the bundle is missing or damaged.
    """
    check_limit(limit)
    network = judged_as(bundle.network(), task)
    count = min(len(samples), limit or len(samples))
    if count < 1:
        raise DataError(f"{samples.name}: no samples")
    given = None
    if labels is not None:
        given = check_output_labels(network, labels, count, samples=len(samples))
    run = SamplesRun(bundle, network, given, batch_size=options.batch_size, device=options.device)
    for start in range(0, count, run.batch_size):
        progress("running the samples", start, count)
        stop = min(start + run.batch_size, count)
        run.add(samples.read(start, stop), start)
    progress("running the samples", count, count)
    shown = [(number, title_of(each)) for number, each in run.shown().items()]
    numbers = {n: (run.inputs(samples.read(n, n + 1)), title) for n, title in shown}
    spikes, traces = rasters(run.simulator, numbers)
    compared = min(options.parity_samples, count)
    parity = measure_parity(
        bundle,
        network,
        (options.backends or default_backends(bundle)) if compared else (),
        run.inputs(samples.read(0, max(compared, 1))),
        margin=options.margin,
        progress=progress,
    )
    certificate = _certificate(network)
    widths = _widths(network, certificate)
    return BundleMeasures(
        name=bundle.path.name or str(bundle.path),
        evaluation=run.evaluation(),
        exits=run.exits(),
        confusion=run.confusion_rows(),
        layers=tuple(sums.measures() for sums in run.layers.values()),
        activity=run.activity(),
        rasters=spikes,
        traces=traces,
        examples=run.chooser.examples(),
        parity=parity,
        certificate=certificate,
        targets=_targets(network, options),
        weight_bits=(min(widths), max(widths)) if widths else None,
        record=bundle.report(),
        producer=str(read_json(bundle.path / MANIFEST).get("producer", "unknown")),
        versions=versions(),
        samples_from=f"{count:,} samples of {samples.name}",
        chip_cost=chip_cost,
    )


def _certificate(network: Graph) -> Certificate | None:
    try:
        return certify(network) if network.is_integer else None
    except LatticeError:
        return None


def _widths(network: Graph, certificate: Certificate | None) -> tuple[int, ...]:
    """Widths of the weights of convolutions and fully connected layers, as quantization chose."""
    stated = network.provenance.get("weight_bits")
    if isinstance(stated, Mapping) and stated and all(type(b) is int for b in stated.values()):
        return tuple(stated.values())
    return tuple(certificate.weight_bits.values()) if certificate else ()


def _targets(network: Graph, options: ReportOptions) -> tuple[CheckResult, ...]:
    """The check against each target; the host runs the first layer where the chip takes spikes."""
    found = []
    names = options.targets or tuple(name for name in TARGETS if name != "generic")
    constant = network.constant_nodes()
    splittable = any(one.inputs[0] not in constant for one in network.nodes_of(Population))
    for name in names:
        profile = find_target(name)
        on_host = (
            options.host_first_layer
            and splittable
            and not profile.analog_input
            and not network.input.is_timed
        )
        found.append(check(network, profile, host_first_layer=on_host))
    return tuple(found)


def versions() -> dict[str, str]:
    """Versions of this package and of what it runs on."""
    found = {"icsnn-deploy": __version__, "Python": platform.python_version()}
    for name in ("numpy", "torch", "onnx", "onnxruntime", "nir"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
