"""The folder that an evaluation continues from: shards with a seal that fits, settings."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from icsnn_deploy.bundle.manifest import json_bytes
from tests.attack.formats.bundles import _json_changed, _value_changed
from tests.attack.formats.format import Format, damaged
from tests.attack.formats.networks import float_bundle, images


class Shards(Format):
    def prepare(self) -> None:
        float_bundle(self.good / "b")
        np.save(self.good / "x.npy", images())
        np.save(self.good / "y.npy", np.array([0, 1, 2, 3]))
        command = [sys.executable, "-m", "icsnn_deploy", *self._arguments(self.good / "shards")]
        subprocess.run(command, check=False, capture_output=True)
        assert len(list((self.good / "shards").glob("shard-*"))) == 2

    def _arguments(self, out: Path) -> list[str]:
        return [
            *("evaluate", str(self.good / "b"), "--images", str(self.good / "x.npy")),
            *("--labels", str(self.good / "y.npy"), "--backend", "reference"),
            *("--parity-backend", "torch", "--early-exit", "0.9"),
            *("--shard-size", "2", "--out", str(out)),
        ]

    def make(self, rng: random.Random, work: Path) -> list[str]:
        out = Path(shutil.copytree(self.good / "shards", work / "shards"))
        (out / "result.json").unlink(missing_ok=True)
        settings = json.loads((out / "settings.json").read_text())
        path = rng.choice(sorted(out.glob("shard-*")))
        how = rng.random()
        if how < 0.75:
            content = json.loads(path.read_text())
            content.pop("seal")
            for _ in range(rng.choice((1, 1, 2))):
                content = _value_changed(content, rng)
            if isinstance(content, dict):
                number = int(path.stem.split("-")[1])
                sealed = json.dumps(content)
                content = json.loads(sealed)
                seal = hashlib.sha256(json_bytes([settings, number, content])).hexdigest()
                content = {**content, "seal": seal}
            path.write_bytes(json.dumps(content).encode())
        elif how < 0.85:
            path.write_bytes(damaged(path.read_bytes(), rng))
        elif how < 0.95:
            file = out / "settings.json"
            file.write_bytes(_json_changed(file.read_bytes(), rng))
        else:
            path.rename(
                out / rng.choice(("shard-99999999.json", "shard-x.json", "\x1b[31m", "a\nb"))
            )
        return self._arguments(out)
