"""Networks made, run and exported by sinabs alone: python from_sinabs.py FOLDER

soft: subtracts its threshold; sinabs fires at a tie, and so does this network. hard: resets to
zero; NIR fires above the threshold, so there the bias keeps potentials off it.
"""

import sys
from pathlib import Path

import nir
import numpy as np
import sinabs.nir
import torch
from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike
from sinabs.layers import IAFSqueeze, SumPool2d
from torch import nn

STEPS, BATCH, SHAPE = 9, 3, (2, 8, 8)


def population(threshold: float, hard: bool) -> IAFSqueeze:
    return IAFSqueeze(
        batch_size=BATCH,
        spike_threshold=torch.tensor(threshold),
        spike_fn=SingleSpike,
        reset_fn=MembraneReset() if hard else MembraneSubtract(),
        min_v_mem=None,
    )


def network(hard: bool) -> nn.Sequential:
    torch.manual_seed(5 + hard)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        population(1.0, hard),
        SumPool2d(2),
        nn.Conv2d(4, 3, 3, bias=hard),
        population(0.75, hard),
        nn.Flatten(),
        nn.Linear(12, 5, bias=hard),
        population(0.5, hard),
    )
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = torch.randint(-14, 16, layer.weight.shape) / 32
            if layer.bias is not None:
                layer.bias.data = torch.randint(-2, 3, layer.bias.shape) / 32 + hard / 4096
    return net


def main(folder: Path) -> None:
    for name, hard in (("soft", False), ("hard", True)):
        net = network(hard)
        inputs = torch.randint(0, 2, (BATCH, STEPS, *SHAPE)).float()
        x, spikes = inputs.flatten(0, 1), {}
        with torch.no_grad():
            for index, layer in enumerate(net):
                x = layer(x)
                if isinstance(layer, IAFSqueeze):
                    recorded = x.reshape(BATCH, STEPS, *x.shape[1:])
                    spikes[str(index)] = recorded.transpose(0, 1).numpy()
        exported = sinabs.nir.to_nir(net, inputs.flatten(0, 1))
        exported.infer_types()  # sizes that nir 1.0.4 can't write the absence of
        nir.write(folder / f"{name}.nir", exported)
        np.savez(folder / f"{name}.npz", inputs=inputs.transpose(0, 1).numpy(), **spikes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
