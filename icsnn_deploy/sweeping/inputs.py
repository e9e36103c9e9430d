"""What a sweep starts from: a model, calibration samples, and the samples that are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.samples import CalibrationSource
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation
from icsnn_deploy.conversion.frontend.replace_max_pool import Replacement
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.encoded_samples import before_encoding, encoded_set
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.evaluation.source_samples import SourceSamples
from icsnn_deploy.graph.arrangement import is_plain, pack_inputs, pack_into
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.progress import Progress
from icsnn_deploy.sources.held import held as held_samples
from icsnn_deploy.sources.options import ImageSize
from icsnn_deploy.sources.source import ArraySource

Labels = Mapping[str, Array] | Array | None
OpenSamples = Callable[[Bundle], tuple[DataSet, Labels]]
"""The samples and labels that a bundle's network is measured on."""

_CHUNK = 256  # samples that are hashed at once


@dataclass(frozen=True, kw_only=True, eq=False)
class SweptModel:
    """A model with its calibration samples, and how it is converted apart from the recipe.

    Args:
        model: as for convert.
        calibration: samples [N, *shape] as convert takes them; of several inputs an array each.
        calibration_labels: class indices [N], for recipes that train on labels.
        normalization, activations, replace_max_pool, approximate, task, encoding, rate_seed,
            device: as for convert.
        image_size: what size images get that the networks are run on.
    """

    model: nn.Module | ExportedProgram
    calibration: Array | Mapping[str, Array]
    calibration_labels: Array | None = None
    normalization: Normalization | None = None
    activations: Sequence[DeclaredActivation] = ()
    replace_max_pool: Replacement | None = None
    approximate: Approximation | None = None
    task: Task | Mapping[str, Task] | None = None
    encoding: Encoding = "direct"
    rate_seed: int | None = None
    image_size: ImageSize | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.encoding == "events":
            raise DataError(
                "a sweep of a network on events: its recordings are binned to one T; convert it at "
                "each T and compare with icsnn evaluate"
            )
        if self.calibration_labels is not None and isinstance(self.calibration, Mapping):
            raise DataError("calibration labels go with a model of one input; leave them out")

    def convert(
        self,
        recipe: Recipe,
        progress: Progress,
        *,
        samples: int | None = None,
        checkpoints: Path | None = None,
    ) -> Conversion:
        """Convert with one recipe; on the first `samples` calibration samples, or on all."""
        data: Any = self._first(samples)
        if recipe.strategy.uses_labels and self.calibration_labels is not None:
            data = (data, self.calibration_labels[:samples])
        return convert(
            self.model,
            data,
            recipe,
            normalization=self.normalization,
            activations=self.activations,
            replace_max_pool=self.replace_max_pool,
            approximate=self.approximate,
            task=self.task,
            encoding=self.encoding,
            rate_seed=self.rate_seed,
            checkpoints=checkpoints,
            device=self.device,
            progress=progress,
        )

    def save(self, conversion: Conversion, path: Path, count: int) -> Bundle:
        """Write the bundle of a conversion, with a few of its samples."""
        return conversion.save(
            path, self.packed(conversion)[:count], image_size=self.image_size, overwrite=True
        )

    def packed(self, conversion: Conversion) -> Array:
        """The calibration samples as the conversion's network takes them."""
        if isinstance(self.calibration, Mapping):
            return pack_inputs(conversion.ann, dict(self.calibration))
        return self.calibration

    def packed_for(self, bundle: Bundle) -> Array:
        """The calibration samples as a bundle's network takes them."""
        if isinstance(self.calibration, Mapping):
            return pack_inputs(bundle.ann(), dict(self.calibration))
        return self.calibration

    def digest(self) -> str:
        """A hash of the calibration samples and of all that changes a conversion but the recipe."""
        named = (
            self.calibration if isinstance(self.calibration, Mapping) else {"": self.calibration}
        )
        digest = hashlib.sha256()
        for name, array in named.items():
            _add(digest, name, array)
        if self.calibration_labels is not None:
            _add(digest, "labels", self.calibration_labels)
        told = (self.normalization, tuple(self.activations), self.replace_max_pool)
        digest.update(repr((*told, self.approximate, self.task)).encode())
        digest.update(repr((self.encoding, self.rate_seed, self.image_size)).encode())
        return digest.hexdigest()

    def _first(self, count: int | None) -> Array | dict[str, Array]:
        if isinstance(self.calibration, Mapping):
            return {name: np.asarray(array[:count]) for name, array in self.calibration.items()}
        return self.calibration[:count]


def held(
    data: CalibrationSource | Mapping[str, Array],
    what: str,
    *,
    mixed: bool,
    limit: int | None = None,
    keep_labels: bool = True,
    progress: Progress,
) -> tuple[Array | Mapping[str, Array], Array | None]:
    """Samples in any form that convert takes, as arrays, and the labels that they come with.

    Args:
        data: the samples; of several inputs an array for each.
        what: what they are, the beginning of messages.
        mixed, limit, keep_labels, progress: as for sources.held.held. Labels that are given apart
            go with samples that are not mixed.

    Raises:
        DataError: no samples, or samples of different shapes or types.
    """
    if isinstance(data, Mapping):
        return {name: np.asarray(array) for name, array in data.items()}, None
    samples, labels = held_samples(
        data, what, limit=limit, mixed=mixed, keep_labels=keep_labels, progress=progress
    )
    if samples.ndim < 2 or not len(samples):
        raise DataError(f"{what} of shape {list(samples.shape)}: [N, *shape] with N >= 1")
    return samples, labels


def array_samples(images: Array | Mapping[str, Array], labels: Labels) -> OpenSamples:
    """Samples and labels that are held as arrays: images as convert takes calibration samples."""

    def open_set(bundle: Bundle) -> tuple[DataSet, Labels]:
        node = before_encoding(bundle.network().input)
        arranged = is_plain(node.parts, node.index, node.shape)
        array = images
        if isinstance(array, Mapping):
            array, arranged = pack_into(node, array), True
        samples = SourceSamples(
            source=ArraySource("images", array, None),
            normalization=bundle.normalization,
            node=None if arranged else node,
        )
        return encoded_set(bundle, samples), labels

    return open_set


def digest_of(samples: DataSet, labels: Labels, count: int, progress: Progress) -> str:
    """A hash of the first `count` samples and of the labels; reads all of these samples."""
    digest = hashlib.sha256(str(count).encode())
    for start in range(0, count, _CHUNK):
        progress("reading samples", start, count)
        _add(digest, str(start), samples.read(start, min(start + _CHUNK, count)))
    progress("reading samples", count, count)
    named = labels if isinstance(labels, Mapping) else {"": labels}
    for name, array in named.items():
        if array is not None:
            _add(digest, f"labels {name}", np.asarray(array))
    return digest.hexdigest()


def _add(digest: Any, name: str, array: Array) -> None:
    array = np.ascontiguousarray(array)
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(array.data)
