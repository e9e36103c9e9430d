"""The digits network as a C program on two microcontrollers in QEMU; run by make test-embedded."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.demo.digits import load_digits, train
from icsnn_deploy.exporters import export_into
from icsnn_deploy.exporters.c.memory import Memory, memory_of
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.progress import silent

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parents[2]
SAMPLES = 4

BOARDS = {
    "cortex-m4": "gcc-arm-none-eabi picolibc-arm-none-eabi qemu-system-arm",
    "riscv32": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc",
}
"""The boards of examples/firmware, and the Debian packages that each needs."""

PROGRAMS = {
    "cortex-m4": ("arm-none-eabi-gcc", "qemu-system-arm"),
    "riscv32": ("riscv64-unknown-elf-gcc", "qemu-system-riscv32"),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo's network, trained shortly, quantized and exported as C."""
    digits = load_digits()
    model = train(digits, silent, epochs=5)
    conversion = convert(model, digits.train_images[:256], Recipe(name="fast", time_steps=8))
    found = quantize(conversion, digits.train_images[:256], options=LatticeOptions(bits=8))
    saved = found.save(tmp_path_factory.mktemp("embedded") / "digits")
    return export_into(saved, "c", options=COptions(golden=SAMPLES))


def run_make(bundle: Bundle, board: str, build: Path, *options: str) -> str:
    for program in PROGRAMS[board]:
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing; on Debian: apt-get install {BOARDS[board]}")
    code = bundle.export("c")
    command = ["make", "-C", str(ROOT / "examples" / "firmware"), f"CODE={code}"]
    command += [f"BOARD={board}", f"BUILD={build}", *options]
    done = run(command)
    assert done.returncode == 0, done.stdout
    return done.stdout


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command; its two outputs together, because QEMU prints to the second."""
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, text
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("board", BOARDS)
def test_all_golden_spikes_are_equal_on_the_board(
    bundle: Bundle, board: str, tmp_path: Path
) -> None:
    output = run_make(bundle, board, tmp_path / "build", "test")
    assert re.search(rf"^{SAMPLES} samples, 8 steps, 4 layers, \d+ spikes: equal$", output, re.M)
    memory: Memory = memory_of(bundle.network())
    state = number(r"^state: (\d+) bytes of RAM$", output)
    constants = number(r"^ *(\d+)\t.*weights\.o$", output)
    code = number(r"^ *(\d+)\t.*network\.o$", output)
    assert state == pytest.approx(memory.ram, rel=0.02)
    assert constants == pytest.approx(memory.flash, rel=0.02)
    spikes = number(r"(\d+) spikes: equal", output)
    instructions = number(r"(\d+) instructions", output)
    print(
        f"\n{board}: {spikes:,} golden spikes equal; "
        f"{state:,} bytes of RAM ({memory.ram:,} announced), {constants:,} of constants "
        f"({memory.flash:,} announced), {code:,} of code; "
        f"{instructions:,} instructions an inference"
    )


def test_a_changed_logit_is_found_on_the_board(bundle: Bundle, tmp_path: Path) -> None:
    code = tmp_path / "code"
    shutil.copytree(bundle.export("c"), code)
    golden = code / "golden.h"
    text = golden.read_text()
    start = text.index("golden_logits")
    changed = re.sub(r"(-?\d+),", lambda found: f"{int(found[1]) + 1},", text[start:], count=1)
    golden.write_text(text[:start] + changed)
    command = ["make", "-C", str(ROOT / "examples" / "firmware"), f"CODE={code}"]
    command += ["BOARD=cortex-m4", f"BUILD={tmp_path / 'build'}", "test"]
    done = run(command)
    assert done.returncode != 0
    assert "logits differ" in done.stdout
