"""NIR files (HDF5)."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attack.formats.format import ODD_NAMES, ODD_NUMBERS, Format, damaged
from tests.hostile.test_nir_fuzz import DTYPES, KINDS, Mutation, originals

_VALUES: tuple[Any, ...] = (
    0,
    1,
    -1,
    2,
    10**9,
    "3",
    None,
    2.0,
    [],
    {},
    "",
    "direct",
    "rate",
    "v_reset",
    [[1, 2]],
)
_KEYS = (
    *("time_steps", "readout_start", "reset", "fires", "dt", "encoding", "input_dtype", "order"),
    *("input_unit", "profile", "v_init_encoding", "nodes", "name", "sum", "terms", "was", "types"),
    *("shapes", "conv"),
)
_NODES = ("conv", "deep", "if", "if2", "scale", "fc", "head", "input", "nobody", "")


class NirFiles(Format):
    def prepare(self) -> None:
        for name, data in originals().items():
            (self.good / name).write_bytes(data)

    def make(self, rng: random.Random, work: Path) -> list[str]:
        name = rng.choice(("nir", "nir-portable", "nir-relay", "parts", "hard", "foreign"))
        data = (self.good / name).read_bytes()
        path = work / "x.nir"
        path.write_bytes(data)
        if rng.random() < 0.85:
            with h5py.File(path, "a") as file, np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(rng.choice((1, 1, 2, 3))):
                    _mutation(rng).apply(file)
        if rng.random() < 0.2:
            path.write_bytes(damaged(path.read_bytes(), rng))
        asks = [] if name != "foreign" else ["--reset", "subtract", "--time-steps", "3"]
        return ["import", str(path), "--out", str(work / "o"), *asks]


def _mutation(rng: random.Random) -> Mutation:
    kind = rng.choice(sorted(KINDS))
    keys = rng.sample(_KEYS, rng.choice((1, 1, 2)))
    return Mutation(
        kind=kind,
        pick=rng.randrange(2**20),
        value=_value(rng),
        text=rng.choice((*ODD_NAMES, "IF", "Conv2d", "Input", "LIF", json.dumps({"nodes": 3}))),
        note={key: rng.choice((*_VALUES, rng.choice(ODD_NAMES))) for key in keys},
        edges=[(rng.choice(_NODES), rng.choice(_NODES)) for _ in range(rng.randrange(3))],
    )


def _value(rng: random.Random) -> Any:
    how = rng.randrange(4)
    if how == 0:
        return rng.choice(ODD_NUMBERS)
    if how == 1:
        return rng.choice(ODD_NAMES).replace("\0", "")
    kind = np.dtype(rng.choice(DTYPES))
    shape = tuple(rng.randrange(6) for _ in range(rng.randrange(5)))
    if kind.kind in "SV":
        return np.zeros(shape, "S3")
    return np.full(shape, float(rng.choice((0, 1, -1, 0.5, 1e300, float("nan"))))).astype(kind)
