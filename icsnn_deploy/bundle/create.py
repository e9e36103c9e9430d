"""Write a new bundle, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.atomic import folder_beside, put_folder, restore_folder
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    is_bundle_manifest,
    json_bytes,
    write_manifest,
)
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BundleError
from icsnn_deploy.events.binning import EventBins
from icsnn_deploy.graph.file import graph_bytes
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sources.options import ImageSize

SAMPLES_KEPT = 8
"""Calibration samples that a bundle is usually written with."""


def create_bundle(
    path: str | os.PathLike[str],
    *,
    network: Graph,
    ann: Graph | None,
    samples: Array | None,
    report: Mapping[str, Any],
    normalization: Normalization | None = None,
    rate_seed: int | None = None,
    event_bins: EventBins | None = None,
    image_size: ImageSize | None = None,
    golden: bytes | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle; if that fails, nothing is left at `path`.

    Args:
        path: the folder to create.
        network: the IF network.
        ann: the traced ANN; None if the network was not converted from one.
        samples: a few input samples, [N, *input shape] ([T, N, *input shape] for spike input).
        report: the conversion report, as JSON values.
        normalization: of the samples, if the network takes pixels.
        rate_seed: of the Bernoulli spikes of a rate-encoded input.
        event_bins: how event recordings are binned, of a network that takes them.
        image_size: what size images get, of a network that takes pixels.
        golden: golden spikes of an integer network (golden.golden_bytes).
        overwrite: replace an existing bundle.

    Raises:
        BundleError: the path exists already, or can't be written.
    """
    from safetensors.numpy import save

    path = Path(path)
    check_free(path, overwrite=overwrite)
    contents = {
        "graph.safetensors": graph_bytes(network),
        "report.json": json_bytes(report),
    }
    if ann is not None:
        contents["ann.safetensors"] = graph_bytes(ann)
    if samples is not None:
        contents["samples.safetensors"] = save({"inputs": np.ascontiguousarray(samples)})
    if golden is not None:
        contents["golden.safetensors"] = golden
    manifest = Manifest(
        graph_hash=network.hash(),
        ann_hash=None if ann is None else ann.hash(),
        files={
            name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
            for name, content in contents.items()
        },
        exports={},
        normalization=normalization,
        inputs=network.input.parts,
        outputs=network.output.parts,
        rate_seed=rate_seed,
        event_bins=event_bins,
        image_size=image_size,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(path) as draft:
            for name, content in contents.items():
                (draft / name).write_bytes(content)
            write_manifest(draft, manifest)
            put_folder(draft, path, partial(check_free, path, overwrite=overwrite))
    except OSError as error:
        raise BundleError(f"{path}: can't be written ({error.strerror})") from error
    return Bundle(path=path, manifest=manifest)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise BundleError if no bundle can be written to `path`; only a bundle is overwritten."""
    try:
        restore_folder(path)
        path.lstat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be a bundle ({error})") from error
    if not overwrite:
        raise BundleError(f"{path}: exists already; choose another folder or pass --overwrite")
    if path.is_symlink() or not is_bundle_manifest(path / MANIFEST):
        raise BundleError(f"{path}: exists and is not a bundle; it will not be overwritten")
