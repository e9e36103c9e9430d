"""Commands on the way to hardware: quantize, targets, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.bundle.bundle import check_free, open_bundle
from icsnn_deploy.cli.inputs import SAMPLES_KEPT, first, load_inputs
from icsnn_deploy.cli.output import (
    JsonFlag,
    print_json,
    print_table,
    progress_bars,
    reporting,
)
from icsnn_deploy.errors import BundleError


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
        if out.resolve() == bundle.resolve():
            raise BundleError(f"{out}: --out is the float bundle itself; choose another folder")
        network = opened.network()
        samples = load_inputs(opened, calibration, network.input.encoding, limit)
        from icsnn_deploy.lattice.options import LatticeOptions
        from icsnn_deploy.lattice.quantize import quantize as run_quantization
        from icsnn_deploy.targets import find_target

        profile = find_target(target)
        options = LatticeOptions.for_target(
            profile, bits=bits, per_layer=per_layer, input_bits=input_bits
        )
        with progress_bars() as progress:
            result = run_quantization(
                opened,
                samples,
                options=options,
                profile=profile,
                device=device,
                progress=progress,
            )
        kept = first(samples, SAMPLES_KEPT, network.input.encoding)
        written = result.save(out, kept, overwrite=overwrite)
        if as_json:
            print_json(
                {"bundle": str(out), "graph_hash": written.graph_hash, "lattice": result.to_json()}
            )
            return
        narrowed = {name: n for name, n in result.bits.items() if n != options.bits}
        for name, width in narrowed.items():
            typer.echo(f"{name}: weights of {width} bits, so that it fits")
        tightest = result.certificate.tightest
        judged = (
            "samples as the float network"
            if opened.ann_hash is None
            else "held-out samples as the ANN"
        )
        for name, share in result.agreement.items():
            mark = ", kept" if name == result.kept else ""
            typer.echo(
                f"{name:<10} {share:.1%} of {judged} classifies them, "
                f"KL divergence {result.divergence[name]:.4f}{mark}"
            )
        typer.echo(
            f"certified: {tightest.headroom_bits:.1f} bits of headroom at {tightest.layer}, "
            f"the tightest layer"
        )
        typer.echo(f"wrote {out}; next: icsnn export {out} --format nir --format onnx")


def targets(as_json: JsonFlag = False) -> None:
    """List the hardware targets."""
    from icsnn_deploy.report.resources import targets_table
    from icsnn_deploy.targets import TARGETS, find_target

    profiles = [find_target(name) for name in TARGETS]
    if as_json:
        print_json([profile.to_json() for profile in profiles])
        return
    print_table(targets_table(profiles))


def check(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    target: Annotated[str, typer.Option(help="A name that icsnn targets lists.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a number of the target: KEY=VALUE."),
    ] = None,
    host_first_layer: Annotated[
        bool,
        typer.Option(
            "--host-first-layer", help="The host runs the analog first layer and sends its spikes."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Hold a bundle's network against a hardware target: everything that does not fit."""
    with reporting(as_json):
        from icsnn_deploy.report import resources as tables
        from icsnn_deploy.targets import find_target
        from icsnn_deploy.targets.check import check as run_check
        from icsnn_deploy.targets.override import override, parse_settings

        profile = override(find_target(target), parse_settings(settings or []))
        network = open_bundle(bundle).network()
        result = run_check(network, profile, host_first_layer=host_first_layer)
        if as_json:
            print_json(result.to_json())
        else:
            print_table(tables.resources_table(result.resources))
            if result.allocation is not None:
                print_table(tables.allocation_table(result.allocation))
            if result.misfits:
                print_table(tables.misfits_table(result))
            for note in result.notes:
                typer.echo(f"note: {note}")
            typer.echo(result.summary())
        if not result.ok:
            raise typer.Exit(1)
