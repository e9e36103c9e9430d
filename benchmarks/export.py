"""Processor time of the exporters, and whether two exports are the same bytes.

    python benchmarks/export.py [--time-steps 32]

The network is VGG16 for CIFAR-10 (14.7 M parameters) with random weights.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.exporters import GENERAL, export
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Relu

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))


def vgg16_network(time_steps: int) -> Graph:
    """VGG16 as an IF network, every threshold 1 and every v_init 1/2."""
    from cifar_models import vgg16

    torch.manual_seed(0)
    sample = np.zeros((1, 3, 32, 32), np.float32)
    ann = to_ann_graph(vgg16().eval(), sample)
    populations = {}
    for relu in ann.nodes_of(Relu):
        one = np.ones((1,) * len(ann.shape(relu.name)), np.float32)
        populations[relu.name] = PopulationParameters(v_threshold=one, v_init=one / 2)
    return to_spiking(ann, populations, time_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-steps", type=int, default=32)
    network = vgg16_network(parser.parse_args().time_steps)
    parameters = sum(a.size for node in network.nodes for a in node.arrays().values())
    print(f"{parameters:,} parameters, T = {network.time_steps}")
    print("| format | processor seconds, first | second | bytes | identical |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in GENERAL:
            seconds, digests, size = [], [], 0
            for run in range(2):
                path = Path(folder) / f"{name}.{run}"
                started = time.process_time()
                export(network, path, name)
                seconds.append(time.process_time() - started)
                digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
                size = path.stat().st_size
            same = "yes" if digests[0] == digests[1] else "NO"
            print(f"| {name} | {seconds[0]:.2f} | {seconds[1]:.2f} | {size:,} | {same} |")


if __name__ == "__main__":
    main()
