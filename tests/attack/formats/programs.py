"""Exported programs of PyTorch (.pt2): their records, names and descriptions."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np

from tests.attack.formats.bundles import _value_changed
from tests.attack.formats.format import ODD_NAMES, Format, damaged
from tests.attack.formats.networks import images


class Programs(Format):
    def prepare(self) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
        model = nn.Sequential(*body, nn.Linear(48, 4)).eval()
        size = torch.export.Dim("batch", min=1, max=64)
        for name, shapes in (("fixed", None), ("any", ({0: size},))):
            program = torch.export.export(model, (torch.zeros(4, 2, 6, 6),), dynamic_shapes=shapes)
            torch.export.save(program, self.good / f"{name}.pt2")
        np.save(self.good / "x.npy", images(8))

    def make(self, rng: random.Random, work: Path) -> list[str]:
        data = (self.good / rng.choice(("fixed.pt2", "any.pt2"))).read_bytes()
        how = rng.random()
        data = damaged(data, rng) if how < 0.15 else _records_changed(data, rng)
        (work / "x.pt2").write_bytes(data)
        return [
            *("convert", str(work / "x.pt2"), "--calibration", str(self.good / "x.npy")),
            *("--out", str(work / "o"), "--recipe", "ic-snn", "--time-steps", "2"),
        ]


def _records_changed(data: bytes, rng: random.Random) -> bytes:
    """The archive with one or two of its records changed, renamed, lost or added."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        records = {entry.filename: old.read(entry) for entry in old.infolist()}
    described = [name for name in records if name.endswith(".json")]
    for _ in range(rng.choice((1, 1, 2))):
        how = rng.random()
        name = rng.choice(list(records) if how > 0.6 else described)
        if name not in records:
            continue
        if how < 0.6:
            records[name] = _json_changed(records[name], rng)
        elif how < 0.8:
            records[name] = damaged(records[name], rng)
        elif how < 0.9:
            del records[name]
        else:
            odd = rng.choice(("data/aotinductor/model.so", "../x", *ODD_NAMES))
            records[f"{name.partition('/')[0]}/{odd}"] = records[name]
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", rng.choice((0, 0, 8))) as new:
        warnings.simplefilter("ignore")
        for name, body in records.items():
            new.writestr(name, body)
    return stream.getvalue()


def _json_changed(data: bytes, rng: random.Random) -> bytes:
    """A description with one to three changes, deep inside most of the time."""
    try:
        value = json.loads(data)
    except ValueError:
        return damaged(data, rng)
    for _ in range(rng.choice((1, 1, 3))):
        value = _value_changed(value, rng)
    return json.dumps(value).encode("utf-8", "surrogatepass")
