"""ONNX models to convert."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from tests.attack.formats.format import Format
from tests.support.onnx_models import MODELS
from tests.support.onnx_mutations import mutated


class OnnxModels(Format):
    def prepare(self) -> None:
        for number, make in enumerate(MODELS.values()):
            (self.good / f"{number}.onnx").write_bytes(make().SerializeToString())
        np.save(self.good / "x.npy", np.random.default_rng(0).random((2, 2, 6, 6), np.float32))

    def make(self, rng: random.Random, work: Path) -> list[str]:
        import onnx

        model = onnx.load(self.good / f"{rng.randrange(len(MODELS))}.onnx")
        (work / "x.onnx").write_bytes(mutated(model, rng.randrange(2**60)))
        axes = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim][1:]
        shape = [size if 0 < size < 64 else 3 for size in axes[:4]] or [6]
        np.save(work / "x.npy", np.random.default_rng(0).random((2, *shape), np.float32))
        return [
            *("convert", str(work / "x.onnx"), "--calibration", str(work / "x.npy")),
            *("--out", str(work / "o"), "--recipe", "ic-snn", "--time-steps", "2"),
        ]
