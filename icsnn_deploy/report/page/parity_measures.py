"""Compare backends with the reference on a few samples, and follow the first difference."""

from __future__ import annotations

from collections.abc import Sequence

from icsnn_deploy.backends import find_backend, open_backend
from icsnn_deploy.backends.recording import Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import IcsnnError, first_line
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.parity.divergence import Divergence
from icsnn_deploy.parity.judge import Comparison, Tolerance
from icsnn_deploy.parity.verify import compare_simulators, probe
from icsnn_deploy.progress import Progress
from icsnn_deploy.report.page.measures import ParityMeasures, Trace

EXPORT_BACKENDS = {
    "onnx": "onnxruntime",
    "onnx-step": "onnxruntime-step",
    "c": "c",
    "nir": "nir",
    "nir-portable": "nir-portable",
    "nir-relay": "nir-relay",
}
"""The backend that runs each export where no backend is named."""


def default_backends(bundle: Bundle) -> tuple[str, ...]:
    """torch, and the backend of each export of the bundle."""
    return ("torch", *(b for name, b in EXPORT_BACKENDS.items() if name in bundle.exports))


def measure_parity(
    bundle: Bundle,
    network: Graph,
    backends: Sequence[str],
    x: Array,
    *,
    margin: float,
    progress: Progress,
) -> ParityMeasures:
    """Compare backends with the reference; one that does not run hides no other.

    Args:
        bundle: the network and its exports.
        network: the bundle's network.
        backends: names, see backends.open_backend.
        x: checked inputs, [N, *shape] or [T, N, *shape].
        margin: that is allowed for a float network (Tolerance).
        progress: called with the number of samples that the reference and each backend have run.
    """
    axis = network.input.batch_axis
    tolerance = Tolerance(margin=margin).on(network)
    simulators: dict[str, Simulator] = {}
    failed: dict[str, str] = {}
    for spec in dict.fromkeys(backends):
        try:
            find_backend(spec)
            simulators[spec] = open_backend(bundle, spec)
        except IcsnnError as error:
            failed[spec] = first_line(error)

    def compared(some: dict[str, Simulator]) -> tuple[Comparison, ...]:
        return compare_simulators(network, some, x, tolerance=tolerance, progress=progress)[0]

    comparisons: list[Comparison] = []
    try:
        comparisons += compared(simulators)
    except IcsnnError:  # one of them: each alone
        for spec, simulator in list(simulators.items()):
            try:
                comparisons += compared({spec: simulator})
            except IcsnnError as error:
                failed[spec] = first_line(error)
    reference = ReferenceSimulator(network)
    divergences = {
        each.backend: _trace(reference, simulators[each.backend], each.first_divergence, x, axis)
        for each in comparisons
        if each.first_divergence is not None
    }
    return ParityMeasures(
        samples=x.shape[axis],
        comparisons=tuple(comparisons),
        failed=failed,
        divergences=divergences,
    )


def _trace(reference: Simulator, other: Simulator, found: Divergence, x: Array, axis: int) -> Trace:
    """The potential of the neuron that first differs, in both backends."""
    u = {}
    for name, simulator in (("reference", reference), (other.name, other)):
        potentials = probe(simulator, x, axis)(found.image, found.layer)
        if potentials is not None:
            u[name] = tuple(float(each[found.neuron]) for each in potentials)
    return Trace(
        sample=found.image,
        layer=found.layer,
        neuron=found.neuron,
        v_threshold=found.v_threshold,
        u=u,
        step=found.step,
    )
