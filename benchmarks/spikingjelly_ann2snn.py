"""Accuracy beside SpikingJelly's ann2snn: the same network, images and numbers of time steps.

SpikingJelly brings tensorboard and much else, so this runs in an environment of its own (2.0.0
needs Python 3.11):

    python3.11 -m venv /tmp/spikingjelly
    /tmp/spikingjelly/bin/pip install torch==2.14.1 spikingjelly==2.0.0 safetensors
    PYTHONPATH=. /tmp/spikingjelly/bin/python benchmarks/spikingjelly_ann2snn.py \
        --model examples/cifar_models.py:resnet20 --weights resnet20.pt \
        --calibration calib.npz:images --images test.npz:images --labels test.npz:labels \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --out build/spikingjelly \
        [--recipes robust-norm,opi,fast] [--time-steps 8,16,32] [--limit 500]

ann2snn takes nn.ReLU modules and refuses functional rectifiers and F.pad. So it gets the network
with a module for each rectifier and a fixed 1x1 convolution for the padded shortcut, which is the
same function (checked). Its readout is the sum of the logits over the steps, ours their mean: no
class differs by that. Writes OUT/spikingjelly.md.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy_tables import put_into
from spikingjelly.activation_based import ann2snn, functional, neuron
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from icsnn_deploy import Recipe, __version__, convert
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import Normalization, load_images, load_labels
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sweeping.folder import write_file

BATCH = 50
RECTIFIERS = (nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_)

THEIRS: dict[str, dict[str, Any]] = {
    "max, per layer": {"mode": "Max"},
    "99.9%, per layer": {"mode": "99.9%"},
    "max, per layer, half-threshold neuron": {
        "mode": "Max",
        "neuron_factory": lambda scale: neuron.HalfThresholdIFNode(),
    },
    "99.9%, per layer, half-threshold neuron": {
        "mode": "99.9%",
        "neuron_factory": lambda scale: neuron.HalfThresholdIFNode(),
    },
    "max, per channel, half_threshold": {
        "mode": "Max",
        "channel_wise": True,
        "half_threshold": True,
    },
    "99.9%, per channel, half_threshold": {
        "mode": "99.9%",
        "channel_wise": True,
        "half_threshold": True,
    },
}


class Rows:
    """The table as it grows."""

    def __init__(self, labels: Array, time_steps: list[int]) -> None:
        self.labels, self.time_steps = labels, time_steps
        self.lines: list[str] = []

    def add(self, by: str, name: str, classes: dict[int, Array], seconds: float) -> None:
        cells = [f"{100 * np.mean(classes[t] == self.labels):.2f}" for t in self.time_steps]
        self.lines.append(f"| {by} | {name} | {' | '.join(cells)} | {seconds:.0f} |")
        print(self.lines[-1], flush=True)


def prepared(model: nn.Module, sample: Tensor) -> nn.Module:
    """The same function in modules that ann2snn knows: nn.ReLU, and a convolution for F.pad."""
    traced = fx.symbolic_trace(copy.deepcopy(model))
    ShapeProp(traced).propagate(sample)
    modules = dict(traced.named_modules())
    for number, node in enumerate(list(traced.graph.nodes)):
        module: nn.Module | None = None
        source: Any = node.args[0] if node.args else None
        if (
            (node.op == "call_function" and node.target in RECTIFIERS)
            or (node.op == "call_method" and node.target in ("relu", "relu_"))
            or (node.op == "call_module" and type(modules[str(node.target)]) is nn.ReLU)
        ):
            module = nn.ReLU()
        elif node.op == "call_function" and node.target is nn.functional.pad:
            module, source = shortcut(node)
        if module is None:
            continue
        traced.add_submodule(f"prepared{number}", module)
        with traced.graph.inserting_after(node):
            replaced = traced.graph.call_module(f"prepared{number}", (source,))
        node.replace_all_uses_with(replaced)
        traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced.eval()


def shortcut(node: fx.Node) -> tuple[nn.Module, fx.Node]:
    """F.pad(x[:, :, ::s, ::s], (0, 0, 0, 0, p, p)) as a 1x1 convolution, and its x."""
    arguments: Any = node.args
    cut, (*spatial, before, after) = arguments[0], arguments[1]
    (x, index) = cut.args
    if any(spatial) or before != after or index[2] != index[3]:
        raise SystemExit(f"{node}: only the shortcut of a CIFAR ResNet is known")
    channels = cut.meta["tensor_meta"].shape[1]
    convolution = nn.Conv2d(channels, channels + 2 * before, 1, stride=index[2].step, bias=False)
    with torch.no_grad():
        convolution.weight.zero_()
        for channel in range(channels):
            convolution.weight[before + channel, channel] = 1
    return convolution, x


def batches(samples: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(samples), BATCH):
        yield samples[start : start + BATCH]


@torch.no_grad()
def their_classes(network: nn.Module, images: Tensor, time_steps: list[int]) -> dict[int, Array]:
    """The class after each number of steps, as their examples read it."""
    found: dict[int, list[Array]] = {t: [] for t in time_steps}
    for batch in batches(images):
        functional.reset_net(network)
        summed = torch.zeros(())
        for t in range(1, max(time_steps) + 1):
            summed = summed + network(batch)
            if t in found:
                found[t].append(summed.argmax(dim=1).numpy())
    return {t: np.concatenate(parts) for t, parts in found.items()}


def our_classes(
    model: nn.Module, calibration: Array, images: Array, name: str, time_steps: list[int]
) -> tuple[dict[int, Array], float]:
    """One conversion for each number of steps, and the seconds of the longest."""
    found, longest = {}, 0.0
    for t in time_steps:
        started = time.monotonic()
        graph = convert(model, calibration, Recipe(name=name, time_steps=t)).network
        longest = max(longest, time.monotonic() - started)
        simulator = TorchSimulator(graph)
        starts = range(0, len(images), BATCH)
        parts = [simulator.run(images[i : i + BATCH], Record(spikes=False)) for i in starts]
        found[t] = np.concatenate([part.logits for part in parts]).argmax(axis=1)
    return found, longest


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--weights", "--calibration", "--images", "--labels"):
        parser.add_argument(name, required=True)
    for name in ("--mean", "--std"):
        parser.add_argument(name, required=True, type=lambda s: tuple(map(float, s.split(","))))
    parser.add_argument("--recipes", default="diehl,robust-norm,opi,fast")
    parser.add_argument("--time-steps", default="8,16,32")
    parser.add_argument("--calibration-samples", type=int, default=256)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--document", help="FILE.md:NAME, as in accuracy.py")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = parse()
    normalization = Normalization(mean=options.mean, std=options.std)
    time_steps = [int(t) for t in options.time_steps.split(",")]
    model = load_model(options.model, Path(options.weights))
    if not isinstance(model, nn.Module):
        raise SystemExit(f"{options.model}: an nn.Module is needed")
    calibration, images = (
        normalization.apply(load_images(spec, normalization)[:count])
        for spec, count in (
            (options.calibration, options.calibration_samples),
            (options.images, options.limit),
        )
    )
    rows = Rows(load_labels(options.labels, len(images))[: len(images)], time_steps)
    with torch.no_grad():
        ann = np.concatenate([model(b).argmax(dim=1) for b in batches(torch.from_numpy(images))])
    rows.add("", "ANN", dict.fromkeys(time_steps, ann), 0)
    first = torch.from_numpy(images[:BATCH])
    theirs = prepared(model, first)
    with torch.no_grad():
        torch.testing.assert_close(theirs(first), model(first))
    for name, settings in THEIRS.items():
        started = time.monotonic()
        loader = list(batches(torch.from_numpy(calibration)))
        converter = ann2snn.FXConverter(ann2snn.RateCodingRecipe(dataloader=loader, **settings))
        network = converter.convert(copy.deepcopy(theirs))
        seconds = time.monotonic() - started
        if any(isinstance(module, nn.ReLU) for module in network.modules()):
            raise SystemExit(f"{name}: a rectifier was left in the network")
        found = their_classes(network, torch.from_numpy(images), time_steps)
        rows.add("SpikingJelly", name, found, seconds)
    for name in options.recipes.split(","):
        found, seconds = our_classes(model, calibration, images, name, time_steps)
        rows.add("icsnn-deploy", name, found, seconds)
    write(options, rows)


def write(options: argparse.Namespace, rows: Rows) -> None:
    """OUT/spikingjelly.md."""
    steps = " | ".join(f"T={t}" for t in rows.time_steps)
    header = [
        f"{options.model}, top-1 in percent on the first {len(rows.labels)} images of "
        f"{Path(options.images).name}, {options.calibration_samples} calibration images, "
        f"icsnn-deploy {__version__}, spikingjelly {version('spikingjelly')}, "
        f"torch {version('torch')}. The last column is the time of the longest conversion.",
        "",
        f"| by | recipe | {steps} | seconds |",
        f"|---|---|{'---:|' * (len(rows.time_steps) + 1)}",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "spikingjelly.md"
    table = "\n".join([*header, *rows.lines]) + "\n"
    write_file(path, table.encode())
    print(path)
    if options.document:
        file, _, name = options.document.rpartition(":")
        write_file(Path(file), put_into(Path(file).read_text(), name, table).encode())


if __name__ == "__main__":
    main()
