"""Run pairs of commands on one bundle at the same time.

    python -m tests.attack.races --count 200 --seed 0

After each race: every file is listed and undamaged, nothing is left, and each export that succeeded
is there, unless the other command replaced the bundle. A command may be refused, in one line that
says that the other one changed the bundle.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.attack.commands import (
    COMMANDS,
    copy,
    leftovers,
    load_all,
    prepare,
    start,
    wait,
    whole,
)

USUAL = ("export nir", "export onnx", "export onnx-step", "import", "verify", "inspect")
_REFUSALS = (
    *("another command changed the bundle", "exists already"),
    *("no nir export; run:", "holds no samples; give"),  # after import replaced the bundle
)
_NOTES = ("another command writes to it; waiting",)


def attack(
    pairs: list[tuple[str, str]], count: int, seed: int
) -> tuple[dict[tuple[str, str], Counter[str]], list[str]]:
    """Run each pair `count` times; returns how they ended, and every fault."""
    rng = random.Random(seed)
    found: dict[tuple[str, str], Counter[str]] = {pair: Counter() for pair in pairs}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        pristine, temporary = Path(folder, "pristine"), Path(folder, "tmp")
        temporary.mkdir()
        prepare(pristine)
        names = sorted({name for pair in pairs for name in pair})
        durations = load_all(names, pristine, temporary)
        for pair, turn in itertools.product(pairs, range(count)):
            if turn and turn % 50 == 0:
                print(f"{pair} {turn} done, faults: {len(faults)}", file=sys.stderr)
            here = copy(pristine, Path(folder, "here"))
            # so that each is met at every moment of the other
            shift = rng.uniform(-durations[pair[1]], durations[pair[0]])
            try:
                found[pair][_one(pair, here, temporary, shift)] += 1
            except Exception as error:
                faults.append(f"{pair} {turn}: {type(error).__name__}: {error}")
                print(faults[-1], file=sys.stderr)
    return found, faults


def _one(pair: tuple[str, str], here: Path, temporary: Path, shift: float) -> str:
    """Run two commands, the second `shift` seconds after the first."""
    logs = [temporary.parent / f"log-{side}" for side in "ab"]
    order = (0, 1) if shift >= 0 else (1, 0)
    processes = [0, 0]
    for place, side in enumerate(order):
        if place:
            time.sleep(abs(shift))
        processes[side] = start(pair[side], here, logs[side], temporary=temporary)
    codes = [wait(process) for process in processes]
    for name, code, log in zip(pair, codes, logs, strict=True):
        _check_end(name, code, log.read_text(errors="replace"))
    bundle = whole(here / "b")
    is_replaced = any(COMMANDS[name].overwrites for name in pair)
    for name, code in zip(pair, codes, strict=True):
        wanted = COMMANDS[name].exports
        if wanted is not None and code == 0 and not is_replaced:
            assert wanted in bundle.exports, f"lost: {wanted}"
    left = leftovers(here, temporary)
    assert not left, f"left: {left}"
    return "both succeed" if codes == [0, 0] else "one is refused"


def _check_end(name: str, code: int, text: str) -> None:
    assert code in (0, 2), f"{name} ends with {code}: {text[-600:]}"
    if code == 2:
        lines = [line for line in text.splitlines() if not any(note in line for note in _NOTES)]
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, text[-600:]
        assert any(refusal in errors[0] for refusal in _REFUSALS), errors[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="of each pair")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="*", default=USUAL)
    given = parser.parse_args()
    pairs = list(itertools.combinations_with_replacement(given.commands, 2))
    found, faults = attack(pairs, given.count, given.seed)
    for (one, other), ends in found.items():
        print(f"{one} | {other}:", ", ".join(f"{end} {n}" for end, n in sorted(ends.items())))
    print(f"races: {given.count * len(pairs)}, faults: {len(faults)}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
