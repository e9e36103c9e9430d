"""Commands on the way to hardware: quantize, targets, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.bundle import check_free, create_bundle, open_bundle
from icsnn_deploy.cli_output import JsonFlag, print_json, progress_bars, reporting
from icsnn_deploy.data import load_images

SAMPLES_KEPT = 8  # golden samples that go into a quantized bundle


def quantize(
    bundle: Annotated[Path, typer.Argument(help="A float bundle.")],
    calibration: Annotated[
        str, typer.Option(help="Calibration samples: FILE.npz:array or FILE.npy.")
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    target: Annotated[str, typer.Option(help="Hardware target whose widths are kept.")] = "generic",
    bits: Annotated[
        int | None, typer.Option(help="Weight bits, 2 to 16; default: the target's, or 8.")
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One threshold a layer.")] = False,
    input_bits: Annotated[int, typer.Option(help="For a float input: 8 or 16.")] = 8,
    limit: Annotated[
        int | None, typer.Option(help="Use at most this many calibration samples.")
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a bundle's network on the integer lattice, with a certificate."""
    with reporting(as_json):
        check_free(out, overwrite=overwrite)
        opened = open_bundle(bundle)
        samples = load_images(calibration, opened.normalization)[:limit]
        from icsnn_deploy.encoding import to_input_units
        from icsnn_deploy.golden import golden_bytes
        from icsnn_deploy.lattice.quantize import LatticeOptions
        from icsnn_deploy.lattice.quantize import quantize as run_quantization
        from icsnn_deploy.targets import find_target

        options = LatticeOptions.for_target(
            find_target(target), bits=bits, per_layer=per_layer, input_bits=input_bits
        )
        with progress_bars() as progress:
            result = run_quantization(
                opened.network(), samples, opened.ann(), options, device=device, progress=progress
            )
        kept = to_input_units(result.graph, samples[:SAMPLES_KEPT])
        written = create_bundle(
            out,
            network=result.graph,
            ann=opened.ann(),
            samples=kept,
            report={**opened.report(), "lattice": result.to_json()},
            normalization=opened.normalization,
            golden=golden_bytes(result.graph, kept),
            overwrite=overwrite,
        )
        if as_json:
            print_json(
                {"bundle": str(out), "graph_hash": written.graph_hash, "lattice": result.to_json()}
            )
            return
        tightest = result.certificate.tightest
        for name, share in result.agreement.items():
            typer.echo(f"{name:<10} {share:.1%} of held-out samples as the ANN classifies them")
        typer.echo(
            f"certified: {tightest.headroom_bits:.1f} bits of headroom at {tightest.layer}, "
            f"the tightest layer"
        )
        typer.echo(f"wrote {out}; next: icsnn export {out} --format nir --format onnx")
