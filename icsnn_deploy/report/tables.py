"""Conversion, parity, graph, certificate and bundle as tables and lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.frontend.approximate.loss import approximation_losses
from icsnn_deploy.conversion.frontend.max_pool_cost import losses, max_pool_costs
from icsnn_deploy.conversion.report import CandidateResult, ConversionReport, MaxPoolCost
from icsnn_deploy.data import Normalization
from icsnn_deploy.graph.arrangement import (
    input_parts,
    is_plain,
    output_parts,
    output_tasks,
)
from icsnn_deploy.graph.certificate import Certificate
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.inputs import part_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Part, Population
from icsnn_deploy.parity.report import ParityReport
from icsnn_deploy.report.figures import same_class_cells, same_class_columns
from icsnn_deploy.report.outputs import divergence_name
from icsnn_deploy.report.plain import plain_table

if TYPE_CHECKING:
    from icsnn_deploy.backends.torch.kernels import LayerKernel


def candidates_table(report: ConversionReport) -> Table:
    """One row per method that was tried; the chosen one is bold."""
    table = plain_table(
        f"{report.recipe}, T = {report.time_steps}, judged on "
        f"{report.held_out_samples} held-out samples"
    )
    table.add_column("method")
    shares = report.chosen.agreement is not None
    if shares:
        table.add_column("agrees with ANN", justify="right")
    tasks = [score.task for score in report.chosen.outputs.values()]
    table.add_column(divergence_name(tasks), justify="right")
    table.add_column("more than chosen", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right")
    for result in report.candidates:
        style = "bold" if result == report.chosen else None
        table.add_row(
            result.method,
            *([f"{result.agreement:.1%}"] if shares else []),
            f"{result.divergence:.4f}",
            _gap(result, report.chosen),
            f"{result.seconds:.1f}",
            style=style,
        )
    return table


def _gap(result: CandidateResult, chosen: CandidateResult) -> str:
    """How much worse a candidate is than the chosen one, and the standard error of that."""
    if result.gap_error is None:
        return ""
    return f"{result.criterion - chosen.criterion:.4f} ± {result.gap_error:.4f}"


def parity_table(report: ParityReport, what: str = "parity") -> Table:
    """One row per backend."""
    images = max((comparison.images for comparison in report.comparisons), default=0)
    missing = f"; did not run: {', '.join(report.errors)}" if report.errors else ""
    table = plain_table(f"{what} with the reference on {images} images: {report.verdict}{missing}")
    for column in ("backend", "verdict"):
        table.add_column(column, no_wrap=True)
    for column in ("spikes", "differ", "margin", "logits", *same_class_columns(report.comparisons)):
        table.add_column(column, justify="right", no_wrap=True)
    for c in report.comparisons:
        worst = "" if c.worst_relative_margin is None else f"{c.worst_relative_margin:.1e}"
        table.add_row(
            c.backend,
            c.verdict,
            f"{c.spikes_compared:,}",
            f"{c.spike_mismatches:,}",
            worst,
            f"{c.max_abs_logit_difference:.1e}",
            *same_class_cells(c, digits=1),
            style="green" if c.verdict == "pass" else "red",
        )
    return table


def graph_table(graph: Graph) -> Table:
    """One row per node."""
    table = plain_table("network" if graph.time_steps else "ANN")
    for column in ("node", "kind", "from"):
        table.add_column(column)
    hard = bool(hard_resets(graph))
    for column in ("shape", "parameters", "v_threshold", "v_init", *(["v_reset"] if hard else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for node in graph.nodes:
        arrays = node.parameters()
        count = sum(value.size for value in arrays.values())
        v_threshold, v_init, v_reset = (
            _span(arrays[field]) if field in arrays else ""
            for field in ("v_threshold", "v_init", "v_reset")
        )
        table.add_row(
            node.name,
            node.kind,
            ", ".join(node.inputs),
            "x".join(map(str, graph.shape(node.name))),
            f"{count:,}" if count else "",
            v_threshold,
            v_init,
            *([v_reset] if hard else []),
        )
    return table


def certificate_table(certificate: Certificate) -> Table:
    """One row per population: the values it reaches, and the headroom."""
    table = plain_table(
        f"certificate: {'exact' if certificate.float32 else 'NOT exact'} in float32"
        f"{', TF32' if certificate.tf32 else ''}{', bfloat16' if certificate.bfloat16 else ''}"
        f"{', int32' if certificate.int32 else ''}"
    )
    table.add_column("layer")
    for column in ("current", "partial sum", "potential", "bits", "headroom"):
        table.add_column(column, justify="right", no_wrap=True)
    for bound in certificate.bounds:
        table.add_row(
            bound.layer,
            f"{bound.current[0]:,} .. {bound.current[1]:,}",
            f"{bound.partial_sum:,}",
            f"{bound.potential:,}{' (drifts)' if bound.steady else ''}",
            str(bound.bits),
            f"{bound.headroom_bits:.1f} bits",
            style="bold" if bound == certificate.tightest else None,
        )
    return table


def kernels_table(kernels: Mapping[str, LayerKernel]) -> Table:
    """One row a convolution of an integer network: what runs it on this machine, and why."""
    title = "kernels on this machine" if kernels else "kernels: a float network, nothing is proven"
    table = plain_table(title)
    for column in ("convolution", "kernel", "why"):
        table.add_column(column)
    for name, layer in kernels.items():
        table.add_row(name, layer.kernel, layer.reason)
    return table


def accuracy_table(ann_accuracy: float, over_time: Mapping[str, Mapping[int, float]]) -> Table:
    """SNN accuracy of each recipe at each number of time steps."""
    steps = sorted({t for accuracies in over_time.values() for t in accuracies})
    table = plain_table(f"accuracy on held-out digits; the ANN: {ann_accuracy:.1%}")
    table.add_column("recipe")
    for t in steps:
        table.add_column(f"T={t}", justify="right")
    for recipe, accuracies in over_time.items():
        table.add_row(recipe, *(f"{accuracies[t]:.1%}" for t in steps))
    return table


def _span(values: Array) -> str:
    least, largest = float(values.min()), float(values.max())
    if math.isclose(least, largest):
        return f"{least:.4g}"
    return f"{least:.4g} .. {largest:.4g}"


def bundle_lines(bundle: Bundle, graph: Graph) -> list[str]:
    """The content of a bundle, as lines of text."""
    neurons = sum(math.prod(graph.shape(node.name)) for node in graph.nodes_of(Population))
    exports = ", ".join(f"{f} ({name})" for f, name in bundle.exports.items()) or "none yet"
    return [
        f"bundle    {bundle.path}",
        f"hash      {bundle.graph_hash}",
        f"input     {' x '.join(map(str, graph.input.shape))} {graph.input.dtype}, "
        f"{graph.input.encoding}",
        *part_lines(graph),
        *unit_lines(graph, bundle.normalization),
        f"steps     T = {graph.time_steps}, readout after {graph.readout_start}",
        f"neurons   {neurons:,} in {len(graph.nodes_of(Population))} populations",
        f"exports   {exports}",
        *max_pool_lines(max_pool_costs(graph), (*losses(graph), *approximation_losses(graph))),
    ]


def part_lines(graph: Graph) -> list[str]:
    """The model's inputs, where they are not the network's own, and its outputs, line by line."""
    node, tasks = graph.input, output_tasks(graph)
    plain = is_plain(node.parts, node.index, node.shape)
    taken = () if plain and not node.parts else input_parts(graph)
    return [
        *(f"input     {part.name} {list(part.shape)}" for part in taken),
        *(
            f"output    {part.name} {list(part.shape)}: {tasks[part.name]}{_host(part)}"
            for part in output_parts(graph)
        ),
    ]


def unit_lines(graph: Graph, normalization: Normalization | None) -> list[str]:
    """What the integers of inputs and outputs stand for; none for a float network without pixels.

    Args:
        graph: the network.
        normalization: of the pixels that it takes.
    """
    lines, unit = [], graph.input.unit
    if normalization is not None:
        lines.append("unit      of the input: pixels 0 to 255 as they are; the network normalizes")
    elif graph.input.dtype != "float32" and not graph.input.is_timed:
        lines.append(
            f"unit      of the input: {unit:.6g}; the integer is round(sample / {unit:.6g}), "
            "samples as the ANN takes them"
        )
    if graph.is_integer and graph.output_unit is not None:
        units = part_units(graph) or ()
        for part, one in zip(output_parts(graph), units, strict=False):
            lines.append(
                f"unit      of {part.name}: {one:.6g}; the ANN's logit is {one:.6g} x the mean of "
                f"the steps"
            )
    return lines


def _host(part: Part) -> str:
    return f", {part.host_op} left to the host" if part.host_op else ""


def max_pool_lines(costs: Sequence[MaxPoolCost], lost: Sequence[str]) -> list[str]:
    """How max pooling was converted, as lines of text."""
    populations, neurons = sum(c.populations for c in costs), sum(c.neurons for c in costs)
    exact = f"max pool  {len(costs)} exact: {neurons:,} neurons in {populations} populations"
    return [*([exact] if costs else []), *(f"LOSS      {text}" for text in lost)]
