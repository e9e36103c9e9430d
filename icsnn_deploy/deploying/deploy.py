"""Check, quantize, split, export and verify a network for a target, into one folder.

README.md      what was done, the next steps on the user's machine, and what was not proven here
deploy.json    the same for programs
network/       the integer bundle with its exports
split/         of a chip that takes spikes only: its host and its chip part (icsnn split); then the
               exports are in split/chip
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from icsnn_deploy.atomic import folder_beside, put_folder
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.copy_bundle import copy_bundle
from icsnn_deploy.bundle.described_folder import check_free_folder
from icsnn_deploy.bundle.manifest import json_bytes
from icsnn_deploy.deploying.plans import Plan, plan_for
from icsnn_deploy.deploying.readme import readme_text
from icsnn_deploy.deploying.referees import Step, referee_steps
from icsnn_deploy.errors import BundleError, ExportError, GraphError, TargetError, lines
from icsnn_deploy.exporters import export_into
from icsnn_deploy.exporters.formats import check_exports, plan_exports
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.passes.split_first_layer import split_first_layer
from icsnn_deploy.progress_display import ProgressOption
from icsnn_deploy.splitting.split import split
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import CheckResult, check
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.version import __version__

DESCRIPTION = "deploy.json"
FORMAT, VERSION = "icsnn-deployment", 1
NETWORK, SPLIT = "network", "split"
SPIKES_ONLY = ("spinnaker2",)
"""Targets whose tools take spikes, although the chip could take analog values."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What was done for a target.

    Args:
        path: the folder.
        target: its name.
        bundle: the bundle with the exports, relative to the folder.
        steps: in order.
    """

    path: Path
    target: str
    bundle: str
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether no referee found a difference, or failed."""
        return all(step.ok for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The deployment as JSON values."""
        return {
            "folder": str(self.path),
            "target": self.target,
            "bundle": self.bundle,
            "ok": self.ok,
            "steps": [asdict(step) for step in self.steps],
        }


def deploy(
    bundle: Bundle,
    target: str,
    path: str | os.PathLike[str],
    calibration: Any = None,
    *,
    overwrite: bool = False,
    progress: ProgressOption = True,
) -> Deployment:
    """Bring a network to the files that a target's own tools take; write a folder, or nothing.

    Args:
        bundle: an IF network; a float one is quantized for the target.
        target: name of a target.
        path: the folder to create.
        calibration: samples to quantize a float network with, in any form that `quantize` takes;
            an integer network takes none.
        overwrite: replace a folder that an earlier deployment wrote.
        progress: True shows how far it is, None or False nothing, a function is called (see
            `convert`).

    Raises:
        TargetError: an unknown target; a float network without calibration, or an integer one with
            it; or the network does not fit, with every misfit.
        LatticeError, GraphError, ExportError, ParityError, BundleError: as `quantize`, `split`,
            `export_into` and `create_bundle` raise them.
    """
    path, plan, profile = Path(path), plan_for(target), find_target(target)
    check_free_deployment(path, overwrite=overwrite)
    _check_samples(bundle, calibration, target)
    steps: list[Step] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(path) as draft:
            network = _integer(bundle, plan, profile, draft, calibration, steps, progress)
            fitted = _fitting(network, profile, steps)
            place = NETWORK
            if fitted.host_first_layer:
                parts = split(network, draft / SPLIT, progress=progress)
                place = f"{SPLIT}/chip"
                shares = parts.report.comparisons[-1]
                compared = (
                    f"{shares.spikes_compared:,} spikes compared, {shares.spike_mismatches} differ"
                )
                steps.append(Step(name="split", outcome=f"host and chip part: {compared}"))
            exported = export_into(open_bundle(draft / place), *plan.formats, progress=progress)
            names = ", ".join(exported.exports[name] for name in plan.formats)
            steps.append(Step(name="export", outcome=names))
            steps += referee_steps(exported, plan, target, progress)
            result = Deployment(path=path, target=target, bundle=place, steps=tuple(steps))
            _describe(draft, result, plan, profile, fitted)
            put_folder(draft, path, partial(check_free_deployment, path, overwrite=overwrite))
    except OSError as error:
        raise BundleError(f"{path}: can't be written ({error.strerror or error})") from error
    return result


def check_free_deployment(path: Path, *, overwrite: bool) -> None:
    """Raise BundleError if no deployment can be written; only a deployment is overwritten."""
    check_free_folder(
        path, description=DESCRIPTION, written_as=FORMAT, command="deploy", overwrite=overwrite
    )


def _check_samples(bundle: Bundle, calibration: Any, target: str) -> None:
    """Raise an error where the network can't be quantized, or its referees have no samples."""
    if not bundle.network().is_integer:
        if calibration is None:
            raise TargetError(
                f"{bundle.path}: a float network; pass --calibration with samples to quantize it "
                f"for {target}, or an integer bundle of icsnn quantize"
            )
    elif calibration is not None:
        raise TargetError(
            f"{bundle.path}: an integer network, which is deployed as it is; leave --calibration "
            "out, or pass the float bundle that it was quantized from"
        )
    elif not bundle.has_samples:
        raise BundleError(
            f"{bundle.path}: holds no samples, which the deployment is verified with; make it "
            "again with some, as by icsnn import --samples"
        )


def _integer(
    bundle: Bundle,
    plan: Plan,
    profile: TargetProfile,
    draft: Path,
    calibration: Any,
    steps: list[Step],
    progress: ProgressOption,
) -> Bundle:
    """The integer bundle, in the draft."""
    place = draft / NETWORK
    if bundle.network().is_integer:
        steps.append(Step(name="quantize", outcome="not needed: integers already"))
        return copy_bundle(bundle, place)
    widths: tuple[int | None, ...] = plan.weight_bits or (None,)
    for tried in widths:
        options = LatticeOptions.for_target(
            profile, bits=tried, per_layer=plan.per_layer, input_bits=8
        )
        result = quantize(bundle, calibration, options=options, profile=profile, progress=progress)
        if tried == widths[-1] or _is_held(result.network, plan, profile):
            break
    saved = result.save(place)
    used = sorted({options.bits, min([options.bits, *result.bits.values()])})
    bits = f"weights of {' to '.join(map(str, used))} bits"
    steps.append(Step(name="quantize", outcome=f"{bits}, certified"))
    return saved


def _is_held(graph: Graph, plan: Plan, profile: TargetProfile) -> bool:
    """Whether the plan's files can hold the network, or its chip part, without fewer bits."""
    try:
        part = split_first_layer(graph).chip if _is_split(graph, profile) else graph
        check_exports(part, plan_exports(plan.formats, ()))
    except ExportError:
        return False
    except GraphError:  # no width can change that: the split reports it
        return True
    return True


def _is_split(graph: Graph, profile: TargetProfile) -> bool:
    """Whether the host runs the first layer, as the chip or its tools take spikes only."""
    takes_spikes = not profile.analog_input or profile.name in SPIKES_ONLY
    return takes_spikes and not graph.input.is_timed


def _fitting(network: Bundle, profile: TargetProfile, steps: list[Step]) -> CheckResult:
    """The check, with the first layer on the host where the chip takes spikes only."""
    graph = network.network()
    result = check(graph, profile, host_first_layer=_is_split(graph, profile))
    if not result.ok:
        raise TargetError(lines(f"the network {result.summary()}:", map(str, result.misfits)))
    steps.append(Step(name="check", outcome=result.summary()))
    return result


def _describe(
    draft: Path, result: Deployment, plan: Plan, profile: TargetProfile, fitted: CheckResult
) -> None:
    """README.md and deploy.json."""
    description = {
        "format": FORMAT,
        "version": VERSION,
        "producer": f"icsnn-deploy {__version__}",
        "graph_hash": fitted.graph_hash,
        **{name: value for name, value in result.to_json().items() if name != "folder"},
    }
    (draft / DESCRIPTION).write_bytes(json_bytes(description))
    notes: Sequence[str] = fitted.notes
    page = readme_text(profile.name, result.bundle, result.steps, plan, notes)
    (draft / "README.md").write_bytes(page.encode(errors="replace"))
