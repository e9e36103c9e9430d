"""How the torch simulator grows with the number of time steps and with the batch.

    python benchmarks/growth.py BUNDLE --images test.npz:images [--time-steps 4,16,64,256]
        [--batches 1,4,16,64]

Median processor time of --runs runs, ms per image and step; level columns are linear growth.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--time-steps", default="4,16,64,256")
    parser.add_argument("--batches", default="1,4,16,64")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = open_bundle(given.bundle).network()
    images = np.ascontiguousarray(load_array(given.images)[:64].transpose(0, 3, 1, 2))
    batches = [int(part) for part in given.batches.split(",")]
    print("| T | " + " | ".join(f"batch {batch}" for batch in batches) + " |")
    print("|---:|" + "---:|" * len(batches))
    for steps in map(int, given.time_steps.split(",")):
        simulator = TorchSimulator(replace(network, time_steps=steps))
        cells = []
        for batch in batches:
            x = images[:batch]
            simulator.classify(x)
            seconds = statistics.median(_seconds(simulator, x) for _ in range(given.runs))
            cells.append(f"{1000 * seconds / batch / steps:.3f}")
        print(f"| {steps} | " + " | ".join(cells) + " |", flush=True)


def _seconds(simulator: TorchSimulator, x: np.ndarray) -> float:
    started = time.process_time()
    simulator.classify(x)
    return time.process_time() - started


if __name__ == "__main__":
    main()
