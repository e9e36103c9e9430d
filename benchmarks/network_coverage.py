"""Which public architectures convert, which are refused and why, and whether the result is right.

    python benchmarks/network_coverage.py --out build/coverage.jsonl \
        [--names 'timm/*' ...] [--again refused,crashed] [--jobs 1] [--no-deploy] \
        [--approximate] [--page docs/measurements/coverage.md]

Each architecture gets random weights and random batch-norm statistics. It is traced to an ANN graph
in a child process, and the graph is compared with the model in double precision. Then the smallest
third of those that convert are converted with recipe opi at T = 4, quantized to 8 bits, exported to
NIR and ONNX and verified spike for spike. With --approximate, those that are refused are traced
with approximations, and the error of the outputs is recorded.

Results are appended to a file of JSON lines, and a run that was stopped goes on where it was.
Results of another version of the package are measured again. The environment is that of
`make coverage`; with PYTHONPATH, the package of another checkout is measured.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("YOLO_VERBOSE", "False")

import coverage_results as results
import coverage_zoo
from coverage_libraries import import_libraries
from coverage_measure import approximate_one, deploy_one, trace_one
from coverage_page import write_page
from coverage_results import Record
from coverage_run import Limits, Work, run_all
from coverage_zoo import Architecture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/coverage.jsonl"))
    parser.add_argument(
        "--names", nargs="+", default=["*"], help="patterns, such as 'plain/unet-*'"
    )
    parser.add_argument("--again", default="", help="statuses to measure again, comma-separated")
    parser.add_argument("--any-version", action="store_true", help="keep other versions' results")
    parser.add_argument("--jobs", type=int, default=1, help="children at a time")
    parser.add_argument("--seconds", type=float, default=120.0, help="limit of processor time")
    parser.add_argument("--gib", type=float, default=6.0, help="limit of memory")
    parser.add_argument("--no-deploy", action="store_true", help="trace and compare only")
    parser.add_argument("--approximate", action="store_true", help="fit what is refused")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that children are ended
    chosen = [
        one
        for one in coverage_zoo.architectures()
        if any(fnmatchcase(one.name, pattern) for pattern in options.names)
    ]
    if options.list:
        print("\n".join(one.name for one in chosen))
        return
    if not chosen:
        sys.exit(f"no architecture is named {' or '.join(options.names)}; --list prints the names")
    import_libraries({one.library for one in chosen})
    run = _Run(options)
    results.append(options.out, results.versions())
    run.stage("trace", trace_one, chosen)
    if options.approximate:
        run.stage("approximate", approximate_one, run.refused(chosen))
    if not options.no_deploy:
        run.stage("deploy", deploy_one, run.smallest(chosen))
    if options.page:
        write_page(options.page, results.read(options.out), coverage_zoo.architectures())


class _Run:
    """One call of this script."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.path: Path = options.out
        self.again = set(filter(None, options.again.split(",")))
        self.any_version: bool = options.any_version
        self.limits = Limits(seconds=options.seconds, gib=options.gib)
        self.jobs: int = options.jobs
        self.digest = results.package_digest()

    def stage(self, stage: str, work: Work, chosen: Sequence[Architecture]) -> None:
        """Measure what the file does not have yet."""
        known = results.read(self.path)
        left = [one for one in chosen if self._is_open(known.get((stage, one.name)))]
        print(f"{stage}: {len(left)} of {len(chosen)} architectures to measure", flush=True)
        log = self.path.with_suffix(".logs")
        for number, record in enumerate(run_all(left, work, self.limits, self.jobs, log), 1):
            record = {"stage": stage, "package": self.digest, **record}
            results.append(self.path, record)
            print(f"{number}/{len(left)} {_line(record)}", flush=True)

    def _is_open(self, record: Record | None) -> bool:
        if record is None or record["status"] in self.again:
            return True
        return record["package"] != self.digest and not self.any_version

    def refused(self, chosen: Sequence[Architecture]) -> list[Architecture]:
        """Those that do not convert exactly."""
        known = results.read(self.path)
        return [one for one in chosen if known["trace", one.name]["status"] == "refused"]

    def smallest(self, chosen: Sequence[Architecture]) -> list[Architecture]:
        """A third of the architectures of float inputs that convert, by number of neurons."""
        known = results.read(self.path)
        converting = [
            (known["trace", one.name]["neurons"], one)
            for one in chosen
            if known["trace", one.name]["status"] == "converts" and not one.classes
        ]
        converting.sort(key=lambda pair: pair[0])
        return [one for _, one in converting[: -(-len(converting) // 3)]]


def _line(record: Record) -> str:
    """A record for a terminal."""
    text = (
        f"{record['name']}: {record['status']}, {record['seconds']:.1f} s, {record['peak_mib']} MiB"
    )
    if "difference" in record:
        text += f", difference {record['difference']:.1e}"
    if "fits" in record:
        text += f", {record['fits']} fits, rms {record['rms']:.1e}"
    if record.get("smooth"):
        text += f", smooth: {', '.join(record['smooth'])}"
    return text


if __name__ == "__main__":
    main()
