"""The wheel with each of its extras in a bare environment, on each Python: `make test-wheels`.

    python -m tests.support.wheel_check WHEEL --uv UV [--pythons 3.10,3.11] [--extras cpu,demo]

An environment is made by uv, tried and removed before the next is made; what is downloaded is kept
in uv's cache. Nothing of the repository is on the path of what is tried.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from tempfile import TemporaryDirectory

from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.lava.interpreters import find_interpreter

PYTHONS = ("3.10", "3.11", "3.12")
NO_EXTRA = "(none)"
DEMO = "cpu,demo"
"""With these two, the demo runs from its beginning to its end."""

_ON_310 = "import sys\nif sys.version_info < (3, 11):\n    import {}\n"
_FROM_311 = "import sys\nif sys.version_info >= (3, 11):\n    import {}\n"
_READER = "import icsnn_deploy.readers.{0} as reader; assert reader.load"
PARTS = {
    NO_EXTRA: "import icsnn_deploy as i; i.convert, i.quantize, i.verify, i.export_into",
    "cpu": "import onnxruntime, icsnn_deploy.backends.onnx.onnxruntime",
    "gpu": "import onnxruntime, icsnn_deploy.backends.onnx.onnxruntime",
    "openvino": "import openvino, icsnn_deploy.backends.onnx.openvino",
    "demo": "from icsnn_deploy.demo.digits import load_digits; load_digits()",
    "images": "import PIL.Image, icsnn_deploy.sources.images",
    "examples": "import torchvision, icsnn_deploy.sources.torchvision_sets",
    "plots": "import matplotlib.figure, icsnn_deploy.report",
    "report": "import matplotlib; from icsnn_deploy.report.page import render, write; "
    "render.environment()",
    "coverage": "import torchvision, timm, pytorchcv, segmentation_models_pytorch, ultralytics",
    "lava": _ON_310.format("lava.magma"),
    "lava-dl": _ON_310.format("lava.lib.dl.netx"),
    "snntorch": f"import snntorch; {_READER.format('snntorch')}",
    "spikingjelly": _FROM_311.format("spikingjelly"),
    "norse": f"import norse; {_READER.format('norse')}",
    "nirtorch": f"import nirtorch; {_READER.format('nirtorch')}",
    "docs": "import mkdocs, material, mkdocstrings, nbconvert",
    "dev": "import pytest, hypothesis, mypy, onnxscript, yaml, nbclient, build, twine",
}
"""What an extra brings, as Python that uses it."""


@dataclass(frozen=True)
class Result:
    """How one environment went."""

    python: str
    extra: str
    problem: str  # empty: none
    seconds: float


def extras_of(wheel: Path) -> list[str]:
    """The extras that a wheel declares."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    return metadata.get_all("Provides-Extra") or []


def steps(uv: Path, python: Path, wheel: Path, extra: str, torch: str) -> Iterator[Sequence[str]]:
    """The commands that install and try an extra in an environment, in order."""
    wanted = "" if extra == NO_EXTRA else f"[{extra}]"
    backend = ["--torch-backend", torch] if torch != "pypi" else []
    bare = [str(python), "-I"]
    yield [str(uv), "pip", "install", "--python", str(python), *backend, f"{wheel}{wanted}"]
    yield [str(uv), "pip", "check", "--python", str(python)]
    yield [*bare, "-c", "import icsnn_deploy, icsnn_deploy.exporters, icsnn_deploy.targets"]
    icsnn = str(python.with_name("icsnn"))
    yield [icsnn, "--version"]
    yield [icsnn, "targets"]
    if extra == DEMO:
        yield [icsnn, "demo", "--no-lava", "--out", "demo"]
    else:
        yield [*bare, "-c", PARTS[extra]]


def tried(uv: Path, version: str, wheel: Path, extra: str, torch: str) -> Result:
    """Make an environment, try the extra in it, and remove it."""
    begun = time.monotonic()

    def result(problem: str) -> Result:
        return Result(version, extra, problem, time.monotonic() - begun)

    with TemporaryDirectory(prefix="icsnn-wheel-", dir=wheel.parent) as name:
        folder = Path(name)
        base = find_interpreter(version).path
        commands = [
            [
                str(uv),
                "venv",
                "--quiet",
                "--no-project",
                "--python",
                str(base),
                str(folder / "env"),
            ],
            *steps(uv, folder / "env/bin/python", wheel, extra, torch),
        ]
        for command in commands:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
            )
            if done.returncode != 0:
                said = (done.stderr.strip() or done.stdout.strip()).splitlines()
                what = " ".join(
                    Path(command[0]).name if n == 0 else w for n, w in enumerate(command)
                )
                return result(f"{what}: {' | '.join(said[-3:])}")
    return result("")


def found(versions: Sequence[str]) -> Iterator[str]:
    """The versions that are on this machine; of the others, what to do is printed."""
    for version in versions:
        try:
            find_interpreter(version)
        except BackendUnavailableError:
            print(
                f"Python {version}: not found; install it (python.org, your system's packages, "
                f"`pyenv install {version}` or `uv python install {version}`), or leave it out "
                "with PYTHONS=...",
                file=sys.stderr,
            )
            continue
        yield version


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--uv", type=Path, required=True, help="the uv program")
    parser.add_argument("--pythons", default=",".join(PYTHONS))
    parser.add_argument("--extras", default="", help="separated by spaces; default: all")
    parser.add_argument("--torch", default="cpu", help="a torch backend of uv, or pypi")
    given = parser.parse_args(arguments)
    wheel, uv = given.wheel.resolve(), given.uv.absolute()
    declared = extras_of(wheel)
    missing = sorted(set(declared) - set(PARTS))
    if missing:
        parser.error(f"PARTS of {__name__} does not say how {', '.join(missing)} is tried")
    extras = given.extras.split() or [NO_EXTRA, *declared, DEMO]
    versions = given.pythons.split(",")
    there = list(found(versions))
    failed = len(there) != len(versions)
    print("| Python | extra | result | s |\n|---|---|---|---|", flush=True)
    for version in there:
        for extra in extras:
            row = tried(uv, version, wheel, extra, given.torch)
            failed |= bool(row.problem)
            print(
                f"| {version} | {extra} | {row.problem or 'ok'} | {row.seconds:.0f} |", flush=True
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
