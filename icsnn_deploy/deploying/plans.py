"""What is exported for each target, what referees it, and the next steps on the user's machine."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.errors import TargetError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The way to one target.

    Args:
        formats: export formats that its tools take.
        backends: simulators that run the network, or those files, as the referee.
        next_steps: what is left to do, in Markdown; {bundle} is the folder with the exports.
        not_proven: sentences on what no tool here can know.
        per_layer: a float network gets one threshold per layer, because the files allow no other.
        weight_bits: widths to quantize a float network to, in the order in which they are tried,
            until the files can hold it; empty: that of the target.
    """

    formats: tuple[str, ...]
    backends: tuple[str, ...]
    next_steps: tuple[str, ...]
    not_proven: tuple[str, ...]
    per_layer: bool = False
    weight_bits: tuple[int, ...] = ()


_NO_CHIP = "No chip ran: the check compares the network with published numbers."

PLANS: dict[str, Plan] = {
    "generic": Plan(
        formats=("nir", "onnx", "c"),
        backends=("nir", "onnxruntime", "c"),
        next_steps=(
            "Build the C program: `make -C {bundle}/network-c test`; or load "
            "`{bundle}/network.onnx` in ONNX Runtime, or `{bundle}/network.nir` in a NIR reader.",
        ),
        not_proven=("A generic target has no limits: choose one for a device.",),
    ),
    "loihi1": Plan(
        formats=("nir", "nir-portable"),
        backends=("nengo-loihi", "nir-portable"),
        next_steps=(
            "Load `{bundle}/network-portable.nir` in the framework that you drive Loihi with; the "
            "golden spikes in the bundle say what it has to give.",
            "Model latency and energy with SANA-FE: `icsnn tools setup sanafe`, then `icsnn cost "
            "{bundle} --target loihi1`.",
        ),
        not_proven=(_NO_CHIP, "Latency and energy were not measured."),
        per_layer=True,
    ),
    "loihi2": Plan(
        formats=("nir", "nir-portable"),
        backends=("lava-fixed", "nir-portable"),
        next_steps=(
            "Run the network on Lava's fixed-point models: `icsnn verify {bundle} --backend "
            "lava-fixed`; on the chip, Lava needs Intel's own run configuration.",
        ),
        not_proven=(_NO_CHIP, "Lava's stock neurons reset to 0; soft reset needs microcode."),
        per_layer=True,
    ),
    "speck": Plan(
        formats=("speck",),
        backends=(),
        next_steps=(
            "Follow `{bundle}/network-speck/README.md`: install sinabs and samna, and run "
            "`python {bundle}/network-speck/configure.py --check --validate`. samna's "
            "`validate_configuration` is your step: it exists on SynSense's servers only.",
            "Measure the accuracy to expect: `icsnn evaluate network --backend event-driven "
            "--images ... --labels ...`.",
        ),
        not_proven=(
            _NO_CHIP,
            "Speck has no time steps: its spikes differ from those in time steps.",
            "Whether its cores keep up with the events depends on your input's rate.",
        ),
    ),
    "spinnaker2": Plan(
        formats=("spinnaker2",),
        backends=(),
        next_steps=(
            "Load `{bundle}/network-spinnaker2.nir` with py-spinnaker2's `s2_nir.from_nir`, with "
            "`conn_delay` = 0 and its default reset (by subtraction). Send the input's spikes with "
            "the relay, a last channel that spikes in the first step; "
            "`icsnn_deploy.exporters.spinnaker2.network.relay_events` adds it.",
            "Apply the last layer to the spike counts of the output population: the importer takes "
            "no weights before the output.",
        ),
        not_proven=(
            _NO_CHIP,
            "py-spinnaker2 is not on PyPI: its importer was read, not run. Where it fires at u > "
            "v_threshold, ties of populations with weights of 8 bits differ; 7 bits have none.",
            "Where its projections deliver spikes one step later, a network of n layers needs n "
            "steps more.",
        ),
        weight_bits=(8, 7, 6, 5, 4),  # initial potentials are int8 weights of the relay
    ),
}


def plan_for(target: str) -> Plan:
    """The plan of a target; raises TargetError for one that has none."""
    if target not in PLANS:
        raise TargetError(f"no way to deploy to {target!r} is known; to {', '.join(PLANS)}")
    return PLANS[target]
