"""Bundles: the manifest, the graph file, the report, samples."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.attack.formats.format import ODD_NAMES, ODD_NUMBERS, Format, damaged
from tests.attack.formats.networks import fit_manifest, float_bundle, images, integer_bundle

_COMMANDS = (
    *(("inspect",), ("inspect", "--json"), ("verify",), ("verify", "--backend", "nir")),
    *(("check", "--target", "loihi2"), ("check", "--target", "generic", "--json")),
    *(("export", "--format", "nir"), ("verify", "--backend", "c"), ("verify", "--json")),
)
_RARE = (  # much of their time is not about the file
    ("export", "--format", "onnx"),
    ("split", "--host-first-layer", "--out", "{work}/o"),
    ("report", "--out", "{work}/o.html"),
    ("deploy", "--target", "generic", "--out", "{work}/o"),
    ("quantize", "--calibration", "{good}/x.npy", "--out", "{work}/o"),
    ("evaluate", "--images", "{good}/x.npy", "--labels", "{good}/y.npy"),
    ("inspect", "--images", "{good}/x.npy"),
)


class Bundles(Format):
    def prepare(self) -> None:
        float_bundle(self.good / "float")
        integer_bundle(self.good / "integer", "nir")
        np.save(self.good / "x.npy", images())
        np.save(self.good / "y.npy", np.array([0, 1, 2, 3]))

    def make(self, rng: random.Random, work: Path) -> list[str]:
        bundle = Path(shutil.copytree(self.good / rng.choice(("float", "integer")), work / "b"))
        fits = rng.random() < 0.8
        what = rng.choice(("graph", "graph", "graph", "manifest", "report", "file", "links"))
        if what == "graph":
            names = [n for n in ("graph.safetensors", "ann.safetensors") if (bundle / n).exists()]
            path = bundle / rng.choice(names)
            path.write_bytes(_graph_changed(path.read_bytes(), rng))
        elif what == "report":
            (bundle / "report.json").write_bytes(
                _json_changed((bundle / "report.json").read_bytes(), rng)
            )
        elif what == "file":
            path = rng.choice(sorted(p for p in bundle.iterdir() if p.is_file()))
            path.write_bytes(damaged(path.read_bytes(), rng))
        elif what == "links":
            _links(rng, bundle)
        if fits and what in ("graph", "report", "file"):
            with contextlib.suppress(ValueError, OSError, KeyError, TypeError, AttributeError):
                fit_manifest(bundle)
        path = bundle / "manifest.json"
        if path.is_file() and (what == "manifest" or rng.random() < 0.1):
            path.write_bytes(_json_changed(path.read_bytes(), rng))
        command = rng.choice(_COMMANDS if rng.random() < 0.8 else _RARE)
        options = [each.format(work=work, good=self.good) for each in command[1:]]
        return [command[0], str(bundle), *options]


def _links(rng: random.Random, bundle: Path) -> None:
    path = rng.choice(sorted(bundle.iterdir()))
    path.unlink() if path.is_file() else shutil.rmtree(path)
    how = rng.randrange(5)
    if how == 0:
        path.symlink_to("/etc/passwd")
    elif how == 1:
        path.mkdir()
    elif how == 2:
        os.mkfifo(path)
    elif how == 3:
        path.write_bytes(b"")


def _json_changed(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return damaged(data, rng)
    try:
        value = json.loads(data)
    except ValueError:
        return damaged(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _value_changed(value, rng)
    text = json.dumps(value)
    if rng.random() < 0.05:
        text = rng.choice(
            ("[" * 100_000, text.replace("0", "NaN"), text.replace('"', "'"), "\ufeff" + text)
        )
    return text.encode("utf-8", "surrogatepass")


def _value_changed(value: Any, rng: random.Random) -> Any:
    """The JSON value with one change somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.92:
        key = rng.choice(list(value))
        how = rng.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return {rng.choice(ODD_NAMES) if k == key else k: v for k, v in value.items()}
        return {**value, key: _value_changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.92:
        at = rng.randrange(len(value))
        how = rng.random()
        if how < 0.1:
            return value[:at] + value[at + 1 :]
        if how < 0.15:
            return value + value[at:]
        return [*value[:at], _value_changed(value[at], rng), *value[at + 1 :]]
    return rng.choice(
        (
            *ODD_NUMBERS,
            *ODD_NAMES,
            None,
            True,
            [],
            {},
            [[]],
            float("nan"),
            10**400,
            "\ud800",
            "x" * 10**5,
        )
    )


def _graph_changed(data: bytes, rng: random.Random) -> bytes:
    """A graph file with a change in its header, the description of the graph, or its bytes."""
    if rng.random() < 0.15:
        return damaged(data, rng)
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    how = rng.random()
    if how < 0.75:
        described = header["__metadata__"]
        key = rng.choice(list(described))
        try:
            inner = json.loads(described[key])
        except ValueError:
            inner = described[key]
        for _ in range(rng.choice((1, 1, 2))):
            inner = _value_changed(inner, rng)
        described[key] = inner if isinstance(inner, str) else json.dumps(inner)
    elif how < 0.85:
        header = _value_changed(header, rng)
    else:
        changed = bytearray(body)
        for _ in range(rng.choice((1, 4))):
            at = rng.randrange(max(1, len(changed) - 4))
            changed[at : at + 4] = struct.pack(
                "<f", rng.choice((float("nan"), float("inf"), 1e38, 0.0, -1.0))
            )
        body = bytes(changed)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    size = len(text) if rng.random() < 0.97 else rng.choice((0, 2**40, 2**63))
    return struct.pack("<Q", size) + text + bytes(body)
