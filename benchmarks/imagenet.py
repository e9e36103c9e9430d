"""A torchvision network at 224 x 224 through every stage: seconds and peak memory of each.

    python benchmarks/imagenet.py resnet18 [--time-steps 4] [--images 2] [--recipe opi]

Weights are random; the running statistics of the batch norms are those of random images, which
gives activations as a trained network has them. The exported files are verified spike for spike
against the int64 reference. Peak memory is read from /proc (Linux).
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torchvision
from torch import nn

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.verify import verify

BACKENDS = ("torch", "onnxruntime", "nir")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", help="its name in torchvision.models")
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--images", type=int, default=2, help="images to verify")
    parser.add_argument("--calibration", type=int, default=16, help="images to calibrate with")
    parser.add_argument("--recipe", default="opi")
    options = parser.parse_args()
    print(f"{options.network}, T = {options.time_steps}, recipe {options.recipe}")
    print("| stage | seconds | processor seconds | peak memory, GiB |")
    print("|---|---|---|---|", flush=True)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((options.calibration, 3, 224, 224), dtype=np.float32)
    with stage("build"):
        model = random_network(options.network)
    with stage("convert"):
        recipe = Recipe(name=options.recipe, time_steps=options.time_steps, batch_size=4)
        conversion = convert(model, images, recipe)
    with stage("quantize"):
        result = quantize(conversion, images, options=LatticeOptions(batch_size=4))
    with tempfile.TemporaryDirectory() as folder:
        bundle = result.save(Path(folder) / "bundle", images[: options.images])
        for export_format in ("nir", "onnx"):
            with stage(f"export {export_format}"):
                bundle = export_into(bundle, export_format)
        with stage("verify"):
            report = verify(bundle, BACKENDS)
        sizes = [
            f"{name} {bundle.manifest.files[file].size:,}" for name, file in bundle.exports.items()
        ]
    network, tightest = result.network, result.certificate.tightest
    populations = network.nodes_of(Population)
    neurons = sum(int(np.prod(network.shape(node.name))) for node in populations)
    print(f"{neurons:,} neurons in {len(populations)} populations; bytes: {', '.join(sizes)}")
    print(
        f"widths {sorted(set(result.bits.values()))}, headroom {tightest.headroom_bits:.1f} bits "
        f"at {tightest.layer}; "
        + "; ".join(
            f"{one.backend} {one.spike_mismatches} of {one.spikes_compared:,} spikes differ"
            for one in report.comparisons
        )
    )


def random_network(name: str) -> nn.Module:
    """The untrained network with running statistics of random images."""
    torch.manual_seed(0)
    model: nn.Module = getattr(torchvision.models, name)(weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for _ in range(2):
            model.train()(torch.randn(4, 3, 224, 224))
    return model.eval()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print what the stage took."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    wall, processor = time.monotonic(), time.process_time()
    yield
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    status = Path("/proc/self/status").read_text()
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**20
    print(f"| {name} | {wall:.1f} | {processor:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
