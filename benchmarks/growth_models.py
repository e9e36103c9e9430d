"""What converting deep networks of torchvision costs, in processor seconds.

    python benchmarks/growth_models.py [--models densenet121,densenet201] [--size 32]

The weights are random; the recipe is ic-snn, on 8 samples: most of the time is for the nodes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torchvision

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="densenet121,densenet169,densenet201")
    parser.add_argument("--size", type=int, default=32, help="height and width of a sample")
    given = parser.parse_args()
    print("| model | nodes | processor seconds |")
    print("|---|---:|---:|")
    samples = np.random.default_rng(0).random((8, 3, given.size, given.size), dtype=np.float32)
    for name in given.models.split(","):
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
        started = time.process_time()
        found = convert(model, samples, Recipe(name="ic-snn"), replace_max_pool="average")
        took = time.process_time() - started
        print(f"| {name} | {len(found.network.nodes):,} | {took:.1f} |", flush=True)


if __name__ == "__main__":
    main()
