"""Exports of a bundle in every format that is a file or a folder of its own."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.attack.formats.bundles import _json_changed
from tests.attack.formats.format import ODD_NAMES, Format, damaged
from tests.attack.formats.networks import fit_manifest, integer_bundle

_FORMATS = ("c", "systemverilog", "testvectors", "golden", "nir")
_BACKENDS = {"c": ("c",), "nir": ("nir",)}


class Exports(Format):
    def prepare(self) -> None:
        for name in _FORMATS:
            integer_bundle(self.good / name, name)

    def make(self, rng: random.Random, work: Path) -> list[str]:
        name = rng.choice(_FORMATS)
        bundle = Path(shutil.copytree(self.good / name, work / "b"))
        path = rng.choice(_files_of_export(bundle))
        data = path.read_bytes()
        path.write_bytes(_changed(data, path.suffix, rng))
        if rng.random() < 0.1:
            path.rename(path.with_name(rng.choice(("x", "y.c", "\x1b[31m"))))
        elif rng.random() < 0.9:
            fit_manifest(bundle)
        asked = rng.choice((*_BACKENDS.get(name, ()), None))
        return ["verify", str(bundle), *(["--backend", asked] if asked else [])]


def _files_of_export(bundle: Path) -> list[Path]:
    ours = ("manifest.json", "graph.safetensors", "report.json", "samples.safetensors")
    return sorted(p for p in bundle.rglob("*") if p.is_file() and p.name not in ours)


def _changed(data: bytes, ending: str, rng: random.Random) -> bytes:
    if ending == ".json" and rng.random() < 0.6:
        return _json_changed(data, rng)
    how = rng.random()
    if how < 0.6 or not data:
        return damaged(data, rng)
    if how < 0.8:  # another digit
        places = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
        at = rng.choice(places or [0])
        return data[:at] + str(rng.randrange(10)).encode() + data[at + 1 :]
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(ODD_NAMES).encode("utf-8", "surrogatepass") + data[at:]
