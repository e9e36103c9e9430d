r"""Layers of a convolution core: one convolution, one population, and sum pooling after it.

    population -> sum pooling (side 1, 2 or 4) -> convolution -> population
                  \____ the sender's core ____/   \__ the receiver's core __/

A join is one kernel in which each branch has its own input channels (sinabs docs,
speck/faqs/available_network_arch: several cores may have one destination, each shifting its
channels). Smaller kernels are padded with zeros to the union of all taps, and to a square, which
sinabs requires. Dilated kernels are stored with their zeros, grouped ones without groups, and a
fully connected layer is a convolution of the size of its map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import AvgPool, Conv, Flatten, Linear, Output, Population
from icsnn_deploy.targets.misfit import Misfit
from icsnn_deploy.targets.paths import (
    SpikePath,
    image_shape,
    is_pool,
    is_weighted,
    makes_channels_of_pixels,
    paths_into,
)
from icsnn_deploy.targets.profile import TargetProfile

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class CnnLayer:
    """The layer that one core holds."""

    layer: str
    features_in: int  # of all branches
    features_out: int
    kernel: int  # side of the square that holds all taps
    stride: Pair
    padding: Pair
    input_map: Pair  # height, width of the input, after pooling
    output_map: Pair  # height, width of the population
    destinations: int

    @property
    def kernel_words(self) -> int:
        """c_in * 2^(ceil(log2(k_x k_y)) + ceil(log2(c_out))), sinabs, DynapcnnLayer."""
        return self.features_in << (_log2(self.kernel**2) + _log2(self.features_out))

    @property
    def neuron_words(self) -> int:
        """c_out * 2^(ceil(log2 f_x) + ceil(log2 f_y)), sinabs, DynapcnnLayer."""
        height, width = self.output_map
        return self.features_out << (_log2(height) + _log2(width))

    @property
    def bias_words(self) -> int:
        """One word per output feature."""
        return self.features_out


@dataclass(frozen=True)
class _Branch:
    """A path into a population, as taps of a kernel."""

    path: SpikePath
    pool: int
    features: int
    input_map: Pair
    first: Pair  # offset of the first tap, <= 0 where there is padding
    last: Pair
    stride: Pair


def cnn_layers(
    graph: Graph, targets: Iterable[Population | Output], profile: TargetProfile
) -> tuple[tuple[CnnLayer, ...], list[Misfit]]:
    """The layers of the cores, and the misfits of a network that can't be built from them."""
    chip = list(targets)
    misfits: list[Misfit] = []
    branches: dict[str, list[_Branch]] = {}
    sent: dict[str, int] = {}
    for target in chip:
        branches[target.name] = []
        for path in paths_into(graph, target):
            branch, problems = _branch(graph, path)
            misfits += problems
            branches[target.name].append(branch)
            sent[path.source.name] = sent.get(path.source.name, 0) + 1
    layers = []
    for target in chip:
        misfits += _join(target.name, branches[target.name])
        layer = _layer(graph, target, branches[target.name], sent.get(target.name, 0))
        layers.append(layer)
        pools = {branch.pool: branch.path for branch in branches[target.name]}
        misfits += _limits(layer, pools, profile)
    return tuple(layers), misfits


def _log2(value: int) -> int:
    """ceil(log2(value))"""
    return (value - 1).bit_length()


def _branch(graph: Graph, path: SpikePath) -> tuple[_Branch, list[Misfit]]:
    """The taps of a path; pooling before the weights belongs to the sending core."""
    pool, misfits = 1, []
    shape = image_shape(graph.shape(path.source.name))
    for node in path.nodes:
        if is_weighted(node):
            break
        if isinstance(node, (Conv, AvgPool)):
            sides = {*node.kernel, *node.stride}
            if len(sides) != 1 or any(sum(pair) for pair in node.padding):
                misfits.append(_uneven_pool(node))
            pool *= max(node.kernel)
        if not isinstance(node, Flatten):
            shape = image_shape(graph.shape(node.name))
    weighted = path.weighted
    after = path.nodes[path.nodes.index(weighted[0]) :] if weighted else ()
    misfits += [_late_pool(node.name) for node in after if is_pool(node)]
    size: Pair = (shape[1], shape[2])
    first, last, stride = (0, 0), (0, 0), (1, 1)
    kernel = weighted[0] if weighted else None
    flattened = makes_channels_of_pixels(graph, path)
    if flattened and isinstance(kernel, Conv):
        misfits.append(_flattened_maps(path, kernel))
    if isinstance(kernel, Linear) or (flattened and not isinstance(kernel, Conv)):
        last = (size[0] - 1, size[1] - 1)
    elif isinstance(kernel, Conv):
        pads = (*(pair[0] for pair in kernel.padding), 0)[:2]
        spread = zip(kernel.dilation, kernel.kernel, strict=True)
        reach = (*(step * (taps - 1) for step, taps in spread), 0)[:2]
        first = (-pads[0], -pads[1])
        last = (reach[0] - pads[0], reach[1] - pads[1])
        stride = (kernel.stride[0], kernel.stride[-1])
    return _Branch(path, pool, shape[0], size, first, last, stride), misfits


def _layer(
    graph: Graph, target: Population | Output, branches: list[_Branch], destinations: int
) -> CnnLayer:
    first = tuple(min(branch.first[axis] for branch in branches) for axis in (0, 1))
    last = tuple(max(branch.last[axis] for branch in branches) for axis in (0, 1))
    features, height, width = image_shape(graph.shape(target.name))
    return CnnLayer(
        layer=target.name,
        features_in=sum(branch.features for branch in branches),
        features_out=features,
        kernel=max(last[axis] - first[axis] + 1 for axis in (0, 1)),
        stride=branches[0].stride,
        padding=(-first[0], -first[1]),
        input_map=branches[0].input_map,
        output_map=(height, width),
        destinations=destinations,
    )


def _join(layer: str, branches: list[_Branch]) -> list[Misfit]:
    """Branches of one kernel that differ in stride or in map size."""
    shapes = {(branch.stride, branch.input_map) for branch in branches}
    if len(shapes) == 1:
        return []
    got = "; ".join(
        f"from {b.path.source.name}: {b.input_map[0]}x{b.input_map[1]}, stride {b.stride[0]}"
        for b in branches
    )
    return [
        Misfit(
            node=layer,
            what="join",
            got=got,
            allowed="branches of one map size and one stride, which share a core's kernel",
            over="",
            remedy=(
                "Pool the shortcut to the size of the other branch instead of its stride, or put "
                "a population on it."
            ),
        )
    ]


def _uneven_pool(node: Conv | AvgPool) -> Misfit:
    return Misfit(
        node=node.name,
        what="pooling",
        got=f"kernel {node.kernel}, stride {node.stride}, padding {node.padding}",
        allowed="square windows that do not overlap, without padding",
        over="",
        remedy="Fold the sums into the next connection, or change the pooling.",
    )


def _late_pool(name: str) -> Misfit:
    return Misfit(
        node=name,
        what="pooling",
        got="pooling of currents, after the weights",
        allowed="pooling of spikes, after a population",
        over="",
        remedy="Fold it into the connection before it as a strided convolution.",
    )


def _flattened_maps(path: SpikePath, kernel: Conv) -> Misfit:
    return Misfit(
        node=next(node.name for node in path.nodes if isinstance(node, Flatten)),
        what="flatten",
        got=f"the maps of {kernel.name} as a vector, before {path.target.name}",
        allowed="maps of spikes, after a population",
        over="",
        remedy=f"Put the Flatten after {path.target.name}.",
    )


def _limits(layer: CnnLayer, pools: dict[int, SpikePath], profile: TargetProfile) -> list[Misfit]:
    split = "Split it over more layers, or make the layer smaller."
    numbers = (
        ("kernel size", layer.kernel, profile.kernel_size, "Use a smaller kernel or dilation."),
        ("padding", max(layer.padding), profile.padding, "Use less padding."),
        ("input features", layer.features_in, profile.features, split),
        ("output features", layer.features_out, profile.features, split),
        ("input map", max(layer.input_map), profile.input_map, "Pool or crop before it."),
        ("output map", max(layer.output_map), profile.output_map, "Use a stride, or pool before."),
        (
            "destinations",
            layer.destinations,
            profile.destinations,
            "Leave shortcuts out, or repeat the layer on another core.",
        ),
    )
    misfits = [
        Misfit(
            node=layer.layer,
            what=what,
            got=f"{got:,}",
            allowed=f"up to {most:,}",
            over=f"{got - most:,}",
            remedy=remedy,
        )
        for what, got, most, remedy in numbers
        if most is not None and got > most
    ]
    if profile.strides is not None and not set(layer.stride) <= set(profile.strides):
        misfits.append(_choice(layer.layer, "stride", max(layer.stride), profile.strides))
    for side, path in pools.items():
        if profile.pooling is not None and side not in profile.pooling:
            name = path.pools[-1].name
            misfits.append(_choice(name, "pooling", side, profile.pooling))
    return misfits


def _choice(node: str, what: str, got: int, allowed: tuple[int, ...]) -> Misfit:
    names = ", ".join(map(str, allowed))
    remedy = f"Use a {what} of {names}."
    if what == "pooling":
        remedy = f"Pool by {names}, or fold the sums into the next connection's kernel."
    return Misfit(
        node=node,
        what=what,
        got=f"{got} in all" if what == "pooling" else str(got),
        allowed=names,
        over="",
        remedy=remedy,
    )
