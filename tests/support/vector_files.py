"""Test vectors read and computed by their description alone, as a test bench would."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.graph.neuron import Array


class VectorFolder:
    """A folder of test vectors, read without the package."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = json.loads((path / "network.json").read_text())
        self.nodes: list[dict[str, Any]] = self.index["nodes"]
        self.files: dict[str, dict[str, Any]] = self.index["files"]
        self._read: dict[str, Array] = {}

    def read(self, file: str) -> Array:
        """The values of a file in the shape of its axes, digit by digit."""
        if file not in self._read:
            self._read[file] = self._values(file)
        return self._read[file]

    def _values(self, file: str) -> Array:
        entry = self.files[file]
        bits, digits = entry["bits"], -(-entry["bits"] // 4)
        lines = (self.path / file).read_text(encoding="ascii").splitlines()
        assert all(len(line) == digits for line in lines), file
        words = [int(line, 16) for line in lines]
        assert all(word < 2**bits for word in words), file
        if entry["signed"]:
            words = [word - 2**bits if word >= 2 ** (bits - 1) else word for word in words]
        return np.array(words, np.int64).reshape(entry["shape"])

    def run(self) -> dict[str, Array]:
        """Every file of spikes, currents, potentials and sums, computed from the other files."""
        steps, start = self.index["time_steps"], self.index["readout_start"]
        found: dict[str, list[list[Array]]] = {}
        sums = []
        for sample in range(self.index["samples"]):
            v: dict[str, Array] = {}
            traces: dict[str, list[Array]] = {}
            for step in range(steps):
                values: dict[str, Array] = {}
                for node in self.nodes:
                    sources = [values[name] for name in node["inputs"]]
                    parameters = {
                        role: self.read(file)
                        for role, file in node["files"].items()
                        if "sample" not in self.files[file]["axes"]
                    }
                    if node["kind"] == "input":
                        values[node["name"]] = self._input(node, sample, step)
                    elif node["kind"] == "if":
                        record = _fire(node, sources[0], v, parameters)
                        values[node["name"]] = record["spikes"]
                        for role, array in record.items():
                            if role in node["files"]:
                                traces.setdefault(node["files"][role], []).append(array)
                    else:
                        values[node["name"]] = _linear(node, sources, parameters)
                output = self.nodes[-1]
                current = values[output["name"]]
                traces.setdefault(output["files"]["current"], []).append(current)
            for file, arrays in traces.items():
                found.setdefault(file, []).append(arrays)
            sums.append(np.sum(traces[output["files"]["current"]][start:], axis=0))
        return {
            **{file: np.array(arrays) for file, arrays in found.items()},
            output["files"]["sum"]: np.array(sums),
        }

    def _input(self, node: dict[str, Any], sample: int, step: int) -> Array:
        ((_, file),) = node["files"].items()
        values = self.read(file)
        place = (sample, step) if "step" in self.files[file]["axes"] else (sample,)
        found: Array = values[place]
        return found


def _fire(
    node: dict[str, Any], current: Array, v: dict[str, Array], parameters: dict[str, Array]
) -> dict[str, Array]:
    """One step of a population; v is changed."""
    spread = {name: _spread(values, current) for name, values in parameters.items()}
    u = v.get(node["name"], spread["v_init"]) + current
    spikes = (u >= spread["v_threshold"]).astype(np.int64)
    reset = spread["v_reset"] if node["hard_reset"] else u - spread["v_threshold"]
    v[node["name"]] = np.where(spikes, reset, u)
    return {"spikes": spikes, "current": current, "v": v[node["name"]]}


def _linear(node: dict[str, Any], sources: list[Array], parameters: dict[str, Array]) -> Array:
    x = sources[0]
    match node["kind"]:
        case "conv":
            return _conv(node, x, parameters["weight"], parameters["bias"])
        case "linear":
            result: Array = parameters["weight"] @ x + parameters["bias"]
            return result
        case "scale":
            scaled: Array = _spread(parameters["scale"], x) * x + _spread(parameters["shift"], x)
            return scaled
        case "flatten":
            return x.reshape(-1)
        case "add":
            total: Array = np.sum(sources, axis=0)
            return total
        case "output":
            return x
        case kind:
            raise AssertionError(kind)


def _spread(values: Array, x: Array) -> Array:
    """One value per neuron of those per channel or neuron."""
    whole = values if values.shape == x.shape else values.reshape(-1, *(1,) * (x.ndim - 1))
    return np.broadcast_to(whole, x.shape)


def _conv(node: dict[str, Any], x: Array, weight: Array, bias: Array) -> Array:
    """A convolution, position by position."""
    padded = np.pad(x, [(0, 0), *node["padding"]])
    outputs, per_group, *kernel = weight.shape
    group_size = outputs // node["groups"]
    y = np.zeros(node["result"], np.int64)
    for place in product(*map(range, y.shape[1:])):
        geometry = zip(place, kernel, node["stride"], node["dilation"], strict=True)
        taps = tuple(slice(p * s, p * s + d * (k - 1) + 1, d) for p, k, s, d in geometry)
        for o in range(outputs):
            first = o // group_size * per_group
            patch = padded[(slice(first, first + per_group), *taps)]
            y[(o, *place)] = bias[o] + (weight[o] * patch).sum()
    return y
