"""What a network loses by the levels of its activations alone: the ANN with T + 1 of them.

    python benchmarks/levels.py --model examples/cifar_models.py:resnet20 --weights resnet20.pt \
        --calibration calib.npz:images --images test.npz:images --labels test.npz:labels \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 [--time-steps 4,8,16,32] \
        [--calibration-samples 256] [--limit 5000]

An integrate-and-fire neuron sends 0 to T spikes in T steps, so that its output has T + 1 values.
Here each rectifier of the trained network gives the nearest of them,

    a' = v_threshold / T * clip(floor(a T / v_threshold + 1/2), 0, T)

with thresholds per channel of least squared error (MSEThreshold) and the weights as they are. It is
what a spiking network of these weights and thresholds and v_init = v_threshold / 2 would compute if
the current of each neuron were the same in every step. What such a network loses beyond these
figures is due to the times of its spikes; one whose parameters were searched or trained can lose
less.
"""

from __future__ import annotations

import sys

from temporal_switch import SwitchedNetwork, command_line, in_batches, opened

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.calibration.threshold_rules import MSEThreshold
from icsnn_deploy.graph.readout import agreement, kl_divergence, top1


def main(arguments: list[str]) -> None:
    parser = command_line(__doc__, time_steps=[4, 8, 16, 32], limit=5000)
    options = parser.parse_args(arguments)
    ann, statistics, images, labels = opened(options)
    wanted = in_batches(TorchANN(ann).run, images)
    right = top1(wanted) == labels
    print(f"ANN {100 * right.mean():.2f} % of {len(images):,} images")
    print("| T | divergence | other class, % | loss, points |\n|---:|---:|---:|---:|")
    for time_steps in options.time_steps:
        network = SwitchedNetwork(ann, statistics, MSEThreshold(), time_steps, start=0.5)
        found = in_batches(network.run, images)
        lost = right.astype(float) - (top1(found) == labels)
        other = 100 * (1 - agreement(wanted, found))
        print(
            f"| {time_steps} | {kl_divergence(wanted, found):.4f} | {other:.1f} | "
            f"{100 * lost.mean():.2f} ± {100 * lost.std() / len(lost) ** 0.5:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
