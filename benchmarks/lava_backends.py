r"""A bundle in Lava against the reference: spikes compared, mismatches, seconds an image.

From the root of the repository:

    python benchmarks/lava_backends.py build/resnet20-int8 --images test.npz:images \
        [--limit 8] [--backend lava-fixed --backend lava-float:stock]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from icsnn_deploy.backends import open_backend
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_images
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.parity.compare import compare
from icsnn_deploy.parity.judge import Tolerance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", help="default: the bundle's own samples")
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--backend", action="append")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    network = bundle.network()
    given = load_images(options.images, bundle.normalization) if options.images else None
    samples = bundle.samples() if given is None else given
    inputs = to_input_units(network, samples[: options.limit])
    images = len(inputs)
    expected = ReferenceSimulator(network).run(inputs)
    print(f"{options.bundle}, T = {network.steps}, {images} images")
    print("| backend | spikes compared | mismatches | logit difference | s | s / image |")
    print("|---|---|---|---|---|---|")
    wrong = False
    for spec in options.backend or ["lava-fixed"]:
        simulator = open_backend(bundle, spec)
        started = time.monotonic()
        recording = simulator.run(inputs)
        seconds = time.monotonic() - started
        tolerance = Tolerance(exact=network.is_integer)
        found = compare(expected, recording, network, tolerance=tolerance)
        wrong |= found.spike_mismatches > 0
        print(
            f"| `{spec}` | {found.spikes_compared:,} | {found.spike_mismatches} | "
            f"{found.max_abs_logit_difference:.2g} | {seconds:.1f} | {seconds / images:.2f} |"
        )
    sys.exit(wrong)


if __name__ == "__main__":
    main()
