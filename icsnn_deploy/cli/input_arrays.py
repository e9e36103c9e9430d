"""Load the samples that a command runs a network on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.data import Normalization, check_finite, load_archive, load_array, load_images
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.encoded_samples import are_frames, before_encoding
from icsnn_deploy.evaluation.packed_samples import input_specs
from icsnn_deploy.evaluation.recording_samples import binning_of
from icsnn_deploy.evaluation.source_samples import SourceSamples, open_source_samples
from icsnn_deploy.events.binning import EventBinning
from icsnn_deploy.events.folder import find_recordings, map_recordings
from icsnn_deploy.graph.arrangement import is_plain, pack_into
from icsnn_deploy.graph.encoder import encoded, placed
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding, Input
from icsnn_deploy.pixels import channels_first
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.open import open_source
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.selection import Selection
from icsnn_deploy.sources.source import NamedArrays

_DEFAULTS = SourceOptions()


def load_inputs(
    bundle: Bundle,
    spec: str,
    node: Input,
    limit: int | None,
    options: SourceOptions = _DEFAULTS,
    progress: Progress = silent,
    *,
    mixed: bool = False,
) -> Array:
    """Load inputs for a bundle's network.

    Images are normalized as the bundle says. A network without ANN (an imported one) takes the
    array as it is. The arrays of several inputs are packed as the network takes them. Samples of a
    rate-encoded input are encoded; spikes are taken as they are.

    Args:
        bundle: an opened bundle.
        spec: FILE.npz:array, FILE.npy, or a source (sources.open_source); of several inputs
            FILE.npz, with an array of each name.
        node: the network's input.
        limit: use at most this many samples; None: all.
        options: how samples are read.
        progress: called as samples are read.
        mixed: put images and items of data sets in a mixed order, for calibration.

    Returns:
        [N, *shape], or [T, N, *shape] for rate and event input.

    Raises:
        DataError: the file can't be read or holds values that are not finite; names the file.
    """
    return load_with_source(bundle, spec, node, limit, options, progress, mixed=mixed)[0]


def load_with_source(
    bundle: Bundle,
    spec: str,
    node: Input,
    limit: int | None,
    options: SourceOptions,
    progress: Progress,
    *,
    mixed: bool = False,
    keep_labels: bool = False,
) -> tuple[Array, SourceSamples | None]:
    """Load inputs as load_inputs does, and the source, which may have labels; None of files."""
    samples, source = load_samples(
        bundle, spec, node, limit, options, progress, mixed=mixed, keep_labels=keep_labels
    )
    try:
        return encoded(bundle.network(), samples, bundle.rate_seed), source
    except DataError as error:
        raise DataError(f"{spec}: {error}") from error


def load_samples(
    bundle: Bundle,
    spec: str,
    node: Input,
    limit: int | None,
    options: SourceOptions,
    progress: Progress,
    *,
    mixed: bool = False,
    keep_labels: bool = False,
) -> tuple[Array, SourceSamples | None]:
    """Load as load_with_source does, without encoding the samples of a rate-encoded input.

    Returns:
        [N, *shape], or [T, N, *shape] where the files hold spikes; and the source.
    """
    recordings = find_recordings(spec) if node.encoding == "events" else None
    if recordings is not None:
        options.require_only(spec, "recordings of events")
        paths = recordings.first(limit).paths
        return placed(bundle.network(), map_recordings(paths, binning_of(bundle))), None
    source = open_source_samples(
        before_encoding(node),
        spec,
        options,
        normalization=bundle.normalization,
        whole=bundle.takes_arrays_unchanged,
        selection=Selection(limit, mixed),
        keep_labels=keep_labels,
        progress=progress,
    )
    if source is not None:
        return source.held(progress), source
    last = options.channels_last
    taking = before_encoding(node) if are_frames(node, spec) else node
    unchanged = bundle.takes_arrays_unchanged or taking.is_timed

    def load(one: str) -> Array:
        if unchanged:
            array = load_array(one)
            array = channels_first(array, taking.batch_axis + 1) if last else array
        else:
            array = load_images(one, bundle.normalization, last)
        taken = take_first(array, limit, taking.batch_axis)
        check_finite(one, taken)
        return taken

    return load_packed(taking, spec, load), None


def load_packed(node: Input, spec: str, load: Callable[[str], Array]) -> Array:
    """Load the arrays of a network's inputs, each with `load`, as the network takes them.

    Args:
        node: the network's input.
        spec: FILE.npz:array or FILE.npy; of several inputs FILE.npz, with an array of each name.
        load: FILE.npz:array or FILE.npy -> its samples.

    Raises:
        DataError: names the file, and the array that does not fit.
    """
    specs = input_specs(node, spec)
    arrays = {name: load(one) for name, one in specs.items()}
    if is_plain(node.parts, node.index, node.shape):
        return arrays[next(iter(specs))]  # checked as the network's input
    try:
        return pack_into(node, arrays)
    except DataError as error:
        raise DataError(f"{spec}: {error}") from error


def load_calibration(
    spec: str,
    normalization: Normalization | None,
    limit: int | None,
    options: SourceOptions = _DEFAULTS,
    progress: Progress = silent,
    encoding: Encoding = "direct",
    binning: EventBinning | None = None,
) -> Array | dict[str, Array]:
    """Load calibration samples for a model, as conversion takes them.

    Args:
        spec: FILE.npz:array, FILE.npy, or a source (sources.open_source); FILE.npz with an array
            for each input of the model, floats of as many samples.
        normalization: of images.
        limit: use at most this many samples; None: all.
        options: how samples are read.
        progress: called as samples are read.
        encoding: of the network's input; samples for "events" are spikes [T, N, *shape].
        binning: of event recordings, where the spec names some.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    if encoding == "events":
        return _load_events(spec, limit, options, binning)
    if binning is not None:
        raise DataError(
            f"{spec}: --event-shape goes with --encoding events and recordings of t, x, y, p"
        )
    source = open_source(
        spec,
        options,
        channels=None if normalization is None else len(normalization.mean),
        selection=Selection(limit, mixed=True),
        progress=progress,
    )
    last = options.channels_last
    if isinstance(source, NamedArrays):
        for name, array in source.arrays.items():
            check_finite(f"{spec}: {name}", array)
        return {
            name: channels_first(array) if last else array for name, array in source.arrays.items()
        }
    if source is not None:
        samples = SourceSamples(
            source=source, normalization=normalization, channels_last=bool(last)
        )
        return samples.held(progress)
    if Path(spec).suffix != ".npz" or normalization is not None:
        found = take_first(load_images(spec, normalization, last), limit)
        check_finite(spec, found)
        return found
    arrays = load_archive(Path(spec))
    lengths = {array.shape[:1] for array in arrays.values()}
    if len(lengths) != 1 or any(a.dtype.kind != "f" or a.ndim < 2 for a in arrays.values()):
        load_array(spec)  # says that one of the arrays must be named
    named = {name: take_first(array, limit) for name, array in arrays.items()}
    for name, array in named.items():
        check_finite(f"{spec}:{name}", array)
    return {name: channels_first(array) if last else array for name, array in named.items()}


def _load_events(
    spec: str, limit: int | None, options: SourceOptions, binning: EventBinning | None
) -> Array:
    """Spikes [T, N, *shape]: of recordings, or as an array file holds them."""
    recordings = find_recordings(spec)
    options.require_only(spec, "spikes of events")
    if recordings is None and binning is None:
        return take_first(load_array(spec), limit, 1)
    if recordings is None or binning is None:
        raise DataError(
            f"{spec}: --event-shape goes with --encoding events and recordings of t, x, y, p"
            if recordings is None
            else f"{spec}: recordings of events; --event-shape C,H,W is needed, the shape of the "
            "model's input: 2 channels for a channel per polarity, or 1"
        )
    return map_recordings(recordings.first(limit).paths, binning)


def take_first(samples: Array, limit: int | None, batch_axis: int = 0) -> Array:
    """The first `limit` samples along the batch axis, or all of them.

    Raises:
        DataError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: at least 1 is needed")
    return samples[(slice(None),) * batch_axis + (slice(limit),)]
