"""What a bundle's network is run on, from the command line."""

from __future__ import annotations

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.data import check_finite, load_array, load_images
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding

SAMPLES_KEPT = 8  # calibration samples that go into a bundle


def load_inputs(bundle: Bundle, spec: str, encoding: Encoding, limit: int | None) -> Array:
    """Inputs for a bundle's network; a network without ANN takes arrays as they are.

    Args:
        bundle: opened.
        spec: FILE.npz:array or FILE.npy.
        encoding: of the network's input.
        limit: at most this many samples.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    whole = bundle.ann_hash is None
    array = load_array(spec) if whole else load_images(spec, bundle.normalization)
    taken = first(array, limit, encoding)
    check_finite(spec, taken)
    return taken


def first(samples: Array, limit: int | None, encoding: Encoding = "direct") -> Array:
    """The first `limit` samples, or all of them; spikes are [T, N, *shape]. Raises DataError."""
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: at least 1 is needed")
    return samples[:limit] if encoding == "direct" else samples[:, :limit]
