"""Load the arrays that a command runs a network on."""

from __future__ import annotations

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.data import check_finite, load_array, load_images
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input


def load_inputs(bundle: Bundle, spec: str, node: Input, limit: int | None) -> Array:
    """Load inputs for a bundle's network.

    Images are normalized as the bundle says. A network without ANN (an imported one) takes the
    array as it is.

    Args:
        bundle: an opened bundle.
        spec: FILE.npz:array or FILE.npy.
        node: the network's input.
        limit: use at most this many samples; None: all.

    Returns:
        [N, *shape], or [T, N, *shape] for rate and event input.

    Raises:
        DataError: the file can't be read or holds values that are not finite; names the file.
    """
    is_imported = bundle.ann_hash is None
    array = load_array(spec) if is_imported else load_images(spec, bundle.normalization)
    taken = take_first(array, limit, node.batch_axis)
    check_finite(spec, taken)
    return taken


def take_first(samples: Array, limit: int | None, batch_axis: int = 0) -> Array:
    """The first `limit` samples along the batch axis, or all of them.

    Raises:
        DataError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: at least 1 is needed")
    return samples[(slice(None),) * batch_axis + (slice(limit),)]
