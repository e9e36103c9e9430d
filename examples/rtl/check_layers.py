"""Simulate if_layer.sv on test vectors: python check_layers.py VECTORS [--simulator verilator]"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = [str(HERE / name) for name in ("if_layer.sv", "if_layer_tb.sv")]
TOP = "if_layer_tb"


class Vectors:
    """A folder that icsnn export --format testvectors wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        index = json.loads((folder / "network.json").read_text())
        self.steps = index.get("recorded_steps", index["time_steps"])
        self.samples, self.files = index["samples"], index["files"]
        self.nodes = {node["name"]: node for node in index["nodes"]}

    def file(self, node: Any, role: str) -> tuple[str, Any]:
        """Path and description of a node's file."""
        name = node["files"][role]
        return str(self.folder / name), self.files[name]


def layer(vectors: Vectors, node: Any) -> dict[str, Any]:
    """Parameters of the test bench for a population; ValueError where if_layer.sv can't hold it."""
    connection = vectors.nodes[node["inputs"][0]]
    if node["hard_reset"] or connection["kind"] not in ("conv", "linear"):
        raise ValueError("one convolution or linear layer and soft reset are needed")
    source = vectors.nodes[connection["inputs"][0]]
    while source["kind"] == "flatten":
        source = vectors.nodes[source["inputs"][0]]
    if source["kind"] not in ("input", "if"):
        raise ValueError(f"takes {source['name']} ({source['kind']}), not spikes or the input")
    weight_file, weight = vectors.file(connection, "weight")
    before, after, kernel = source["result"], node["result"], weight["shape"][2:]
    stride, padding = connection.get("stride", []), connection.get("padding", [])
    if connection["kind"] == "linear":
        before = weight["shape"][1:]
    elif connection["groups"] > 1 or any(d > 1 for d in connection["dilation"]):
        raise ValueError("groups and dilation of 1 are needed")
    sizes: dict[str, Any] = {}
    for name, values, usual in (
        ("{}_IN", before[1:], 1),
        ("{}_OUT", after[1:], 1),
        ("KERNEL_{}", kernel, 1),
        ("STRIDE_{}", stride, 1),
    ):
        height, width = [usual] * (2 - len(values)) + list(values)
        axes = "YX" if name.endswith("{}") else "HW"
        sizes |= {name.format(axes[0]): height, name.format(axes[1]): width}
    top, left = [0] * (2 - len(padding)) + [pair[0] for pair in padding]
    bias_file, bias = vectors.file(connection, "bias")
    threshold_file, threshold = vectors.file(node, "v_threshold")
    init_file, init = vectors.file(node, "v_init")
    spikes_file, _ = vectors.file(node, "spikes")
    x_file, x = vectors.file(source, "spikes" if "spikes" in source["files"] else "values")
    found = {
        **sizes,
        "C_IN": before[0],
        "C_OUT": after[0],
        "PAD_TOP": top,
        "PAD_LEFT": left,
        "STEPS": vectors.steps,
        "SAMPLES": vectors.samples,
        "X_STEPS": vectors.steps if "step" in x["axes"] else 1,
        "X_WORD_BITS": x["bits"],
        "X_SIGNED": int(x["signed"]),
        "WEIGHT_BITS": weight["bits"],
        "BIAS_BITS": bias["bits"],
        "THRESHOLD_BITS": threshold["bits"],
        "INIT_BITS": init["bits"],
        "CURRENT_BITS": node["current_bits"],
        "V_BITS": node["potential_bits"],
        "THRESHOLDS": math.prod(threshold["shape"]),
        "INITS": math.prod(init["shape"]),
        "WEIGHT_FILE": weight_file,
        "BIAS_FILE": bias_file,
        "THRESHOLD_FILE": threshold_file,
        "INIT_FILE": init_file,
        "X_FILE": x_file,
        "SPIKES_FILE": spikes_file,
    }
    found["HAS_INTERNALS"] = int("v" in node["files"])
    if found["HAS_INTERNALS"]:  # memories have the width of the files' words
        (found["CURRENT_FILE"], current), (found["V_FILE"], v) = (
            vectors.file(node, role) for role in ("current", "v")
        )
        found |= {"CURRENT_BITS": current["bits"], "V_BITS": v["bits"]}
    return found


def simulate(parameters: dict[str, Any], simulator: str, folder: Path) -> tuple[int, str]:
    """Build and run the test bench; returns its exit code and what it printed."""
    texts = {k: f'"{v}"' if isinstance(v, str) else str(v) for k, v in parameters.items()}
    if simulator == "iverilog":
        given = [f"-P{TOP}.{name}={text}" for name, text in texts.items()]
        program = folder / "layer.vvp"
        build = ["iverilog", "-g2012", "-Wall", *given, "-s", TOP, "-o", str(program), *SOURCES]
        run = ["vvp", "-n", str(program)]
    else:
        given = [f"-G{name}={text}" for name, text in texts.items()]
        flags = [
            "--binary",
            "-Wall",
            "-Wno-UNUSEDSIGNAL",
            "-O3",
            "--top-module",
            TOP,
            "--Mdir",
            str(folder),
            *given,
        ]
        build = ["verilator", *flags, *SOURCES]
        run = [str(folder / f"V{TOP}")]
    for command in (build, run):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or command is run:
            return done.returncode, done.stdout + done.stderr
    raise AssertionError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--simulator", choices=["iverilog", "verilator"], default="iverilog")
    parser.add_argument("--layer", help="a population; without it, each that the example can hold")
    options = parser.parse_args()
    if shutil.which(options.simulator) is None:
        sys.exit(f"{options.simulator}: not found; apt-get install {options.simulator}")
    vectors, failed, checked = Vectors(options.vectors), 0, 0
    for name, node in vectors.nodes.items():
        if node["kind"] != "if" or options.layer not in (None, name):
            continue
        try:
            parameters = layer(vectors, node)
        except ValueError as error:
            print(f"{name}: skipped, {error}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            code, printed = simulate(parameters, options.simulator, Path(folder))
        lines = [line for line in printed.splitlines() if "compared" in line or code]
        print(f"{name}:", "\n  ".join(lines))
        checked, failed = checked + 1, failed + (code != 0)
    print(f"{checked} layers checked with {options.simulator}, {failed} differ")
    return int(failed > 0 or not checked)


if __name__ == "__main__":
    sys.exit(main())
