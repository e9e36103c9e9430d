"""Random PyTorch models over all operators that convert, compared with their graphs.

    python -m tests.support.random_models [--count 3000] [--seed 0] [--only NAME]

A model is a chain of layers, each drawn from the table in random_layers.py. Same seed, same model.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections import Counter

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.arrangement import named_outputs
from icsnn_deploy.graph.neuron import Array
from tests.support.random_layers import (
    OFTEN,
    OPERATORS,
    OUTPUTS,
    Shape,
    randomize,
    run,
    torch_generator,
)

TOLERANCE = 1e-5
"""Largest difference between model and graph, in units of the output's spread."""
MOST_VALUES = 4096  # of one sample, so that a network takes milliseconds


def random_model(seed: int, only: str | None = None) -> tuple[nn.Module, torch.Tensor]:
    """A model in eval mode and a batch of three samples for it.

    Args:
        seed: of everything drawn.
        only: an operator that the model must have; its other layers are convolutions and the like.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    shape: Shape = rng.choice(
        [
            *[(rng.randint(1, 4), rng.randint(4, 9), rng.randint(4, 9))] * 4,
            *[(rng.randint(1, 4), rng.randint(5, 16))] * 2,
            (rng.randint(2, 10),),
        ]
    )
    x = torch.randn(3, *shape, generator=torch_generator(rng)) * rng.choice([0.3, 1, 4])
    layers: list[nn.Module] = []
    y, count = x, rng.randint(2, 6)
    for place in range(count):
        names = [only] if only is not None and place == count // 2 else list(OPERATORS)
        layer = _layer(rng, y, names)
        if layer is not None:
            layers.append(layer)
            y = run(layer, y)
    ends = [make(rng, tuple(y.shape[1:])) for make in OUTPUTS.values()]
    model = nn.Sequential(*layers, rng.choice([end for end in ends if end is not None]))
    return model.eval(), x


def _layer(rng: random.Random, y: torch.Tensor, names: list[str]) -> nn.Module | None:
    """One of the named layers that fits the batch and does not make it constant, or none."""
    for _ in range(20):
        (name,) = rng.choices(names, [OFTEN.get(name, 1) for name in names])
        layer = OPERATORS[name](rng, tuple(y.shape[1:]))
        if layer is None:
            continue
        randomize(rng, layer)
        result = run(layer, y)
        if 0 < result[0].numel() <= MOST_VALUES and result.max() > result.min():
            return layer
    return None


def difference(model: nn.Module, x: torch.Tensor) -> float:
    """Largest difference between a model's outputs and its graph's, in units of their spread.

    Both run in double precision; the graph's parameters are rounded to float32. Where that matters,
    because large values cancel, it does so in the model, too: the unit of an output is its spread
    over the batch, or 1e6 times the error that the model makes in float32, whichever is larger.
    """
    exact, rounded = _outputs(copy.deepcopy(model).double(), x.double()), _outputs(model, x)
    graph = trace(model, x)
    found = list(named_outputs(graph, run_ann(graph, x.numpy())).values())
    if [one.shape for one in found] != [one.shape for one in exact]:
        raise ValueError(f"outputs {[one.shape for one in found]} of {[e.shape for e in exact]}")
    worst = 0.0
    for ours, theirs, single in zip(found, exact, rounded, strict=True):
        unit = max(float(np.ptp(theirs)), 1e6 * float(np.abs(single - theirs).max()))
        worst = max(worst, float(np.abs(ours - theirs).max()) / (unit or 1.0))
    return worst


def _outputs(model: nn.Module, x: torch.Tensor) -> list[Array]:
    with torch.no_grad():
        return [value.numpy() for value in pytree.tree_leaves(model(x.clone()))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
    parser.add_argument("--only", choices=list(OPERATORS), help="an operator that each model has")
    given = parser.parse_args()
    torch.set_num_threads(1)
    started, worst, failures = time.monotonic(), 0.0, Counter[str]()
    for seed in range(given.seed, given.seed + given.count):
        model, x = random_model(seed, given.only)
        try:
            found = difference(model, x)
            problem = f"differs by {found:.2g}" if found >= TOLERANCE else ""
            worst = max(worst, found)
        except Exception as error:  # a traceback, too, is a network that does not convert
            problem = f"{type(error).__name__}: {error}"
        if problem:
            failures[problem.partition(":")[0].partition(" ")[0]] += 1
            print(
                f"--only {given.only} " * bool(given.only) + f"--seed {seed} --count 1: {problem}"
            )
            print(f"{tuple(x.shape)} {model}")
    seconds = time.monotonic() - started
    print(
        f"{given.count} networks in {seconds:.0f} s: {failures.total()} failures {dict(failures)}, "
        f"largest difference {worst:.2g} of the output's spread, allowed {TOLERANCE:g}"
    )
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
