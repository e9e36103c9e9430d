"""Train an integer network towards the ANN's outputs, on its own lattice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.distill import DistillOptions, distill
from icsnn_deploy.conversion.calibration.objective import Objective
from icsnn_deploy.conversion.calibration.training_cost import (
    TrainingBudget,
    TrainingPlan,
    plan_training,
)
from icsnn_deploy.conversion.calibration.training_source import HeldSamples
from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.options import LatticeEffort
from icsnn_deploy.lattice.trainable import TrainableLattice

BUDGETS: dict[LatticeEffort, TrainingBudget | None] = {
    "quick": None,
    "standard": TrainingBudget(operations=2.7e13, iterations=2_000),
    "best": TrainingBudget(operations=7e13, iterations=4_000),
}
"""What the training of each effort may cost; quick trains nothing."""

_TEMPERATURE = 4.0  # as in the recipe auto
_NORMALIZED_SHARE = 0.7


def check_trainable(network: Graph, ann: Graph | None, effort: LatticeEffort) -> None:
    """Raise LatticeError where an effort includes training and the network cannot be trained."""
    if effort == "quick":
        return
    reason = None
    if ann is None:
        reason = "it is trained towards the outputs of its ANN, and has none"
    elif hard_resets(network):
        reason = "only networks with soft reset are trained"
    if reason is not None:
        raise LatticeError(f"effort {effort!r}: {reason}; choose quick")


def train_on_lattice(
    network: Graph,
    prepared: Graph,
    bits: Mapping[str, int],
    logit_unit: float | Array,
    ann: Graph,
    fit: CalibrationContext,
    plan: TrainingPlan,
    *,
    objective: Objective,
    readout_steps: Sequence[int],
    one_threshold: bool,
    seed: int,
) -> Graph:
    """The integer network after training.

    Args:
        network: the integer network that training starts from.
        prepared: the network that was rounded to it (lattice.prepare).
        bits: signed width of the weights of each connection, by name.
        logit_unit: what 1 at the output stands for, in units of the ANN's logits.
        ann: the ANN that the network comes from.
        fit: samples that are learned from, as the float network takes them.
        plan: number of steps, and of samples in each.
        objective: the divergence, by the task of each output.
        readout_steps: the T after which the network is read.
        one_threshold: every population keeps one threshold.
        seed: of the order of samples and of their variations.
    """
    trainable = TrainableLattice(
        network,
        prepared,
        bits,
        logit_unit,
        fit.device,
        one_threshold=one_threshold,
    )
    samples = HeldSamples(fit, fit.image_shape(network))
    found = distill(
        trainable,
        ann,
        fit,
        samples.batches(plan.batch_size, None, seed),
        readout_steps,
        options_for(plan),
        objective=objective,
        stage="integer training",
    )
    return found.network


def options_for(plan: TrainingPlan) -> DistillOptions:
    """Options of the training of an integer network."""
    return DistillOptions(
        iterations=plan.iterations, temperature=_TEMPERATURE, normalized_share=_NORMALIZED_SHARE
    )


def training_plan(ann: Graph, time_steps: int, effort: LatticeEffort) -> TrainingPlan | None:
    """The training of an effort; None for none."""
    budget = BUDGETS[effort]
    return None if budget is None else plan_training(ann, time_steps, budget)
