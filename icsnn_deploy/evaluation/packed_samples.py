"""Data sets of a network with several inputs: an array for each, packed as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icsnn_deploy.data import Normalization, are_stored_samples
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.samples import Samples, open_samples
from icsnn_deploy.graph.arrangement import is_plain, pack_into, parts_of_input
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input


@dataclass(eq=False, kw_only=True)
class PackedSamples(Samples):
    """Samples of a network's inputs; `read` returns them packed, as the network takes them."""

    node: Input
    named: Mapping[str, Samples]

    def blank(self) -> Array:
        return self._packed({name: one.blank() for name, one in self.named.items()})

    def read(self, start: int, stop: int) -> Array:
        return self._packed({name: one.read(start, stop) for name, one in self.named.items()})

    def _packed(self, arrays: Mapping[str, Array]) -> Array:
        return pack_into(self.node, arrays)


def open_inputs(
    node: Input,
    spec: str,
    *,
    normalization: Normalization | None = None,
    whole: bool = False,
    channels_last: bool | None = None,
) -> Samples:
    """Open the samples of a network; only the headers of the files are read.

    Args:
        node: the network's input.
        spec: as for open_samples; of several inputs FILE.npz, or FOLDER of .npz files, with an
            array of each name; or the samples of a bundle, which are packed already.
        normalization, whole, channels_last: as for open_samples.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    if are_stored_samples(spec):
        return open_samples(spec, axis=node.batch_axis, whole=True)
    shapes = {part.name: part.shape for part in parts_of_input(node)}
    named = {
        name: open_samples(
            one,
            axis=node.batch_axis,
            normalization=normalization,
            whole=whole,
            channels_last=channels_last,
            own=shapes[name],
        )
        for name, one in input_specs(node, spec).items()
    }
    first = next(iter(named.values()))
    if is_plain(node.parts, node.index, node.shape):
        return first
    counts = {name: len(one) for name, one in named.items()}
    if len(set(counts.values())) != 1:
        raise DataError(f"{spec}: {counts} samples; as many of each input are needed")
    return PackedSamples(
        first.pieces,
        first.sample,
        first.dtype,
        first.axis,
        first.normalization,
        first.whole,
        node=node,
        named=named,
    )


def input_specs(node: Input, spec: str) -> dict[str, str]:
    """Where the samples of each input are: FILE.npz:array and the like, by the input's name.

    Args:
        node: the network's input.
        spec: of one input, where its samples are; of several, FILE.npz or FOLDER.

    Raises:
        DataError: an array that is named where several are needed.
    """
    parts = parts_of_input(node)
    if len(parts) == 1:
        return {parts[0].name: spec}
    try:
        whole = Path(spec).suffix == ".npz" or Path(spec).is_dir()
    except OSError:  # a name that the file system does not accept
        whole = False
    if not whole:
        names = ", ".join(part.name for part in parts)
        raise DataError(
            f"{spec}: the network takes {names}; give FILE.npz with an array of each name"
        )
    return {part.name: f"{spec}:{part.name}" for part in parts}
