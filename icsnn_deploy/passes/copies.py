"""What a node's result copies: the population and channel behind each of its channels.

Pieces that are cut out of one population, and placed elsewhere, are again spikes of it; so is their
sum, where each channel of it holds one channel of one population.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Conv, Linear, Node
from icsnn_deploy.passes.small_integers import common_unit, small_integers


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Each channel as unit * (sum of small integers times values of one channel of one node).

    Attributes:
        source: name of that node for each channel, object [C]; "" where the channel is zero.
        channel: of that node, int64 [C].
        unit: float64 [C], > 0; 1 where the channel is zero.
    """

    source: Array
    channel: Array
    unit: Array

    @classmethod
    def of_itself(cls, name: str, channels: int) -> Copies:
        """A node whose channels are not traced further."""
        return cls(
            source=np.full(channels, name, object),
            channel=np.arange(channels),
            unit=np.ones(channels),
        )

    @property
    def used(self) -> Array:
        """Which channels are not always zero, bool [C]."""
        used: Array = self.source != ""
        return used


def copies_of(node: Node, channels: int, of_source: Callable[[str], Copies]) -> Copies | None:
    """What a node's result copies; None for a node that does more than copy, count and join.

    Args:
        node: the node.
        channels: of its result.
        of_source: what the result of another node copies (itself, where it is not traced further).
    """
    if isinstance(node, Add):
        return joined([of_source(name) for name in node.inputs])
    if not isinstance(node, (Conv, Linear, ChannelAffine)):
        return None
    found = small_integers(node, channels)
    if found is None:
        return None
    before = of_source(node.inputs[0])
    used = (found.channel >= 0) & before.used[found.channel]
    return Copies(
        source=np.where(used, before.source[found.channel], ""),
        channel=np.where(used, before.channel[found.channel], 0),
        unit=np.where(used, found.unit * before.unit[found.channel], 1.0),
    )


def joined(parts: Sequence[Copies]) -> Copies | None:
    """What the sum of several results copies; None where a channel would mix different sources."""
    total = parts[0]
    source, channel = total.source.copy(), total.channel.copy()
    for part in parts[1:]:
        both = part.used & (source != "")
        if ((source != part.source) | (channel != part.channel))[both].any():
            return None
        source = np.where(part.used, part.source, source)
        channel = np.where(part.used, part.channel, channel)
    unit = common_unit([part.unit for part in parts], [part.used for part in parts])
    return None if unit is None else Copies(source=source, channel=channel, unit=unit)
