"""What stays on the membranes after T steps from v = 0, in each reading of IC-SNN's Algorithm 2.

    python benchmarks/residuals.py --model examples/cifar_models.py:resnet20 --weights resnet20.pt \
        --calibration calib.npz:images --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \
        [--time-steps 8] [--samples 64]

Prints, for each layer and in shares of v_threshold, the mean potential v(T) as it is (raw), cut to
[0, v_threshold] (clamp) and as the remainder of a division by v_threshold (mod), the share of
neurons below zero, and v_init of Algorithm 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from accuracy_recipes import recipe_of
from torch import Tensor

from icsnn_deploy import convert
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import Normalization, load_images
from icsnn_deploy.graph.nodes import Population


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--weights", "--calibration", "--mean", "--std"):
        parser.add_argument(name, required=True)
    parser.add_argument("--time-steps", type=int, default=8)
    parser.add_argument("--samples", type=int, default=64)
    options = parser.parse_args()
    mean, std = (tuple(map(float, text.split(","))) for text in (options.mean, options.std))
    normalization = Normalization(mean=mean, std=std)
    model = load_model(options.model, Path(options.weights))
    samples = load_images(options.calibration, normalization)[: options.samples]
    networks = {
        name: convert(
            model, samples, recipe_of(name, options.time_steps), normalization=normalization
        ).network
        for name in ("snn", "algorithm-1")
    }
    by_weights = networks["algorithm-1"]
    simulator = TorchSimulator(networks["snn"])
    columns = ("raw", "clamp", "mod", "below 0", "algorithm 1")
    print(f"{'layer':<24}" + "".join(f"{name:>13}" for name in columns))
    found = []
    initial = {node.name: node for node in by_weights.nodes_of(Population)}

    def observe(node: Population, spikes: Tensor, v: Tensor, u: Tensor | None) -> None:
        share = v / simulator.ops.parameter(node, "v_threshold")
        same = initial[node.name]
        values = (
            float(share.mean()),
            float(share.clamp(0, 1).mean()),
            float(torch.remainder(share, 1).mean()),
            float((share < 0).float().mean()),
            float((same.v_init / same.v_threshold).mean()),
        )
        found.append(values)
        print(f"{node.name:<24}" + "".join(f"{value:>13.3f}" for value in values))

    simulator.observe(samples, observe)
    means = torch.tensor(found).mean(dim=0).tolist()
    print(f"{'mean':<24}" + "".join(f"{value:>13.3f}" for value in means))


if __name__ == "__main__":
    main()
