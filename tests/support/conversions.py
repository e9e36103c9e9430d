"""Run by torchrun: convert a small network, and print what came out.

By several recipes; or, with a folder of checkpoints, by one that goes on from them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from icsnn_deploy.conversion.calibration import auto
from icsnn_deploy.conversion.calibration.auto import EffortPlan
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import MaxThreshold
from icsnn_deploy.conversion.calibration.training_cost import TrainingBudget
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.distributed import Ranks, open_ranks
from icsnn_deploy.progress import Progress, silent
from tests.support.traced import small_model

RECIPES = {
    "fast": Recipe(name="fast", time_steps=3, batch_size=4),
    "auto quick": Recipe(name="auto", effort="quick", time_steps=3, batch_size=4),
    "auto standard": Recipe(name="auto", effort="standard", time_steps=(2, 4), batch_size=4),
    "ic-snn": Recipe(name="ic-snn", time_steps=3, batch_size=4),
    "spike-norm": Recipe(name="spike-norm", time_steps=3, batch_size=4),
    "one batch": Recipe(
        name="mine",
        methods=(Method(threshold=MaxThreshold(), v_init=Half(), bias_correction=True),),
        time_steps=3,
    ),
}


# of a few iterations: what is compared is that all processes do the same
_FEW = EffortPlan(samples=16, distillations=(TrainingBudget(operations=1e12, iterations=5),))


def distilled(ranks: Ranks, checkpoints: Path | None, progress: Progress = silent) -> list[object]:
    """The graph's hash and how every candidate did, with a distillation of five iterations."""
    samples = np.random.default_rng(0).normal(size=(34, 3, 6, 6)).astype(np.float32)
    with patch.dict(auto.EFFORT_PLANS, {"standard": _FEW}):
        result = convert(
            small_model(),
            samples,
            RECIPES["auto standard"],
            ranks=ranks,
            checkpoints=checkpoints,
            progress=progress,
        )
    figures = [[c.method, c.agreement, c.divergence] for c in result.report.candidates]
    return [result.network.hash(), *figures]


def results(ranks: Ranks) -> dict[str, object]:
    """Of each recipe, the graph's hash and how every candidate did, to the last bit."""
    samples = np.random.default_rng(0).normal(size=(34, 3, 6, 6)).astype(np.float32)
    found: dict[str, object] = {}
    with patch.dict(auto.EFFORT_PLANS, {"standard": _FEW}):
        for name, recipe in RECIPES.items():
            result = convert(small_model(), samples, recipe, ranks=ranks)
            figures = [(c.method, c.agreement, c.divergence) for c in result.report.candidates]
            found[name] = [result.network.hash(), *map(list, figures)]
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    with open_ranks(wait_s=600) as together:
        checkpoints = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        found = results(together) if checkpoints is None else distilled(together, checkpoints)
        printed = json.dumps(found)
        if together.rank == int(sys.argv[1]):
            print(printed)
