"""Parity and accuracy of a quantized network: every spike on every backend, and what 8 bits cost.

    python benchmarks/lattice.py build/resnet20 --calibration calib.npz:images \
        --images test.npz:images --labels test.npz:labels \
        [--bits 8,4] [--parity 20] [--accuracy 1000]

Quantizes a float bundle at each width, prints top-1 of ANN, float and integer network, then for the
first width compares backends, thread counts and batch sizes with the int64 reference.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from icsnn_deploy import __version__
from icsnn_deploy.backends import open_backend
from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.data import load_images, load_labels
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.compare import compare
from icsnn_deploy.parity.judge import Tolerance

BACKENDS = ("torch", "torch-float64", "onnxruntime", "onnxruntime-step", "openvino", "nir")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    for name in ("--calibration", "--images", "--labels"):
        parser.add_argument(name, required=True)
    parser.add_argument("--bits", default="8,4")
    parser.add_argument("--calibration-samples", type=int, default=256)
    parser.add_argument("--parity", type=int, default=20)
    parser.add_argument("--accuracy", type=int, default=1000)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    network, ann = bundle.network(), bundle.ann()
    calibration = load_images(options.calibration, bundle.normalization)
    images = load_images(options.images, bundle.normalization)[: options.accuracy]
    labels = load_labels(options.labels, len(images))[: len(images)]
    print(f"{options.bundle}, T = {network.time_steps}, icsnn-deploy {__version__}")
    print(f"ANN {accuracy(TorchANN(ann).run(images), labels)} on {len(images)} images")
    print(f"float {accuracy(TorchSimulator(network).classify(images), labels)}")
    for number, bits in enumerate(map(int, options.bits.split(","))):
        started = time.monotonic()
        result = quantize(
            network,
            calibration[: options.calibration_samples],
            ann,
            LatticeOptions(bits=bits),
        )
        seconds = time.monotonic() - started
        x = to_input_units(result.network, images)
        found = accuracy(TorchSimulator(result.network).classify(x), labels)
        tightest = result.certificate.tightest
        print(
            f"{bits} bits {found}; widths {sorted(set(result.bits.values()))}, headroom "
            f"{tightest.headroom_bits:.1f} bits at {tightest.layer}, {seconds:.0f} s",
            flush=True,
        )
        if number == 0:
            print_parity(result.network, ann, x[: options.parity])


def accuracy(logits: Array, labels: Array) -> str:
    return f"{np.mean(logits.argmax(axis=1) == labels):.2%}"


def print_parity(network: Graph, ann: Graph, x: Array) -> None:
    """One line a backend, thread count and batch size."""
    expected = ReferenceSimulator(network).run(x)
    with tempfile.TemporaryDirectory() as folder:
        bundle = create_bundle(
            Path(folder) / "b", network=network, ann=ann, samples=x[:1], report={}
        )
        bundle = export_into(bundle, "nir", "onnx", "onnx-step")
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for batch in (1, len(x)):
                label = f"torch, {threads} threads, batch {batch}"
                print_line(label, in_batches(bundle, "torch", x, batch), expected, network)
        for backend in BACKENDS:
            print_line(backend, in_batches(bundle, backend, x, len(x)), expected, network)
        one = ReferenceSimulator(network).run(x[:1])
        found = open_backend(bundle, "onnx-reference").run(x[:1])
        print_line("onnx-reference, 1 image", found, one, network)


def in_batches(bundle: Bundle, backend: str, x: Array, batch: int) -> Recording:
    """A recording of all inputs, run `batch` at a time."""
    simulator = open_backend(bundle, backend)
    parts = [simulator.run(x[i : i + batch]) for i in range(0, len(x), batch)]
    return Recording(
        backend=backend,
        logits=np.concatenate([part.logits for part in parts]),
        spikes={
            name: np.concatenate([part.spikes[name] for part in parts], axis=1)
            for name in parts[0].spikes
        },
    )


def print_line(label: str, found: Recording, expected: Recording, network: Graph) -> None:
    result = compare(expected, found, network, tolerance=Tolerance(exact=True))
    print(
        f"  {label:<28} {result.spike_mismatches} of {result.spikes_compared:,} spikes differ, "
        f"logits by {result.max_abs_logit_difference}",
        flush=True,
    )


if __name__ == "__main__":
    main()
