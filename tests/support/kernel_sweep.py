"""Sweep over shapes of convolutions: what a proof accepts is right, and callers always are.

    python -m tests.support.kernel_sweep [--count 10000] [--seed 0] [--isa default,AVX2,...]

Each instruction set is tried in a child process, since oneDNN reads ONEDNN_MAX_CPU_ISA once, when
it starts; one above the processor's own changes nothing. A child that crashes names its shape. Each
shape runs in 8 bits and in float32, through the same code as the simulator, and is compared with
NumPy's sums of fresh random inputs. Refused shapes are listed; a wrong result ends in exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ISAS = ("default", "AVX2", "AVX512_CORE", "AVX512_CORE_VNNI")
ROOT = Path(__file__).parents[2]
_MAX_PRODUCTS = 8_000_000  # of one case, so that NumPy keeps up


@dataclass(frozen=True, kw_only=True)
class Case:
    """One shape and how its input lies in memory."""

    batch: int
    channels: int
    outputs: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    channels_last: bool
    as_bytes: bool
    seed: int


def cases(count: int, seed: int) -> list[Case]:
    """Random shapes, half of them with kernels and channels that processors block by."""
    rng = random.Random(seed)
    found: list[Case] = []
    while len(found) < count:
        case = _case(rng)
        reach = [d * (k - 1) + 1 for d, k in zip(case.dilation, case.kernel, strict=True)]
        room = [n + 2 * p - r for n, p, r in zip(case.size, case.padding, reach, strict=True)]
        if min(room) < 0:
            continue
        places = [r // s + 1 for r, s in zip(room, case.stride, strict=True)]
        window = case.kernel[0] * case.kernel[1] * case.channels // case.groups
        if case.batch * places[0] * places[1] * case.outputs * window <= _MAX_PRODUCTS:
            found.append(case)
    return found


def _case(rng: random.Random) -> Case:
    blocked = rng.random() < 0.5
    widths, sides = ((4, 8, 16, 24, 32, 48, 64), (1, 3, 4, 8, 12, 16)) if blocked else ((), ())
    channels = rng.choice(widths) if blocked else rng.randint(1, 64)
    outputs = rng.choice(widths) if blocked else rng.randint(1, 64)
    groups = rng.choice([1, 1, 1, 2, channels])
    if channels % groups:
        groups = 1
    outputs = max(groups, outputs - outputs % groups)
    kernel = [rng.choice(sides) if blocked else rng.randint(1, 16) for _ in "hw"]
    dilation = [rng.choice([1, 1, 1, 2, 3]) for _ in "hw"]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = [rng.choice([0, r // 2, r - 1, rng.randint(0, r + 2)]) for r in reach]
    return Case(
        batch=rng.choice([1, 1, 2, 3, 8, 9, 16, 17, 32, 33, rng.randint(1, 33)]),
        channels=channels,
        outputs=outputs,
        size=(rng.randint(1, 20), rng.randint(1, 20)),
        kernel=(kernel[0], kernel[1]),
        stride=(rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2, 3])),
        padding=(padding[0], padding[1]),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
        channels_last=rng.random() < 0.5,
        as_bytes=rng.random() < 0.5,
        seed=rng.randrange(2**31),
    )


def sweep(found: list[Case], state: Path) -> dict[str, list[str]]:
    """Run the cases in this process; what was refused, by kernel, and what was wrong."""
    import torch

    from icsnn_deploy.backends.reference import evaluate
    from icsnn_deploy.backends.torch.float32 import Float32Convolution
    from icsnn_deploy.backends.torch.int8 import Int8Convolution
    from icsnn_deploy.graph.nodes import Conv

    result: dict[str, list[str]] = {"refused 8-bit": [], "refused float32": [], "wrong": []}
    for case in found:
        state.write_text(json.dumps(asdict(case)))
        rng = np.random.default_rng(case.seed)
        shape = (case.outputs, case.channels // case.groups, *case.kernel)
        node = Conv(
            name="conv",
            inputs=("input",),
            weight=rng.integers(-127, 128, shape, np.int32),
            bias=rng.integers(-99, 100, case.outputs, np.int32),
            stride=case.stride,
            padding=tuple((p, p) for p in case.padding),
            dilation=case.dilation,
            groups=case.groups,
        )
        largest_row = int(np.abs(node.weight).reshape(case.outputs, -1).sum(axis=1).max())
        largest = min(127, (2**24 - 100) // max(1, largest_row))
        x = rng.integers(0, largest + 1, (case.batch, case.channels, *case.size))
        expected = evaluate(node, x.astype(np.float64))  # sums below 2^24
        layout = torch.channels_last if case.channels_last else torch.contiguous_format
        floats = torch.from_numpy(x).float().contiguous(memory_format=layout)
        given = floats.to(torch.uint8) if case.as_bytes else floats
        in_8_bits, in_float32 = Int8Convolution(node), Float32Convolution(node)
        packed = in_8_bits(given)
        plain = in_float32(floats)
        if packed is None:
            result["refused 8-bit"].append(f"{case}: {in_8_bits.proven.refused}")
        if in_float32.proven.refused is not None:
            result["refused float32"].append(f"{case}: {in_float32.proven.refused}")
        for name, y in (("8-bit", packed), ("float32", plain)):
            if y is not None and not np.array_equal(y.numpy(), expected):
                result["wrong"].append(f"{name} {case}")
    return result


def run_child(isa: str, count: int, seed: int) -> dict[str, list[str]]:
    """The sweep in a process of its own; raises RuntimeError where it crashes."""
    environment = dict(os.environ, ICSNN_KERNEL_CACHE="", PYTHONPATH=str(ROOT))
    environment.pop("ONEDNN_MAX_CPU_ISA", None)
    if isa != "default":
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "case.json"
        child = subprocess.run(
            [sys.executable, __file__, "--child", str(state), f"--count={count}", f"--seed={seed}"],
            env=environment,
            capture_output=True,
            text=True,
        )
        if child.returncode:
            last = state.read_text() if state.is_file() else "before the first shape"
            raise RuntimeError(f"{isa}: exit {child.returncode} at {last}\n{child.stderr[-2000:]}")
        found: dict[str, list[str]] = json.loads(child.stdout.splitlines()[-1])
        return found


def processor() -> str:
    """Model, vector instructions, and what torch uses of them."""
    import torch

    model, flags = "unknown", ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            model = value.strip() if key.strip() == "model name" else model
            flags = value if key.strip() == "flags" else flags
    except OSError:
        pass
    vector = [f for f in sorted(flags.split()) if f.startswith(("avx", "amx", "fma"))]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model}; {' '.join(vector)}; torch {torch.__version__} uses {capability}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", default=",".join(ISAS))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        import logging

        logging.disable()
        print(json.dumps(sweep(cases(given.count, given.seed), given.child)))
        return 0
    print(processor())
    failed = False
    for isa in given.isa.split(","):
        started = time.monotonic()
        try:
            found = run_child(isa, given.count, given.seed)
        except RuntimeError as error:
            print(f"CRASH {error}")
            failed = True
            continue
        counts = ", ".join(f"{len(rows)} {name}" for name, rows in found.items())
        print(f"{isa}: {given.count} shapes, {counts}, {time.monotonic() - started:.0f} s")
        for name, rows in found.items():
            for row in rows:
                print(f"  {name}: {row}")
        failed = failed or bool(found["wrong"])
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
