"""Load calibration samples with their labels, for a recipe that trains on labels."""

from __future__ import annotations

from dataclasses import replace

from icsnn_deploy.cli.input_arrays import load_calibration
from icsnn_deploy.data import Normalization, load_labels
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.source_samples import SourceSamples
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sources.open import open_source, source_kind
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.source import NamedArrays


def load_labeled(
    spec: str,
    labels: str | None,
    normalization: Normalization | None,
    reading: Reading,
) -> tuple[Array, Array]:
    """Load calibration samples and the class index of each.

    Args:
        spec: FILE.npz:array, FILE.npy, or a source (sources.open_source).
        labels: FILE.npz:array or FILE.npy, of samples in files of arrays; None: the labels that a
            source comes with.
        normalization: of images.
        reading: how, and which, samples are read.

    Returns:
        Samples [N, *shape] as conversion takes them, and labels [N].

    Raises:
        DataError: no labels, fewer than samples, or labels for a source that has its own.
    """
    if source_kind(spec) == "arrays":
        if labels is None:
            raise DataError(
                f"{spec}: files of arrays come without labels; name them with --calibration-labels "
                "FILE.npz:array"
            )
        samples = load_calibration(spec, normalization, reading)
        if isinstance(samples, dict):
            raise DataError(
                f"{spec}: arrays of several inputs; labels go with a model of one input"
            )
        return samples, load_labels(labels, len(samples))[: len(samples)]
    if labels is not None:
        raise DataError(
            f"--calibration-labels {labels}: goes with samples in files of arrays; {spec} is read "
            "in an order of its own and has to give the label beside each sample"
        )
    source = open_source(
        spec,
        replace(reading, keep_labels=True),
        channels=None if normalization is None else len(normalization.mean),
    )
    if source is None or isinstance(source, NamedArrays):
        raise DataError(f"{spec}: arrays of several inputs; labels go with a model of one input")
    found = source.labels(reading.progress)
    if found is None:
        raise DataError(f"{spec}: gives no labels; give a data set or a loader of (sample, label)")
    samples = SourceSamples(
        source=source,
        normalization=normalization,
        channels_last=reading.options.channels_last,
    ).held(reading.progress)
    return samples, found[: len(samples)]
