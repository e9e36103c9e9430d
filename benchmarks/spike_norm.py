"""Why SpikeNorm and RMP need many steps: thresholds and rates of each layer against the ANN.

    python benchmarks/spike_norm.py --model examples/cifar_models.py:resnet20 \
        --weights resnet20.pt --calibration calib.npz:images --images test.npz:images \
        --labels test.npz:labels --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \
        [--recipe rmp] [--time-steps 1024] [--calibration-samples 8] [--limit 50]

Prints the accuracy after powers of two of steps, and for each layer v_threshold, the largest
activation of the ANN, the quotient of both, means of activation and output (v_threshold * rate),
the share of neurons that never fire, and R^2 of the output against the activation. A threshold that
is k times the largest activation needs k times as many steps for the same resolution.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from torch import Tensor

from icsnn_deploy import Recipe, convert
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import Normalization, load_images, load_labels
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Node, Relu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--weights", "--calibration", "--images", "--labels"):
        parser.add_argument(name, required=True)
    for name in ("--mean", "--std"):
        parser.add_argument(name, required=True, type=_floats)
    parser.add_argument("--recipe", default="rmp")
    parser.add_argument("--time-steps", type=int, default=1024)
    parser.add_argument("--calibration-samples", type=int, default=8)
    parser.add_argument("--limit", type=int, default=50)
    options = parser.parse_args()
    normalization = Normalization(mean=options.mean, std=options.std)
    images = load_images(options.images, normalization)[: options.limit]
    labels = load_labels(options.labels, len(images))[: len(images)]
    conversion = convert(
        load_model(options.model, Path(options.weights)),
        load_images(options.calibration, normalization)[: options.calibration_samples],
        Recipe(name=options.recipe, time_steps=options.time_steps, batch_size=8),
        normalization=normalization,
    )
    show(conversion, images, labels)


def show(conversion: Conversion, images: Array, labels: Array) -> None:
    """Accuracies, then a row for each layer."""
    network = conversion.network
    activations: dict[str, Array] = {}

    def observe(node: Node, value: Tensor) -> None:
        if isinstance(node, Relu):
            activations[node.name] = value.numpy()

    logits = TorchANN(conversion.ann).run(images, observe)
    print(f"ANN {100 * np.mean(logits.argmax(axis=1) == labels):.1f} % of {len(images)} images")
    found = TorchSimulator(network).run(images, Record(spikes=False, counts=True, logits_t=True))
    assert found.logits_t is not None
    for t in [2**n for n in range(3, network.steps.bit_length())]:
        right = np.mean(found.logits_t[t - 1].argmax(axis=1) == labels)
        print(f"T = {t:>5}: {100 * right:.1f} %")
    names = ("threshold", "max a", "quotient", "mean a", "mean out", "silent", "R^2")
    print(f"{'layer':<28}" + "".join(f"{name:>11}" for name in names))
    for node in network.nodes_of(IF):
        wanted = activations[node.name]
        output = found.counts[node.name] * (node.v_threshold / network.steps)
        largest, threshold = float(wanted.max()), float(node.v_threshold.max())
        residual = np.mean((output - wanted) ** 2) / max(float(wanted.var()), 1e-30)
        values = (
            *(threshold, largest, threshold / max(largest, 1e-30)),
            *(float(wanted.mean()), float(output.mean())),
            *(float(np.mean(output == 0)), 1 - float(residual)),
        )
        print(f"{node.name[-28:]:<28}" + "".join(f"{value:>11.3f}" for value in values))


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


if __name__ == "__main__":
    main()
