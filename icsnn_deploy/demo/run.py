"""The demo: train, convert, quantize, export, verify, and measure each recipe at each T."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import check_free
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.demo.digits import load_digits, train
from icsnn_deploy.demo.requirements import lava_is_ready, require_packages
from icsnn_deploy.exporters import GENERAL, export_into
from icsnn_deploy.graph.certificate import Certificate, certify
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.readout import top1
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.lava.environment import find_worker
from icsnn_deploy.parity.report import ParityReport
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.progress import Progress, silent, tracked

TIME_STEPS = 8
RECIPES = ("auto", "fast", "opi", "ic-snn", "robust-norm")
BACKENDS = ("torch", "onnxruntime", "onnxruntime-step", "nir")
LAVA_BACKENDS = ("lava-float",)
INTEGER_LAVA_BACKENDS = ("lava-float", "lava-fixed", "lava-stock")
_CALIBRATION = 512  # training images used for calibration
_VERIFIED = 64  # held-out images that are compared spike for spike


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The results of the demo. Accuracies are fractions of the held-out digits."""

    ann_accuracy: float
    integer_accuracy: float  # of the quantized network, at TIME_STEPS
    accuracy_over_time: Mapping[str, Mapping[int, float]]  # recipe: {T: accuracy}
    parity: ParityReport
    integer_parity: ParityReport
    certificate: Certificate
    integer_bundle: Path

    @property
    def passed(self) -> bool:
        """Whether every verdict is "pass"."""
        return self.parity.verdict == self.integer_parity.verdict == "pass"

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "ann_accuracy": self.ann_accuracy,
            "accuracy_over_time": {r: dict(a) for r, a in self.accuracy_over_time.items()},
            "parity": self.parity.to_json(),
            "integer_accuracy": self.integer_accuracy,
            "integer_parity": self.integer_parity.to_json(),
            "certificate": self.certificate.to_json(),
        }


def run_demo(
    out: Path, progress: Progress = silent, *, lava: bool | None = None, overwrite: bool = False
) -> DemoResult:
    """Run the complete workflow on scikit-learn's digits.

    Writes the float bundle to `out`, and the integer bundle to `out`-int8.

    Args:
        out: the bundle to write.
        progress: called at each stage.
        lava: verify on Lava as well; None: where it is set up.
        overwrite: replace existing bundles.

    Raises:
        BackendUnavailableError: a package is missing, or Lava where it is asked for; raised before
            anything is done.
        BundleError: a path exists and is not to be replaced; raised before anything is done.
    """
    for path in (out, _integer_path(out)):
        check_free(path, overwrite=overwrite)
    require_packages()
    if lava:
        find_worker()
    lava = lava_is_ready() if lava is None else lava
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network is slower on several threads
    try:
        return _run(out, progress, lava=lava, overwrite=overwrite)
    finally:
        torch.set_num_threads(threads)


def _run(out: Path, progress: Progress, *, lava: bool, overwrite: bool) -> DemoResult:
    digits = load_digits()
    model = train(digits, progress)
    calibration = digits.train_images[:_CALIBRATION]
    runs = [(name, t) for name in RECIPES for t in range(1, TIME_STEPS + 1)]
    table: dict[str, dict[int, float]] = {name: {} for name in RECIPES}
    for name, t in tracked(runs, "recipes", len(runs), progress):
        network = convert(model, calibration, _recipe(name, t), progress=None).network
        logits = TorchSimulator(network).classify(digits.test_images)
        table[name][t] = _accuracy(logits, digits.test_labels)
    bundle = _deploy(model, calibration, out, progress, overwrite=overwrite)
    beside = _integer_path(out)
    integer = _quantize(bundle, calibration, beside, progress, overwrite=overwrite)
    images, labels = digits.test_images[:_VERIFIED], digits.test_labels
    parity, exact = (
        verify(each, [*BACKENDS, *(more if lava else ())], images, labels=labels, progress=progress)
        for each, more in ((bundle, LAVA_BACKENDS), (integer, INTEGER_LAVA_BACKENDS))
    )
    ann = TorchANN(bundle.ann()).run(digits.test_images)
    quantized = integer.network()
    logits = TorchSimulator(quantized).classify(to_input_units(quantized, digits.test_images))
    return DemoResult(
        ann_accuracy=_accuracy(ann, digits.test_labels),
        integer_accuracy=_accuracy(logits, digits.test_labels),
        accuracy_over_time=table,
        parity=parity,
        integer_parity=exact,
        certificate=certify(quantized),
        integer_bundle=integer.path,
    )


def _recipe(name: str, time_steps: int) -> Recipe:
    """A recipe by name; "auto" with its least effort."""
    return Recipe(name=name, time_steps=time_steps, effort="quick" if name == "auto" else None)


def _integer_path(out: Path) -> Path:
    return out.with_name(f"{out.name}-int8")


def _deploy(
    model: nn.Module, calibration: Array, out: Path, progress: Progress, *, overwrite: bool
) -> Bundle:
    """Convert with the recipe fast, and write the bundle with its exports."""
    recipe = Recipe(name="fast", time_steps=TIME_STEPS)
    conversion = convert(model, calibration, recipe, progress=progress)
    bundle = conversion.save(out, calibration[:8], overwrite=overwrite)
    return export_into(bundle, *GENERAL, progress=progress)


def _quantize(
    bundle: Bundle, calibration: Array, out: Path, progress: Progress, *, overwrite: bool
) -> Bundle:
    """Quantize a bundle's network, and write the integer bundle with its exports."""
    result = quantize(bundle, calibration, progress=progress)
    integer = result.save(out, calibration[:8], overwrite=overwrite)
    return export_into(integer, *GENERAL, progress=progress)


def _accuracy(logits: Array, labels: Array) -> float:
    return float(np.mean(top1(logits) == labels))
