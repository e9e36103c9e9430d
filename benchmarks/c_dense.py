"""A layer of an exported C program, which reads spikes alone, beside one that reads every input.

    python benchmarks/c_dense.py PROGRAM [--rates 5,10,20,30,40,60,80,100] [--runs 100]

PROGRAM is the folder of an export in the format c with a convolution of stride 1 into 16-bit sums
(conv_rows_w8_a16), such as that of an 8-bit ResNet20. The function is taken from the program's own
network.c, and compiled as the backend c compiles it. Beside it: the same convolution without lists,
as dot products of bytes over the input channels, which compilers turn into the widest integer
instructions there are; and oneDNN's 8-bit convolution as PyTorch calls it. All three run in turn on
the same random spikes, and must give the same sums. Microseconds of one step, the least.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from icsnn_deploy.backends.torch.exact import Geometry
from icsnn_deploy.backends.torch.int8 import PackedKernel
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.native.build import compile_library, find_compiler

GEOMETRY = Geometry(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
SHAPES = ((32, 16), (16, 32), (8, 64), (4, 128))  # side of the map, channels in and out

_SOURCE = """
#include "network.c"

void events(int32_t side, int32_t channels, int16_t *sum, const icsnn_weight8 *weight,
            const icsnn_count *counts, const icsnn_channel *event)
{
    switch (channels) {
EVENT_CASES
    }
}

/* sum[y][x][o]: over 3 x 3 taps and all channels, spike times weight [o][3][3][channels]. Around
   the spikes is a border of one pixel; a row of the kernel is contiguous in both. */
static inline __attribute__((always_inline)) void read_all(
    int16_t *restrict sum, const uint8_t *restrict spike, const int8_t *restrict weight,
    int32_t side, int32_t channels)
{
    for (int32_t pixel = 0; pixel < side * side; pixel++) {
        const uint8_t *corner = spike + (pixel / side * (side + 2) + pixel % side) * channels;
        for (int32_t o = 0; o < channels; o++) {
            int32_t total = 0;
            for (int32_t row = 0; row < 3; row++) {
                const uint8_t *from = corner + row * (side + 2) * channels;
                const int8_t *with = weight + (o * 3 + row) * 3 * channels;
                for (int32_t k = 0; k < 3 * channels; k++) {
                    total += from[k] * with[k];
                }
            }
            *sum++ = (int16_t)total;
        }
    }
}

void dense(int32_t side, int32_t channels, int16_t *sum, const uint8_t *spike, const int8_t *weight)
{
    switch (channels) {
DENSE_CASES
    }
}
"""
_EVENT_CASE = (
    "    case {c}: conv_rows_w8_a16(sum, weight, counts, event,"
    " {n}, {n}, {n}, {n}, {c}, 3, 3, 1, 1); break;"
)
_DENSE_CASE = "    case {c}: read_all(sum, spike, weight, {n}, {c}); break;"


def main() -> None:
    given = _arguments()
    torch.set_num_threads(1)
    library = _compiled(given.program)
    rates = [float(each) / 100 for each in given.rates.split(",")]
    print(
        "| map | spikes of the inputs | events | dense in C | oneDNN |\n|---|---:|---:|---:|---:|"
    )
    for side, channels in SHAPES:
        for rate in rates:
            runs = _runs(library, side, channels, rate)
            least = [f"{min(times):.0f}" for times in _interleaved(runs, given.runs)]
            print(f"| {side} x {side} x {channels} | {rate:.0%} | {' | '.join(least)} |")


def _compiled(program: Path) -> ctypes.CDLL:
    """The program's functions with those of this file."""
    compiler = find_compiler()
    if compiler is None:
        raise SystemExit("no C compiler")
    text = _SOURCE
    for name, case in (("EVENT_CASES", _EVENT_CASE), ("DENSE_CASES", _DENSE_CASE)):
        text = text.replace(name, "\n".join(case.format(n=n, c=c) for n, c in SHAPES))
    names = ("network.h", "network.c", "weights.h", "weights.c")
    headers = {name: (program / name).read_bytes() for name in names}
    included = headers.pop("network.c")  # part of the file below, not one of its own
    sources = {
        **headers,
        "layer.c": text.replace('#include "network.c"', included.decode()).encode(),
    }
    return compile_library(
        "dense", sources, compiler, flags=("-DICSNN_HOST", "-O2", "-ftree-vectorize")
    )


def _runs(library: ctypes.CDLL, side: int, channels: int, rate: float) -> list[Callable[[], Array]]:
    """The three ways with the same spikes and weights; each returns sums [side, side, channels]."""
    random = np.random.default_rng(side)
    weight = random.integers(-9, 10, (channels, 3, 3, channels), dtype=np.int8)  # [out, 3, 3, in]
    spikes = (random.random((side, side, channels)) < rate).astype(np.uint8)
    mirrored = np.ascontiguousarray(weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)).astype(np.int16)
    counts = spikes.sum(2, dtype=np.uint8)
    listed = np.append(np.nonzero(spikes)[2].astype(np.uint8), np.zeros(64, np.uint8))
    padded = np.pad(spikes, ((1, 1), (1, 1), (0, 0)))
    sums = np.zeros((side, side, channels), np.int16)

    def events() -> Array:
        sums[:] = 0
        library.events(side, channels, *_addresses(sums, mirrored, counts, listed))
        return sums

    def dense() -> Array:
        library.dense(side, channels, *_addresses(sums, padded, weight))
        return sums

    packed = PackedKernel().prepare(
        torch.from_numpy(weight.transpose(0, 3, 1, 2).copy()), torch.zeros(channels), GEOMETRY
    )
    x = torch.from_numpy(spikes.transpose(2, 0, 1)[None].copy())
    x = x.to(memory_format=torch.channels_last)

    def onednn() -> Array:
        found: Array = packed(x)[0].permute(1, 2, 0).numpy()
        return found

    expected = onednn().astype(np.int16)
    for run in (events, dense):
        if not np.array_equal(run(), expected):
            raise SystemExit(f"{run.__name__}: other sums at {side} x {side} x {channels}")
    return [events, dense, onednn]


def _addresses(*arrays: Array) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


def _interleaved(runs: list[Callable[[], Array]], rounds: int) -> list[list[float]]:
    """Microseconds of every run, round by round."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            found.append((time.perf_counter() - start) * 1e6)
    return times


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--rates", default="5,10,20,30,40,60,80,100", help="per cent")
    parser.add_argument("--runs", type=int, default=100)
    return parser.parse_args()


if __name__ == "__main__":
    main()
