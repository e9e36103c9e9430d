"""What a conversion starts from: the traced ANN, and the calibration data as it takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.conversion.ann_graph import several_inputs, to_ann_graph
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.label_objective import require_labels
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.samples import CalibrationSet, CalibrationSource
from icsnn_deploy.conversion.calibration.tasks import SAMPLES_COMPARED, find_tasks, recorded_tasks
from icsnn_deploy.conversion.calibration.training_source import (
    FreshSamples,
    HeldSamples,
    TrainingSource,
)
from icsnn_deploy.conversion.frontend.approximate.judged import without_agreement
from icsnn_deploy.conversion.frontend.approximate.loss import APPROXIMATED
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.replace_max_pool import Replacement
from icsnn_deploy.conversion.frontend.trace import DeclaredActivation
from icsnn_deploy.conversion.report import OutputTask
from icsnn_deploy.conversion.signed_paths import certifiable
from icsnn_deploy.data import Normalization
from icsnn_deploy.distributed import Ranks
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import output_tasks
from icsnn_deploy.graph.encoder import InputEncoder, placed
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.pixels import as_network_samples, channels_first, is_channels_last
from icsnn_deploy.progress import Progress
from icsnn_deploy.sources.batches import as_array
from icsnn_deploy.sources.fresh_batches import FreshBatches

SAMPLES_USED = 4_096
"""Samples that thresholds are chosen on and candidates compared on, at most; training uses all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """The arguments of `convert` that say what is converted and how it runs; see there."""

    model: nn.Module | ExportedProgram
    calibration_data: CalibrationSource | Mapping[str, Array]
    recipe: Recipe
    normalization: Normalization | None
    activations: Sequence[DeclaredActivation]
    replace_max_pool: Replacement | None
    approximate: Approximation | None
    task: Task | Mapping[str, Task] | None
    input_key: str | None
    label_key: str | None
    samples: int | None
    channels_last: bool | None
    encoder: InputEncoder
    device: str
    progress: Progress
    ranks: Ranks


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """What calibration works on.

    Args:
        ann: the traced ANN.
        outputs: what its outputs are.
        samples: the calibration samples that are held in memory.
        fit: those of them that are not held out.
        held_out: those that candidates are compared on.
        training: gives the batches of training.
    """

    ann: Graph
    outputs: tuple[OutputTask, ...]
    samples: CalibrationContext
    fit: CalibrationContext
    held_out: CalibrationContext
    training: TrainingSource

    @property
    def used(self) -> CalibrationContext:
        """The samples that thresholds are chosen on."""
        return self.fit.part(0, SAMPLES_USED)


def prepare(given: Given) -> Prepared:
    """Trace the model, and read the calibration data as the traced network takes them.

    Raises:
        UnsupportedOperatorError, ConversionError, DataError, RankError: see convert.
    """
    ann = None
    if isinstance(given.calibration_data, Mapping):
        ann, packed = _several_inputs(given, given.calibration_data)
        given = replace(given, calibration_data=packed, channels_last=None)
    fresh = _fresh_batches(given)
    numbers = [] if fresh is None else fresh.sample(SAMPLES_USED)
    context = _context(given, fresh, numbers)
    if ann is None:
        ann = to_ann_graph(
            given.model,
            context.samples.samples,
            given.normalization,
            given.activations,
            replace_max_pool=given.replace_max_pool,
            approximate=given.approximate,
            encoder=given.encoder,
        )
        context = context.arranged_for(ann)
    ann = certifiable(ann, given.recipe.steps, context)
    given.ranks.require_equal("the traced ANN", ann.hash)
    ann, outputs = _with_tasks(ann, context, given.task)
    if given.recipe.strategy.uses_labels:
        labels = require_labels(given.recipe.name, ann, context.samples.labels, len(context))
        context = replace(context, samples=replace(context.samples, labels=labels))
    fit, held_out = context.split(given.recipe.held_out)
    training: TrainingSource = HeldSamples(fit, fit.image_shape(ann))
    if fresh is not None:
        kept = set(range(len(fresh))) - set(numbers[len(numbers) - len(held_out) :])
        taken = partial(_taken, ann, given.normalization, given.channels_last)
        training = FreshSamples(fresh, sorted(kept), taken)
    return Prepared(
        ann=ann, outputs=outputs, samples=context, fit=fit, held_out=held_out, training=training
    )


def _several_inputs(given: Given, data: Mapping[str, Array]) -> tuple[Graph, Array]:
    """The ANN of a model of several inputs, and their samples as one."""
    if given.encoder.encoding == "events":
        raise DataError(
            f"events for the inputs {', '.join(data)}: a model of one input is "
            "needed; give several inputs with direct or rate encoding"
        )
    if given.recipe.strategy.uses_labels:
        raise DataError(
            f"recipe {given.recipe.name} for the inputs {', '.join(data)}: labels go "
            "with a model of one input; choose the recipe auto"
        )
    named = {}
    for name, values in data.items():
        array = as_array(values, f"calibration data: {name}")[: given.samples]
        named[name] = channels_first(array) if given.channels_last else array
    return several_inputs(
        given.model,
        named,
        given.normalization,
        given.activations,
        given.replace_max_pool,
        given.approximate,
    )


def _fresh_batches(given: Given) -> FreshBatches | None:
    """A data set that is read again and again; None for data that are held in memory."""
    if given.encoder.encoding == "events":
        return None
    fresh = FreshBatches.of(given.calibration_data, given.input_key, given.label_key)
    if fresh is None or given.samples is None:
        return fresh
    return fresh.limited(given.samples)


def _context(
    given: Given, fresh: FreshBatches | None, numbers: Sequence[int]
) -> CalibrationContext:
    """All samples, or of a data set those with these numbers, channels first."""
    context = CalibrationContext.of(
        given.calibration_data if fresh is None else fresh.chosen(numbers),
        batch_size=given.recipe.batch_size,
        limit=given.samples,
        input_key=given.input_key if fresh is None else None,
        label_key=given.label_key if fresh is None else None,
        keep_labels=given.recipe.strategy.uses_labels,
        device=given.device,
        progress=given.progress,
        ranks=given.ranks,
        encoder=given.encoder,
    )
    context = context.with_channels_first(given.normalization, given.channels_last)
    return context.for_normalization(given.normalization)


def _with_tasks(
    ann: Graph, context: CalibrationContext, declared: Task | Mapping[str, Task] | None
) -> tuple[Graph, tuple[OutputTask, ...]]:
    """The ANN with what its outputs are, and the same for the report."""
    few = CalibrationSet(context.frames(slice(SAMPLES_COMPARED)))
    outputs = find_tasks(ann, few, declared)
    ann = replace(ann, tasks=recorded_tasks(ann, outputs))
    if APPROXIMATED in ann.provenance:
        record = without_agreement(ann.provenance[APPROXIMATED], output_tasks(ann))
        ann = replace(ann, provenance={**ann.provenance, APPROXIMATED: record})
    return ann, outputs


def _taken(
    ann: Graph, normalization: Normalization | None, channels_last: bool | None, batch: Array
) -> Array:
    """A batch of a data set as the ANN takes it."""
    what = "a calibration batch"
    if is_channels_last(what, batch.shape, normalization, channels_last):
        batch = channels_first(batch)
    return placed(ann, as_network_samples(what, batch, normalization))
