"""The command that reads a network from elsewhere: import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from icsnn_deploy.bundle.bundle import check_free, create_bundle
from icsnn_deploy.cli.inputs import SAMPLES_KEPT, first
from icsnn_deploy.cli.output import JsonFlag, print_json, reporting
from icsnn_deploy.data import load_array


def import_(
    file: Annotated[Path, typer.Argument(help="A NIR file of IF neurons, by whichever framework.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    reset: Annotated[
        str | None,
        typer.Option(help="How its neurons reset: subtract (v -= v_threshold) or v_reset."),
    ] = None,
    time_steps: Annotated[int | None, typer.Option(help="T that it runs.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of its input: direct, rate or events. Default: direct.")
    ] = None,
    input_dtype: Annotated[
        str | None,
        typer.Option(help="Of its input: float32, uint8, int8 or int16. Default: float32."),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(
            help="Inputs to verify on, FILE.npz:array or FILE.npy: [N, ...], spikes [T, N, ...]."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read a network from a NIR file and write a bundle.

    Files by icsnn-deploy say how they run; for others, --reset and --time-steps are needed.
    """
    with reporting(as_json):
        check_free(out, overwrite=overwrite)
        from icsnn_deploy.exporters.nir.read.read import from_nir
        from icsnn_deploy.graph.inputs import check_inputs

        given: dict[str, Any] = {"reset": reset, "encoding": encoding, "input_dtype": input_dtype}
        network = from_nir(file, time_steps=time_steps, **given)
        kept = None
        if samples is not None:
            found = first(load_array(samples), SAMPLES_KEPT, network.input.encoding)
            kept = check_inputs(network, found)
        bundle = create_bundle(
            out,
            network=network,
            ann=None,
            samples=kept,
            report={"imported_from": file.name, "reset": reset},
            overwrite=overwrite,
        )
        if as_json:
            print_json({"bundle": str(out), "graph_hash": bundle.graph_hash})
            return
        typer.echo(f"wrote {out}; next: icsnn export {out} --format onnx")
