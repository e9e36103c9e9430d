"""Run a quantized bundle in plain NumPy against its golden spikes: python check_golden.py BUNDLE"""

import json
import sys
from typing import Any

import numpy as np

TYPES = {"I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "u1", "F32": "<f4"}


def read(path: str) -> Any:  # a safetensors file: header length, JSON header, tensors back to back
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    text = header.pop("__metadata__", {}).get("icsnn-graph", "null")
    for name, entry in header.items():
        a, b = (start + offset for offset in entry["data_offsets"])
        header[name] = np.frombuffer(data[a:b], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return header, json.loads(text)


def conv(x: Any, node: Any, weight: Any, bias: Any) -> Any:  # tap by tap; exact below 2^53
    x = np.pad(x, [(0, 0), (0, 0), *node["padding"]]).astype(float)
    kernel, stride, dilation = weight.shape[2:], node["stride"], node["dilation"]
    sizes = zip(x.shape[2:], kernel, stride, dilation)
    room = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in sizes]
    x = x.reshape(len(x), node["groups"], -1, *x.shape[2:])
    w = weight.reshape(node["groups"], -1, *weight.shape[1:]).astype(float)
    y = np.zeros((len(x), *w.shape[:2], *room))
    for tap in np.ndindex(*kernel):
        starts = [k * d for k, d in zip(tap, dilation)]
        slices = [slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(starts, stride, room)]
        y += np.einsum("goc,bgc...->bgo...", w[(..., *tap)], x[(..., *slices)], optimize=True)
    return y.reshape(len(x), -1, *room).astype(int) + bias.reshape(-1, *[1] * len(room))


def main(bundle: str) -> int:
    parameters, network = read(f"{bundle}/graph.safetensors")
    golden, _ = read(f"{bundle}/golden.safetensors")
    x, y, sums, wrong, compared = golden["inputs"].astype(int), dict[str, Any](), 0, 0, 0
    v = {n[:-7]: np.floor(a).astype(int) for n, a in parameters.items() if n.endswith("/v_init")}
    for t in range(network["time_steps"]):
        for node in network["nodes"]:
            name, kind = node["name"], node["kind"]
            p = {k[len(name) + 1 :]: a for k, a in parameters.items() if k.startswith(name + "/")}
            source = [y[n] for n in node["inputs"]] or [x if node["encoding"] == "direct" else x[t]]
            y[name] = source[0]  # input and output pass on
            if kind == "conv":
                y[name] = conv(source[0], node, p["weight"], p["bias"])
            elif kind == "linear":
                y[name] = source[0] @ p["weight"].T.astype(int) + p["bias"]
            elif kind == "scale":
                y[name] = source[0] * p["scale"].astype(int) + p["shift"]
            elif kind == "flatten":
                y[name] = source[0].reshape(len(source[0]), -1)
            elif kind == "add":
                y[name] = np.sum(source, axis=0)
            elif kind == "if":
                v[name] = v[name] + source[0]
                y[name] = (v[name] >= p["v_threshold"]).astype(int)
                soft = v[name] - p["v_threshold"]
                reset = np.floor(p["v_reset"]).astype(int) if "v_reset" in p else soft
                v[name] = np.where(y[name], reset, v[name])
                bits = np.packbits(y[name].reshape(len(y[name]), -1).astype(np.uint8), axis=-1)
                wrong += int(np.unpackbits(bits ^ golden[f"spikes/{name}"][t]).sum())
                compared += y[name].size
        sums = sums + (t >= network["readout_start"]) * y[network["nodes"][-1]["name"]]
    same = np.array_equal(sums, golden["logit_sums"])
    print(f"{wrong} of {compared:,} spikes differ, logits {'equal' if same else 'DIFFER'}")
    return int(wrong > 0 or not same)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
