"""Commands that make networks and files: convert, export."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icsnn_deploy.bundle import DATA, Bundle, check_free, create_bundle, open_bundle
from icsnn_deploy.cli.inputs import SAMPLES_KEPT, first
from icsnn_deploy.cli.output import (
    BundlePath,
    JsonFlag,
    print_json,
    print_table,
    progress_bars,
    reporting,
)
from icsnn_deploy.conversion.checkpoint_scan import scan_checkpoint
from icsnn_deploy.data import Normalization, load_images
from icsnn_deploy.errors import DataError
from icsnn_deploy.exporters import FORMATS, export_into
from icsnn_deploy.exporters.nir_readers import READERS, needs
from icsnn_deploy.exporters.onnx_format import RUNTIMES, TIMED_LAYOUTS, OnnxOptions
from icsnn_deploy.exporters.onnx_layout import layout_of
from icsnn_deploy.ranks import open_ranks, own_device

if TYPE_CHECKING:
    from icsnn_deploy.conversion.declared import DeclaredActivation


def convert(
    model: Annotated[
        str,
        typer.Argument(help="package.module:callable, path/to/file.py:callable, or a .pt2 file."),
    ],
    calibration: Annotated[
        str, typer.Option(help="Calibration samples: FILE.npz:array or FILE.npy.")
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    weights: Annotated[Path | None, typer.Option(help="State dict; no code in it is run.")] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Comma-separated mean per channel; makes the input uint8 images."),
    ] = None,
    std: Annotated[str | None, typer.Option(help="Comma-separated std per channel.")] = None,
    time_steps: Annotated[
        str, typer.Option(help="T; or a range, as 4,32: one network that may stop at any of them.")
    ] = "8",
    recipe: Annotated[str, typer.Option(help="A named recipe; see docs/recipes.md.")] = "default",
    effort: Annotated[str, typer.Option(help="Recipe auto: quick, standard or best.")] = "standard",
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Recipe auto: change potentials and biases only.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Recipe auto: seed.")] = 0,
    activation: Annotated[
        list[str] | None,
        typer.Option(help="The model's clip or QCFS class: CLASS:BOUND or CLASS:BOUND:LEVELS."),
    ] = None,
    replace_maxpool: Annotated[
        str | None,
        typer.Option(help="average: average pooling in the place of max pooling, which loses."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use at most this many calibration samples.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples run at once.")] = 64,
    device: Annotated[str, typer.Option(help="Torch device that calibration runs on.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Convert a trained ReLU network and write a bundle; torchrun's processes share the work."""
    with reporting(as_json):
        check_free(out, overwrite=overwrite)
        normalization = _normalization(mean, std)
        if weights is not None:
            scan_checkpoint(weights)  # before PyTorch is loaded
        samples = first(load_images(calibration, normalization), limit)
        from icsnn_deploy.conversion.convert import convert as run_conversion
        from icsnn_deploy.conversion.load_model import load_model
        from icsnn_deploy.conversion.recipe import Recipe
        from icsnn_deploy.report.tables import candidates_table, max_pool_lines

        chosen = Recipe(
            name=recipe,
            time_steps=_time_steps(time_steps),
            batch_size=batch_size,
            effort=effort,  # type: ignore[arg-type]
            weights=not keep_weights,
            seed=seed,
        )
        device = own_device(device)
        # what the user's own code prints is not the result
        with redirect_stdout(sys.stderr), progress_bars() as progress, open_ranks(device) as ranks:
            result = run_conversion(
                load_model(model, weights),
                samples,
                chosen,
                normalization=normalization,
                activations=_declared(activation or []),
                replace_max_pool=replace_maxpool,  # type: ignore[arg-type]
                device=device,
                progress=progress,
                ranks=ranks,
            )
        if ranks.rank:
            return
        bundle = create_bundle(
            out,
            network=result.graph,
            ann=result.ann,
            samples=samples[:SAMPLES_KEPT],
            report=result.report.to_json(),
            normalization=normalization,
            overwrite=overwrite,
        )
        if as_json:
            print_json(
                {
                    "bundle": str(out),
                    "graph_hash": bundle.graph_hash,
                    "report": result.report.to_json(),
                }
            )
            return
        print_table(candidates_table(result.report))
        for line in max_pool_lines(result.report.max_pools, result.report.losses):
            typer.echo(line)
        typer.echo(f"wrote {out}; next: icsnn export {out} --format nir --format onnx")


def export(
    bundle: BundlePath,
    export_format: Annotated[
        list[str], typer.Option("--format", help=f"One of {', '.join(FORMATS)}; may be repeated.")
    ],
    layout: Annotated[
        str, typer.Option(help=f"ONNX: auto, {', '.join(TIMED_LAYOUTS)}; see docs/onnx.md.")
    ] = "auto",
    runtime: Annotated[
        str, typer.Option(help=f"ONNX: what auto chooses for; {', '.join(RUNTIMES)}.")
    ] = "onnxruntime",
    logits_t: Annotated[
        bool, typer.Option("--logits-t", help="ONNX: also the running mean of the logits.")
    ] = False,
    spike_counts: Annotated[
        bool, typer.Option("--spike-counts", help="ONNX: also the spike count of each neuron.")
    ] = False,
    raw_spikes: Annotated[
        bool, typer.Option("--raw-spikes", help="ONNX: also every spike, for debugging.")
    ] = False,
    lossy: Annotated[
        bool, typer.Option("--lossy", help="netx: write it although its readers lose meaning.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="NIR: spec; portable, which readers of other projects hold."),
    ] = None,
    v_init_encoding: Annotated[
        str, typer.Option(help="NIR portable: v_init in the metadata, or by a relay channel.")
    ] = "metadata",
    for_reader: Annotated[
        str | None,
        typer.Option("--for", help=f"NIR portable: say what a reader needs; {', '.join(READERS)}."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write exports of a bundle's network into the bundle."""
    with reporting(as_json):
        options = OnnxOptions(
            layout=layout,  # type: ignore[arg-type]
            runtime=runtime,  # type: ignore[arg-type]
            logits_t=logits_t,
            spike_counts=spike_counts,
            raw_spikes=raw_spikes,
        )
        if profile or for_reader or v_init_encoding != "metadata":
            export_format = _nir_format(export_format, profile or "portable", v_init_encoding)
        opened = export_into(
            open_bundle(bundle), *export_format, options=options, lossy=lossy, for_reader=for_reader
        )
        written: dict[str, dict[str, Any]] = {
            name: {
                "file": str(bundle / file),
                "bytes": sum(
                    opened.files[f].size for f in (file, file + DATA) if f in opened.files
                ),
                "losses": list(opened.losses.get(name, ())),
                **({"layout": layout_of(opened.network(), options)} if name == "onnx" else {}),
                **_needs(opened, name, for_reader),
            }
            for name, file in opened.exports.items()
            if name in export_format
        }
        if as_json:
            print_json({"bundle": str(bundle), "exports": written})
            return
        for name, result in written.items():
            layout = f", layout {result['layout']}" if "layout" in result else ""
            typer.echo(f"{name}: {result['file']} ({result['bytes']:,} bytes{layout})")
            for loss in result["losses"]:
                typer.echo(f"  not known to its readers: {loss}")
            for line in result.get("needs", ()):
                typer.echo(f"  {line}")


def _nir_format(formats: list[str], profile: str, v_init_encoding: str) -> list[str]:
    """The formats, with "nir" replaced by the one of this profile and encoding."""
    found: dict[tuple[str, str], str] = {f.nir: name for name, f in FORMATS.items() if f.nir}
    if (profile, v_init_encoding) not in found:
        raise DataError(
            f"no NIR with profile {profile} and v_init_encoding {v_init_encoding}; there are "
            + ", ".join(f"{one} with {other}" for one, other in found)
        )
    if not set(formats) & set(found.values()):
        raise DataError(
            f"--profile, --v-init-encoding and --for go with --format nir, not {', '.join(formats)}"
        )
    wanted = found[profile, v_init_encoding]
    return [wanted if name == "nir" else name for name in formats]


def _needs(bundle: Bundle, export_format: str, reader: str | None) -> dict[str, Any]:
    """What the reader that was asked for needs after loading this export."""
    kept = FORMATS[export_format].nir
    if reader is None or kept is None:
        return {}
    path = bundle.path / bundle.exports[export_format]
    return {"for": reader, "needs": needs(reader, str(path), bundle.network(), kept[1])}


def _time_steps(text: str) -> int | tuple[int, int]:
    fields = text.split(",")
    if len(fields) > 2 or not all(field.strip().isdigit() for field in fields):
        raise DataError(f"--time-steps {text}: a number, or the two ends of a range, as 4,32")
    numbers = [int(field) for field in fields]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _normalization(mean: str | None, std: str | None) -> Normalization | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise DataError("--mean and --std go together: give one value per channel in each")
    try:
        return Normalization(
            mean=tuple(float(n) for n in mean.split(",")),
            std=tuple(float(n) for n in std.split(",")),
        )
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"--mean {mean} --std {std}: comma-separated numbers are needed") from error


def _declared(texts: list[str]) -> list[DeclaredActivation]:
    from icsnn_deploy.conversion.declared import DeclaredActivation

    found = []
    for text in texts:
        fields = text.split(":")
        if len(fields) not in (2, 3) or not all(fields):
            raise DataError(f"--activation {text}: CLASS:BOUND or CLASS:BOUND:LEVELS is needed")
        levels = fields[2] if len(fields) == 3 else None
        found.append(DeclaredActivation(class_name=fields[0], bound=fields[1], levels=levels))
    return found
