"""Random PyTorch models over all operators that convert, compared with their graphs.

    python -m tests.support.random_models [--count 3000] [--seed 0] [--only NAME]

A model is a chain of layers, each drawn from the table in random_layers.py. Same seed, same model.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
import traceback
from collections import Counter

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import ConversionError, UnsupportedOperatorError
from icsnn_deploy.graph.arrangement import input_parts, named_outputs, output_parts, pack_inputs
from icsnn_deploy.graph.neuron import Array
from tests.support.random_ends import OUTPUTS, TwoInputs, second_input
from tests.support.random_expressions import Shape, torch_generator
from tests.support.random_layers import OFTEN, OPERATORS, randomize, run
from tests.support.random_moves import MOVES

Inputs = tuple[torch.Tensor, ...]

TOLERANCE = 1e-5
"""Largest difference between model and graph, in units of the output's spread."""
LIMITS = {
    "rows and columns mixed": "treats rows and columns apart",
    "too many pieces": "each of which takes layers of its own",
    "too many places": "places along an axis",
    "too many weights": "weights per node",
    "layout of an input": "in a layout that layers can read",
    "spatial axes changed": "keeps the spatial axes, or flattens",
    "constants": "tensors that depend on the input",
    "largest of many": "values in uneven windows",
}
"""Refusals that a sweep counts apart from failures, by a part of the message."""
MOST_VALUES = 4096  # of one sample, so that a network takes milliseconds


def random_model(seed: int, only: str | None = None) -> tuple[nn.Module, Inputs]:
    """A model in eval mode, and a batch of three samples for each of its inputs, one or two.

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
            (rng.randint(3, 6), rng.randint(4, 8)),
            (rng.randint(2, 16),),
        ]
    )
    x = _samples(rng, shape)
    if only is not None or rng.random() < 0.8:
        return nn.Sequential(*_chain(rng, x, rng.randint(2, 6), only, end=True)).eval(), (x,)
    first = nn.Sequential(*_chain(rng, x, rng.randint(0, 2)))
    shape, text = second_input(rng, tuple(run(first, x).shape[1:]))
    b = _samples(rng, shape)
    with torch.no_grad():
        y: torch.Tensor = TwoInputs(first, text, nn.Identity())(x.clone(), b)
    rest = nn.Sequential(*_chain(rng, y, rng.randint(1, 4), end=True))
    return TwoInputs(first, text, rest).eval(), (x, b)


def _samples(rng: random.Random, shape: Shape) -> torch.Tensor:
    return torch.randn(3, *shape, generator=torch_generator(rng)) * rng.choice([0.3, 1, 4])


def _chain(
    rng: random.Random, y: torch.Tensor, count: int, only: str | None = None, *, end: bool = False
) -> list[nn.Module]:
    """Up to `count` layers that take y, and at the end one of OUTPUTS."""
    layers: list[nn.Module] = []
    for place in range(count):
        names = [only] if only is not None and place == count // 2 else list(OPERATORS)
        if place == 0 and only is None and rng.random() < 0.2:
            names = list(MOVES)  # a rearranged input
        layer = _layer(rng, y, names)
        if layer is not None:
            layers.append(layer)
            y = run(layer, y)
    ends = [make(rng, tuple(y.shape[1:])) for make in OUTPUTS.values()] if end else []
    return [*layers, rng.choice([one for one in ends if one is not None])] if ends else layers


def _layer(rng: random.Random, y: torch.Tensor, names: list[str]) -> nn.Module | None:
    """One of the named layers that fits the batch and does not make it constant, or none."""
    for _ in range(20):
        (name,) = rng.choices(names, [OFTEN.get(name, 1) for name in names])
        layer = OPERATORS[name](rng, tuple(y.shape[1:]))
        if layer is None:
            continue
        randomize(rng, layer)
        try:
            result = run(layer, y)
        except RuntimeError:  # options that PyTorch does not allow together
            continue
        varied = 0 < result[0].numel() <= MOST_VALUES and result.max() > result.min()
        if varied and 2 <= result.dim() <= 4:
            return layer
    return None


def difference(model: nn.Module, inputs: Inputs) -> float:
    """Largest difference between a model's outputs and its graph's, in units of their spread.

    Both run in double precision; the graph's parameters are rounded to float32. Where that matters,
    because large values cancel, it does so in the model, too: the unit of an output is its spread
    over the batch, or 1e6 times the error that the model makes in float32, whichever is larger.
    """
    double = tuple(x.double() for x in inputs)
    exact, rounded = _outputs(copy.deepcopy(model).double(), double), _outputs(model, inputs)
    graph = trace(model, inputs)
    arrays = [x.numpy() for x in inputs]
    packed = pack_inputs(
        graph, dict(zip([part.name for part in input_parts(graph)], arrays, strict=True))
    )
    parts, found = output_parts(graph), named_outputs(graph, run_ann(graph, packed))
    ours = [_with_host_op(found[part.name], part.host_op) for part in parts]
    if [one.shape for one in ours] != [one.shape for one in exact]:
        raise ValueError(f"outputs {[one.shape for one in ours]} of {[e.shape for e in exact]}")
    worst = 0.0
    for one, theirs, single in zip(ours, exact, rounded, strict=True):
        unit = max(float(np.ptp(theirs)), 1e6 * float(np.abs(single - theirs).max()))
        worst = max(worst, float(np.abs(one - theirs).max()) / (unit or 1.0))
    return worst


def _with_host_op(values: Array, host_op: str) -> Array:
    """The operation that a part leaves to the host, in PyTorch."""
    if not host_op:
        return values
    name, _, axis = host_op.rstrip(")").partition("(dim=")
    arguments = (int(axis or 1),) if "softm" in name else ()
    result: Array = getattr(torch, name)(torch.from_numpy(values), *arguments).numpy()
    return result


def _outputs(model: nn.Module, inputs: Inputs) -> list[Array]:
    with torch.no_grad():
        result = model(*(x.clone() for x in inputs))
    return [value.numpy() for value in pytree.tree_leaves(result)]


def problem_of(model: nn.Module, inputs: Inputs) -> tuple[str, str, float]:
    """What is wrong with a network: its kind, a message, and the difference; all empty if nothing.

    A kind in LIMITS is a refusal that is allowed.
    """
    try:
        found = difference(model, inputs)
    except UnsupportedOperatorError as error:
        texts = [f"{one.got}: {one.allowed}" for one in error.rejections]
        kinds = [next((k for k, v in LIMITS.items() if v in text), "refused") for text in texts]
        return "refused" if "refused" in kinds else kinds[0], str(error), 0.0
    except ConversionError as error:
        return "conversion error", str(error), 0.0
    except Exception:  # a traceback, too, is a network that does not convert
        return "traceback", traceback.format_exc(limit=-4), 0.0
    return ("difference", f"{found:.2g}", found) if found >= TOLERANCE else ("", "", found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0, help="of the first model")
    parser.add_argument("--only", choices=list(OPERATORS), help="an operator that each model has")
    given = parser.parse_args()
    torch.set_num_threads(1)
    started, worst, kinds = time.monotonic(), 0.0, Counter[str]()
    for seed in range(given.seed, given.seed + given.count):
        model, inputs = random_model(seed, given.only)
        kind, message, found = problem_of(model, inputs)
        worst = max(worst, found)
        kinds[kind] += bool(kind)
        if kind and kind not in LIMITS:
            only = f"--only {given.only!r} " if given.only else ""
            print(f"{only}--seed {seed} --count 1: {kind}: {message}")
            print(f"{[tuple(x.shape) for x in inputs]} {model}", flush=True)
    limits = {kind: kinds.pop(kind) for kind in LIMITS if kinds[kind]}
    failures = +kinds
    print(
        f"{given.count} networks in {time.monotonic() - started:.0f} s: {failures.total()} "
        f"failures {dict(failures)}, {sum(limits.values())} refused by a limit {limits}, "
        f"largest difference {worst:.2g} of the output's spread, allowed {TOLERANCE:g}"
    )
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
