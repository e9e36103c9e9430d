"""icsnn import: read a network from a NIR file of any origin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.bundle.create import SAMPLES_KEPT, check_free, create_bundle
from icsnn_deploy.cli.arguments import JsonFlag, OutputBundle, Overwrite
from icsnn_deploy.cli.input_arrays import load_packed, take_first
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors, say
from icsnn_deploy.data import load_array
from icsnn_deploy.exporters.nir.metadata import Reset
from icsnn_deploy.graph.nodes import Encoding, InputDtype


def import_nir(
    file: Annotated[
        Path, typer.Argument(help="A NIR file of IF neurons, written by any framework.")
    ],
    out: OutputBundle,
    reset: Annotated[
        Reset | None,
        typer.Option(help="How its neurons reset: subtract (v -= v_threshold) or v = v_reset."),
    ] = None,
    time_steps: Annotated[
        int | None, typer.Option(help="T, the number of time steps to run.")
    ] = None,
    encoding: Annotated[
        Encoding | None, typer.Option(help="Encoding of the input. Default: direct.")
    ] = None,
    input_dtype: Annotated[
        InputDtype | None, typer.Option(help="Data type of the input. Default: float32.")
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(
            help="Inputs to store and verify on, FILE.npz:array or FILE.npy: [N, ...], or spikes "
            "[T, N, ...]."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: JsonFlag = False,
) -> None:
    """Read a network from a NIR file and write a bundle.

    Files written by icsnn-deploy state how they run; others need --reset and --time-steps.
    """
    with report_errors(as_json):
        check_free(out, overwrite=overwrite)
        with progress_bars():
            from icsnn_deploy.exporters.nir.read.file import from_nir
            from icsnn_deploy.graph.inputs import check_inputs

            network = from_nir(
                file,
                reset=reset,
                time_steps=time_steps,
                encoding=encoding,
                input_dtype=input_dtype,
            )
            kept = None
            if samples is not None:
                found = take_first(
                    load_packed(network.input, samples, lambda spec, _: load_array(spec)),
                    SAMPLES_KEPT,
                    network.input.batch_axis,
                )
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
        say(f"wrote {out}; next: icsnn export {out} --format onnx")
