"""The command that counts over data sets: evaluate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.backends import BACKENDS
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli.output import (
    BundlePath,
    JsonFlag,
    print_json,
    print_table,
    progress_bars,
    reporting,
)
from icsnn_deploy.distributed import WAIT_S, is_first, open_ranks
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.samples import open_labels, open_samples


def evaluate(
    bundle: BundlePath,
    images: Annotated[
        str,
        typer.Option(help="FILE.npz:array, FILE.npy, FOLDER:array of .npz, or FOLDER of .npy."),
    ],
    labels: Annotated[
        str | None, typer.Option(help="Class indices, named as the images are.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help=f"The backend to measure: {', '.join(BACKENDS)}.")
    ] = "torch",
    parity_backend: Annotated[
        list[str] | None,
        typer.Option(help="Compare this one with it, spike for spike. May be repeated."),
    ] = None,
    early_exit: Annotated[
        float | None,
        typer.Option(help="Also stop each sample at this softmax confidence, 0 to 1."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many samples.")] = None,
    batch_size: Annotated[int, typer.Option(help="Samples run at once.")] = 64,
    shard_size: Annotated[
        int, typer.Option(help="Samples dealt to a process, and kept, together.")
    ] = 256,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps what is finished; a run that broke off goes on."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Torch device of the ANN, and of torch backends that name none. Default: that of "
            "--backend torch:DEVICE, or cpu."
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Float networks: allowed |u - v_threshold| / v_threshold.")
    ] = 1e-4,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for other processes (torchrun).")
    ] = WAIT_S,
    as_json: JsonFlag = False,
) -> None:
    """Count accuracy, spikes and parity over a data set; torchrun's processes share the work."""
    with reporting(as_json):
        options = EvaluationOptions(
            backend=backend,
            parity=tuple(dict.fromkeys(parity_backend or [])),
            confidence=early_exit,
            batch_size=batch_size,
            shard_size=shard_size,
            device=device,
            margin=margin,
        )
        opened = open_bundle(bundle)
        network = opened.network()
        samples = open_samples(
            images,
            axis=0 if network.input.encoding == "direct" else 1,
            normalization=opened.normalization,
            whole=opened.ann_hash is None,
        )
        wanted = None if labels is None else open_labels(labels)
        from icsnn_deploy.evaluation.run import evaluate as run_evaluation
        from icsnn_deploy.report import evaluation as report

        with (
            _broken_off(out),
            progress_bars() as progress,
            open_ranks(options.torch_device, wait_s=wait) as ranks,
        ):
            result = run_evaluation(
                opened,
                samples,
                wanted,
                options,
                limit=limit,
                out=out,
                ranks=ranks,
                progress=progress,
            )
        if ranks.rank == 0 and as_json:
            print_json(result.to_json())
        elif ranks.rank == 0:
            print_table(report.evaluation_table(result))
            if result.top1_t or result.agreement_t:
                print_table(report.over_time_table(result))
            if result.counts.parity:
                print_table(report.parity_counts_table(result))
            typer.echo(report.activity_line(result))
        if result.verdict != "pass":
            raise typer.Exit(1)


@contextmanager
def _broken_off(out: Path | None) -> Iterator[None]:
    """Say what is left of a run that Ctrl-C ends."""
    try:
        yield
    except KeyboardInterrupt:
        if is_first():
            kept = (
                f"the same command goes on from what {out} holds"
                if out
                else ("nothing is kept; with --out finished shards are")
            )
            print(f"broken off: {kept}", file=sys.stderr)
        raise
