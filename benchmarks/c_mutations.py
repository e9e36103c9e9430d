"""Change one number of an exported C program at a time, and see whether its golden test notices.

    python benchmarks/c_mutations.py PROGRAM [--tries 100] [--seed 0]

PROGRAM is the folder of an export in the format c. Each try adds or takes 1 from a random weight,
threshold, initial potential or bias in weights.c (one kind after the other, every layer as likely
as another), compiles that file and runs test_main. A change that is not noticed is tried again with
a large number instead of 1: what still changes nothing is not read by the golden samples, such as
the weights of a neuron that never spikes there, or the threshold of one.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

KINDS = ("weight", "threshold", "v_init", "bias")
_ARRAY = re.compile(r"^const (\w+) (\w+)\[(\d+)\] = \{([^}]*)\};", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+")
_LARGE = {"icsnn_weight8": 100, "int8_t": 100}
_LARGEST = 1000


@dataclass(frozen=True)
class Number:
    """A number in weights.c: its place in the text, and what it belongs to."""

    array: str
    index: int
    start: int
    end: int
    large: int


def main() -> None:
    given = _arguments()
    choose = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "program"
        shutil.copytree(given.program, folder)
        text = (folder / "weights.c").read_text()
        for name in ("network", "inspect", "test_main"):
            _run(folder, "cc", "-std=c99", "-O2", "-c", f"{name}.c")
        if not _is_equal(folder, text):
            raise SystemExit(f"{given.program}: its golden test fails as it is")
        arrays = list(_ARRAY.finditer(text))
        missed = 0
        for number in range(given.tries):
            place = _choose(arrays, KINDS[number % len(KINDS)], choose)
            change = choose.choice((-1, 1))
            if not _is_equal(folder, _changed(text, place, change)):
                continue
            missed += 1
            is_read = not _is_equal(folder, _changed(text, place, change * place.large))
            why = "read, but too small a change" if is_read else "no golden sample reads it"
            print(f"{place.array}[{place.index}] {change:+d}: equal; {why}", flush=True)
        print(f"{given.tries - missed} of {given.tries} changes are noticed")


def _choose(arrays: list[re.Match[str]], kind: str, choose: random.Random) -> Number:
    array = choose.choice([each for each in arrays if each[2].endswith(f"_{kind}")])
    numbers = list(_NUMBER.finditer(array.string, array.start(4), array.end(4)))
    index = choose.randrange(len(numbers))
    start, end = numbers[index].span()
    return Number(array[2], index, start, end, _LARGE.get(array[1], _LARGEST))


def _changed(text: str, place: Number, change: int) -> str:
    value = int(text[place.start : place.end]) + change
    return f"{text[: place.start]}{value}{text[place.end :]}"


def _is_equal(folder: Path, weights: str) -> bool:
    """Whether the golden test finds no difference."""
    (folder / "weights.c").write_text(weights)
    _run(folder, "cc", "-std=c99", "-O0", "-c", "weights.c")
    objects = [f"{name}.o" for name in ("network", "inspect", "test_main", "weights")]
    _run(folder, "cc", *objects, "-o", "test")
    return subprocess.run(["./test"], cwd=folder, stdout=subprocess.DEVNULL).returncode == 0


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
