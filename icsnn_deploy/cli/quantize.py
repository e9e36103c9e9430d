"""icsnn quantize: make an integer network of a float one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.create import SAMPLES_KEPT, check_free
from icsnn_deploy.cli.arguments import (
    CalibrationArray,
    CalibrationLimit,
    ChannelsLast,
    Crop,
    InputKey,
    JsonFlag,
    LatticeEffort,
    OutputBundle,
    Overwrite,
    Resize,
)
from icsnn_deploy.cli.input_arrays import load_samples, take_first
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors, say
from icsnn_deploy.errors import BundleError
from icsnn_deploy.graph.encoder import are_spikes
from icsnn_deploy.report.outputs import score_lines
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

if TYPE_CHECKING:
    from icsnn_deploy.lattice.quantization import Quantization

# Spelled out here because the module that defines it is imported only on use.

_MISFITS_SHOWN = 3


def quantize(
    bundle: Annotated[Path, typer.Argument(help="A bundle with a float network.")],
    calibration: CalibrationArray,
    out: OutputBundle,
    target: Annotated[
        str, typer.Option(help="Hardware target whose bit widths are kept.")
    ] = "generic",
    bits: Annotated[
        int | None,
        typer.Option(
            help="Bits per weight, 2 to 16. Default: 8, or the target's where that is less."
        ),
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="One threshold per layer, not per channel.")
    ] = False,
    input_bits: Annotated[int, typer.Option(help="Bits of a float input: 8 or 16.")] = 8,
    effort: Annotated[
        LatticeEffort,
        typer.Option(help="standard and best also train the integer network; quick does not."),
    ] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    limit: CalibrationLimit = None,
    resize: Resize = None,
    crop: Crop = None,
    input_key: InputKey = None,
    channels_last: ChannelsLast = None,
    device: Annotated[str, typer.Option(help="Torch device to calibrate on.")] = "cpu",
    overwrite: Overwrite = False,
    as_json: JsonFlag = False,
) -> None:
    """Round a bundle's network to integers and certify that it runs exactly; write a new bundle."""
    with report_errors(as_json):
        check_free(out, overwrite=overwrite)
        opened = open_bundle(bundle)
        if out.resolve() == bundle.resolve():
            raise BundleError(f"{out}: --out is the float bundle itself; choose another folder")
        given = SourceOptions.parse(
            resize=resize, crop=crop, input_key=input_key, channels_last=channels_last
        )
        with progress_bars() as progress:
            network = opened.network()
            reading = Reading(
                options=given, selection=Selection(limit, mixed=True), progress=progress
            )
            samples, _ = load_samples(opened, calibration, reading)
        with progress_bars():
            from icsnn_deploy.lattice.options import LatticeOptions
            from icsnn_deploy.lattice.quantize import quantize as run_quantization
            from icsnn_deploy.targets import find_target
            from icsnn_deploy.targets.check import check as run_check

        profile = find_target(target)
        options = LatticeOptions.for_target(
            profile,
            bits=bits,
            per_layer=per_layer,
            input_bits=input_bits,
            effort=effort,
            seed=seed,
        )
        with progress_bars() as progress:
            result = run_quantization(
                opened,
                samples,
                options=options,
                profile=profile,
                channels_last=False,  # load_samples has moved them
                device=device,
                progress=progress,
            )
            axis = int(are_spikes(network, samples.shape))
            kept = take_first(samples, SAMPLES_KEPT, axis)
            written = result.save(out, kept, overwrite=overwrite)
            fit = None if target == "generic" else run_check(result.network, profile)
        if as_json:
            content = {"graph_hash": written.graph_hash, "lattice": result.to_json()}
            found = {} if fit is None else {"target": {"name": target, "fits": fit.ok}}
            print_json({"bundle": str(out), **content, **found})
            return
        _show(result, options.bits, has_ann=opened.ann_hash is not None)
        if fit is not None:
            more = "" if fit.ok else f"; all of it: icsnn check {out} --target {target}"
            say(f"{fit.summary()}{more}")
            for misfit in fit.misfits[:_MISFITS_SHOWN]:
                say(f"  {misfit}")
        say(f"wrote {out}; next: icsnn export {out} --format nir --format onnx")


def _show(result: Quantization, bits: int, *, has_ann: bool) -> None:
    """Print the narrowed layers, the scores of each variant, and the certificate."""
    for name, width in result.bits.items():
        if width != bits:
            say(f"{name}: weights of {width} bits, so that it fits")
    samples, other = (
        ("held-out samples", "the ANN") if has_ann else ("samples", "the float network")
    )
    for name, scores in result.outputs.items():
        for line in score_lines(name, scores, samples, other, kept=name == result.kept):
            say(line)
    tightest = result.certificate.tightest
    say(
        f"certified: {tightest.headroom_bits:.1f} bits of headroom at {tightest.layer}, "
        f"the tightest layer"
    )
