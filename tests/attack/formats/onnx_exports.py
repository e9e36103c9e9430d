"""Exports to ONNX in a bundle: the content, and the hashes that guard it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from icsnn_deploy.exporters.onnx.metadata import BLANK, CONTENT_KEY, stamp_content
from tests.attack.formats.format import Format, damaged
from tests.attack.formats.networks import fit_manifest, integer_bundle
from tests.support.onnx_mutations import mutated

_BACKENDS = {"onnx": ("onnxruntime", "openvino"), "onnx-step": ("onnxruntime-step",)}


class OnnxExports(Format):
    def prepare(self) -> None:
        integer_bundle(self.good / "onnx", "onnx")
        integer_bundle(self.good / "onnx-step", "onnx-step")

    def make(self, rng: random.Random, work: Path) -> list[str]:
        import onnx

        name = rng.choice(list(_BACKENDS))
        bundle = Path(shutil.copytree(self.good / name, work / "b"))
        path = next(bundle.glob("*.onnx"))
        if rng.random() < 0.85:
            data = mutated(onnx.load(path), rng.randrange(2**60))
            data = _stamped(data) if rng.random() < 0.8 else data
        else:
            data = damaged(path.read_bytes(), rng)
        path.write_bytes(data)
        if rng.random() < 0.95:
            fit_manifest(bundle)
        backend = rng.choice((_BACKENDS[name][0], *_BACKENDS[name]))
        only = ["--behavior-only"] if rng.random() < 0.8 else []
        return ["verify", str(bundle), "--backend", backend, *only]


def _stamped(data: bytes) -> bytes:
    """With the hash of the content made to fit, where it is a model."""
    import onnx

    try:
        model = onnx.ModelProto.FromString(data)
        for entry in model.metadata_props:
            if entry.key == CONTENT_KEY:
                entry.value = BLANK
        return stamp_content(model.SerializeToString(deterministic=True)) or data
    except Exception:
        return data
