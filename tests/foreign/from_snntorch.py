"""Networks made, run and exported by snnTorch alone: python from_snntorch.py FOLDER

soft: resets by subtraction, never at a tie. hard: resets to zero, with ties.
"""

import sys
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from snntorch import Leaky
from snntorch.export_nir import export_to_nir
from torch import nn

STEPS, BATCH, SHAPE = 9, 3, (2, 8, 8)


def population(threshold: float, *shape: int, hard: bool) -> Leaky:
    """Its exporter takes parameters of the layer's whole shape only."""
    return Leaky(
        beta=torch.ones(shape),
        threshold=torch.full(shape, threshold),
        init_hidden=True,
        reset_mechanism="zero" if hard else "subtract",
        reset_delay=not hard,  # otherwise subtraction is not what the next step starts from
    )


def network(hard: bool) -> nn.Sequential:
    """Dyadic weights: every sum is exact. Off the lattice by the bias, unless ties are wanted."""
    torch.manual_seed(3 + hard)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        population(1.0, 4, 8, 8, hard=hard),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=1),
        population(0.75, 3, 2, 2, hard=hard),
        nn.Flatten(),
        nn.Linear(12, 5, bias=not hard),
        population(0.5, 5, hard=hard),
    )
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = torch.randint(-14, 16, layer.weight.shape) / 32
            if layer.bias is not None:
                layer.bias.data = torch.randint(-2, 3, layer.bias.shape) / 32 + (not hard) / 4096
    return net


def main(folder: Path) -> None:
    for name, hard in (("soft", False), ("hard", True)):
        net = network(hard)
        inputs = torch.randint(0, 2, (STEPS, BATCH, *SHAPE)).float()
        nir.write(folder / f"{name}.nir", export_to_nir(net, inputs[0], ignore_dims=[0]))
        for layer in net:
            if isinstance(layer, Leaky):
                layer.reset_mem()
        spikes: dict[str, list[np.ndarray]] = {}
        with torch.no_grad():
            for x in inputs:
                for index, layer in enumerate(net):
                    x = layer(x)
                    if isinstance(layer, Leaky):
                        spikes.setdefault(str(index), []).append(x.numpy())
        recorded: dict[str, Any] = {layer: np.stack(steps) for layer, steps in spikes.items()}
        np.savez(folder / f"{name}.npz", inputs=inputs.numpy(), **recorded)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
