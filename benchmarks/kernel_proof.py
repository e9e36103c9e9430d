"""What the proofs of convolution kernels cost, beside a run over some images.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 OMP_NUM_THREADS=1 \
        python benchmarks/kernel_proof.py BUNDLE --images test.npz:images [--limit 64] [--runs 5]

BUNDLE holds an integer network. Proof and simulation are timed apart in one process: the seconds
inside the proofs of the first run after all verdicts were forgotten, and those of a whole run that
finds its verdicts. Processor time, medians over the runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icsnn_deploy.backends.torch import proof, verdicts
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    network = open_bundle(given.bundle).network()
    x = np.ascontiguousarray(load_array(given.images)[: given.limit].transpose(0, 3, 1, 2))
    spent: list[float] = []
    proof.prove = _timed(proof.prove, spent)
    proof.prove_result = _timed(proof.prove_result, spent)
    simulator = TorchSimulator(network)
    simulator.classify(x)
    proofs, runs = [], []
    for _ in range(given.runs):
        verdicts.VERDICTS.clear()
        spent.clear()
        simulator.classify(x)
        proofs.append(sum(spent))
        started = time.process_time()
        simulator.classify(x)
        runs.append(time.process_time() - started)
    proving, run = statistics.median(proofs), statistics.median(runs)
    print(
        f"{given.bundle.name}: T = {network.steps}, {len(x)} images, {torch.get_num_threads()} "
        f"threads: {len(verdicts.VERDICTS)} shapes proven in {1000 * proving:.1f} ms, "
        f"{100 * proving / run:.2f} % of a run of {1000 * run:.0f} ms"
    )


def _timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def run(*values: Any) -> Any:
        started = time.process_time()
        result = function(*values)
        spent.append(time.process_time() - started)
        return result

    return run


if __name__ == "__main__":
    main()
