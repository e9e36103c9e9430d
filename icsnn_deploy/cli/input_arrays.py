"""Load the samples that a command runs a network on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.data import (
    Normalization,
    are_stored_samples,
    check_finite,
    load_archive,
    load_array,
    load_images,
)
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.encoded_samples import are_frames, before_encoding
from icsnn_deploy.evaluation.packed_samples import input_specs
from icsnn_deploy.evaluation.recording_samples import open_recordings
from icsnn_deploy.evaluation.samples import array_specs
from icsnn_deploy.evaluation.source_samples import SourceSamples, open_source_samples
from icsnn_deploy.events.binning import EventBinning
from icsnn_deploy.events.folder import find_recordings, map_recordings, refuse_recordings
from icsnn_deploy.graph.arrangement import is_plain, pack_into, parts_of_input
from icsnn_deploy.graph.encoder import encoded, placed
from icsnn_deploy.graph.inputs import check_spikes
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.node import Shape
from icsnn_deploy.graph.nodes import Encoding, Input
from icsnn_deploy.pixels import channels_first, is_channels_last
from icsnn_deploy.sources.open import open_source, source_kind
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.source import NamedArrays

_DEFAULTS = Reading()


def load_inputs(bundle: Bundle, spec: str, reading: Reading = _DEFAULTS) -> Array:
    """Load inputs for a bundle's network.

    Images are normalized as the bundle says. A network without ANN (an imported one) takes the
    array as it is. The arrays of several inputs are packed as the network takes them. Samples of a
    rate-encoded input are encoded; spikes are taken as they are.

    Args:
        bundle: an opened bundle.
        spec: FILE.npz:array, FILE.npy, FOLDER:array or FOLDER of such files, or a source
            (sources.open_source); of several inputs FILE.npz, with an array of each name.
        reading: how, and which, samples are read.

    Returns:
        [N, *shape], or [T, N, *shape] for rate and event input.

    Raises:
        DataError: the file can't be read or holds values that are not finite; names the file.
    """
    return load_with_source(bundle, spec, reading)[0]


def load_with_source(
    bundle: Bundle, spec: str, reading: Reading
) -> tuple[Array, SourceSamples | None]:
    """Load inputs as load_inputs does, and the source, which may have labels; None of files."""
    samples, source = load_samples(bundle, spec, reading)
    network = bundle.network()
    try:
        found = encoded(network, samples, bundle.rate_seed)
        check_spikes(network.input, found)
    except DataError as error:
        raise DataError(f"{spec}: {error}") from error
    return found, source


def load_samples(bundle: Bundle, spec: str, reading: Reading) -> tuple[Array, SourceSamples | None]:
    """Load as load_with_source does, without encoding the samples of a rate-encoded input.

    Returns:
        [N, *shape], or [T, N, *shape] where the files hold spikes; and the source.
    """
    node, limit = bundle.network().input, reading.selection.limit
    recordings = open_recordings(bundle, spec)
    if recordings is not None:
        reading.options.require_only(spec, "recordings of events")
        paths = recordings.folder.first(limit).paths
        return placed(bundle.network(), map_recordings(paths, recordings.binning)), None
    if are_stored_samples(spec):
        reading.options.require_only(spec, "the samples of a bundle")
        return take_first(load_array(spec), limit, node.batch_axis), None
    source = open_source_samples(bundle, spec, reading)
    if source is not None:
        return source.held(reading.progress), source
    last = reading.options.channels_last
    taking = before_encoding(node) if are_frames(node, spec) else node
    unchanged = bundle.takes_arrays_unchanged or taking.is_timed

    def load(one: str, own: Shape) -> Array:
        if not unchanged:
            return load_images(one, bundle.normalization, last, own)
        array, axis = load_array(one), taking.batch_axis
        moved = is_channels_last(one, array.shape[axis:], None, last, own)
        return channels_first(array, axis + 1) if moved else array

    def load_all(one: str, own: Shape) -> Array:
        return _load_files(one, partial(load, own=own), limit, taking.batch_axis)

    return load_packed(taking, spec, load_all), None


def _load_files(
    spec: str, load: Callable[[str], Array], limit: int | None, batch_axis: int = 0
) -> Array:
    """The first samples of one file, or of a folder of files one after the other.

    Args:
        spec: FILE.npz:array, FILE.npy, FOLDER:array or FOLDER.
        load: FILE.npz:array or FILE.npy -> its samples.
        limit: how many; None: all.
        batch_axis: of the samples.

    Raises:
        DataError: names the file that can't be read, or whose samples are not like the first.
    """
    found: list[Array] = []
    for one in array_specs(spec):
        left = None if limit is None else limit - sum(a.shape[batch_axis] for a in found)
        if left == 0:
            break
        array = load(one)
        if array.ndim <= batch_axis:
            raise DataError(f"{one}: shape {list(array.shape)}; it has no axis of samples")
        found.append(take_first(array, left, batch_axis))
        check_finite(one, found[-1])
        own, first = (
            ([*a.shape[:batch_axis], *a.shape[batch_axis + 1 :]], a.dtype)
            for a in (found[-1], found[0])
        )
        if own != first:
            raise DataError(
                f"{one}: {own[1]} samples {own[0]}, but those of the files before it are "
                f"{first[1]} {first[0]}"
            )
    return found[0] if len(found) == 1 else np.concatenate(found, axis=batch_axis)


def load_packed(node: Input, spec: str, load: Callable[[str, Shape], Array]) -> Array:
    """Load the arrays of a network's inputs, each with `load`, as the network takes them.

    Args:
        node: the network's input.
        spec: FILE.npz:array or FILE.npy; of several inputs FILE.npz, with an array of each name.
        load: FILE.npz:array or FILE.npy, and the shape of one sample -> its samples.

    Raises:
        DataError: names the file, and the array that does not fit.
    """
    specs = input_specs(node, spec)
    shapes = {part.name: part.shape for part in parts_of_input(node)}
    arrays = {name: load(one, shapes[name]) for name, one in specs.items()}
    if is_plain(node.parts, node.index, node.shape):
        return arrays[next(iter(specs))]  # checked as the network's input
    try:
        return pack_into(node, arrays)
    except DataError as error:
        raise DataError(f"{spec}: {error}") from error


def load_calibration(
    spec: str,
    normalization: Normalization | None,
    reading: Reading = _DEFAULTS,
    encoding: Encoding = "direct",
    binning: EventBinning | None = None,
) -> Array | dict[str, Array]:
    """Load calibration samples for a model, as conversion takes them.

    Args:
        spec: FILE.npz:array, FILE.npy, FOLDER:array or FOLDER of such files, or a source
            (sources.open_source); FILE.npz with an array for each input of the model, floats of as
            many samples.
        normalization: of images.
        reading: how, and which, samples are read.
        encoding: of the network's input; samples for "events" are spikes [T, N, *shape].
        binning: of event recordings, where the spec names some.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    limit, last = reading.selection.limit, reading.options.channels_last
    if encoding == "events":
        return _load_events(spec, reading, binning)
    refuse_recordings(spec, "convert with --encoding events and --event-shape C,H,W")
    if binning is not None:
        raise DataError(
            f"{spec}: --event-shape goes with --encoding events and recordings of t, x, y, p"
        )
    channels = None if normalization is None else len(normalization.mean)
    source = open_source(spec, reading, channels=channels)
    if isinstance(source, NamedArrays):
        for name, array in source.arrays.items():
            check_finite(f"{spec}: {name}", array)
        return {
            name: channels_first(array) if last else array for name, array in source.arrays.items()
        }
    if source is not None:
        samples = SourceSamples(source=source, normalization=normalization, channels_last=last)
        return samples.held(reading.progress)
    if Path(spec).suffix != ".npz" or normalization is not None:
        return _load_files(spec, lambda one: load_images(one, normalization, last), limit)
    arrays = load_archive(Path(spec))
    lengths = {array.shape[:1] for array in arrays.values()}
    if len(lengths) != 1 or any(a.dtype.kind != "f" or a.ndim < 2 for a in arrays.values()):
        load_array(spec)  # says that one of the arrays must be named
    named = {name: take_first(array, limit) for name, array in arrays.items()}
    for name, array in named.items():
        check_finite(f"{spec}:{name}", array)
    return {name: channels_first(array) if last else array for name, array in named.items()}


def _load_events(spec: str, reading: Reading, binning: EventBinning | None) -> Array:
    """Spikes [T, N, *shape]: of recordings, or as array files hold them."""
    recordings = find_recordings(spec)
    reading.options.require_only(spec, "spikes of events")
    if recordings is None and binning is None:
        kind = source_kind(spec)
        if kind != "arrays":
            raise DataError(
                f"{spec}: {_KINDS.get(kind, 'nothing that is known')}, but --encoding events takes "
                "spikes [T, N, *shape] in FILE.npz:array or FILE.npy, or recordings of t, x, y, p "
                "(a file or a folder of them) with --event-shape C,H,W"
            )
        return _load_files(spec, load_array, reading.selection.limit, 1)
    if recordings is None or binning is None:
        raise DataError(
            f"{spec}: --event-shape goes with --encoding events and recordings of t, x, y, p"
            if recordings is None
            else f"{spec}: recordings of events; --event-shape C,H,W is needed, the shape of the "
            "model's input: 2 channels for a channel per polarity, or 1"
        )
    return map_recordings(recordings.first(reading.selection.limit).paths, binning)


_KINDS = {
    "callable": "a callable",
    "images": "images",
    "torchvision": "images of torchvision",
    "empty": "a folder without arrays and recordings",
}
"""What a spec names, by sources.open.source_kind."""


def take_first(samples: Array, limit: int | None, batch_axis: int = 0) -> Array:
    """The first `limit` samples along the batch axis, or all of them.

    Raises:
        DataError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: at least 1 is needed")
    return samples[(slice(None),) * batch_axis + (slice(limit),)]
