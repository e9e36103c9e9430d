r"""Rearrange the elements along one spatial axis, by convolutions that only select.

Each channel of the result has a program: for each of its places the channel and the place in the
source, or nothing (zero). Most programs are regular but for a few places at the borders:

    x --> conv (regular part) ------------------------------- + --> result
     \--> crop (a run of places) --> place (zero padding) ---/
     \--> crop (one place) --> place (a kernel of its own) -/
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Builder, Unsupported
from icsnn_deploy.conversion.frontend.selecting import Shift, check_weights, shift_conv
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Pairs

MAX_PIECES = 256
"""Convolutions that one rearrangement may take."""

_SHORTEST_RUN = 4  # shorter ones are read place by place


def gather_axis(builder: Builder, source: str, axis: int, programs: Array, name: str) -> str:
    """A node that computes the programs.

    Args:
        builder: of the graph.
        source: a node with an image.
        axis: spatial axis, from 0.
        programs: int64 [Q, P]: channel * length + place in the source, or -1 for zero.
        name: of the node; unused where the source itself is the result.

    Raises:
        Unsupported: it takes too many convolutions.
    """
    shape = builder.shapes[source]
    if programs.shape == (shape[0], shape[axis + 1]) and np.array_equal(
        programs.reshape(-1), np.arange(programs.size)
    ):
        return source
    parts: list[str] = []
    rest = programs
    regular = _regular(programs, shape[axis + 1])
    if regular is not None:
        stride, channels, offsets, covered = regular
        whole = bool((covered | (programs < 0)).all())
        own = name if whole else builder.name(f"{name}.part")
        shift = _along(builder, source, axis, stride, channels, offsets)
        positions = _lengths(builder, source, axis, programs.shape[1])
        parts.append(shift_conv(builder, source, shift, positions, own))
        if whole:
            return own
        rest = np.where(covered, -1, programs)
    pieces = _Pieces(builder, source, axis, programs.shape[1], name)
    parts += pieces.of(rest)
    if len(parts) == 1:  # one piece alone: give it the name
        return parts[0]
    return builder.add(Add(name=name, inputs=tuple(parts)))


def _lengths(builder: Builder, source: str, axis: int, length: int) -> tuple[int, ...]:
    """Spatial shape of the source with another length along the axis."""
    lengths = list(builder.shapes[source][1:])
    lengths[axis] = length
    return tuple(lengths)


def _along(
    builder: Builder, source: str, axis: int, stride: int, channels: Array, offsets: Array
) -> Shift:
    axes = len(builder.shapes[source]) - 1
    every = np.zeros((len(channels), axes), np.int64)
    every[:, axis] = offsets
    strides = tuple(stride if one == axis else 1 for one in range(axes))
    return Shift(channels=channels, offsets=every, stride=strides)


def _regular(programs: Array, length: int) -> tuple[int, Array, Array, Array] | None:
    """Stride, channels [Q] (-1 where a program is not regular), offsets [Q], covered [Q, P].

    A convolution gives zeros only where it reads beyond the border. So every place that it reaches
    inside must be part of the program.
    """
    valid = programs >= 0
    channel, place = np.maximum(programs, 0) // length, np.maximum(programs, 0) % length
    pairs = valid[:, 1:] & valid[:, :-1]
    steps = np.diff(place, axis=1)[pairs]
    best = None
    for stride in {1, *steps[steps > 0].tolist()} if len(steps) < 10**6 else {1}:
        if stride > length:
            continue
        offset = place - stride * np.arange(programs.shape[1])
        chosen = np.array([_mode(offset[q][valid[q]]) for q in range(len(programs))])
        match = valid & (offset == chosen[:, None])
        first = channel[np.arange(len(programs)), match.argmax(axis=1)]
        read = stride * np.arange(programs.shape[1]) + chosen[:, None]
        inside = (read >= 0) & (read < length)
        good = (~inside | (match & (channel == first[:, None]))).all(axis=1) & inside.any(axis=1)
        covered = inside & good[:, None]
        if covered.any() and (best is None or covered.sum() > best[3].sum()):
            best = stride, np.where(good, first, -1), np.where(good, chosen, 0), covered
    return best


def _mode(values: Array) -> int:
    if not len(values):
        return 0
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


class _Pieces:
    """The places that the regular part leaves, each piece as a crop and a convolution that places.

    Args:
        builder: of the graph.
        source: the node that is read.
        axis: spatial axis.
        length: of the result along the axis.
        name: of the result, for the names of the pieces.
    """

    def __init__(self, builder: Builder, source: str, axis: int, length: int, name: str) -> None:
        self.builder, self.source, self.axis = builder, source, axis
        self.length, self.name = length, name
        self.channels = builder.shapes[source][0]
        self.own_length = builder.shapes[source][axis + 1]

    def of(self, programs: Array) -> list[str]:
        """Nodes whose sum is the programs' result."""
        runs, singles = self._split(programs)
        if len(runs) + len(singles) > MAX_PIECES:
            raise Unsupported(
                got=f"{self.name}: a rearrangement of {len(runs) + len(singles)} separate places",
                allowed=f"at most {MAX_PIECES}, each of which takes layers of its own",
                remedy="Use smaller images, or a regular operator (a stride, zero padding).",
            )
        count = len(programs)
        return [
            *(self._run(count, *key, rows) for key, rows in sorted(runs.items())),
            *(self._single(count, place, rows) for place, rows in sorted(singles.items())),
        ]

    def _split(
        self, programs: Array
    ) -> tuple[
        dict[tuple[int, int, int, int], list[tuple[int, int]]],
        dict[int, list[tuple[int, int, int]]],
    ]:
        """Runs (begin, end, place, stride) -> (row, channel), and place -> (row, at, channel)."""
        runs: dict[tuple[int, int, int, int], list[tuple[int, int]]] = defaultdict(list)
        singles: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for row in range(len(programs)):
            for begin, end, channel, place, stride in self._runs(programs[row]):
                if end - begin >= _SHORTEST_RUN and stride:
                    runs[begin, end, place, stride].append((row, channel))
                    continue
                for at in range(begin, end):
                    singles[place + stride * (at - begin)].append((row, at, channel))
        return runs, singles

    def _runs(self, program: Array) -> list[tuple[int, int, int, int, int]]:
        """(begin, end, channel, place, stride) of places that advance evenly in one channel."""
        found = []
        at = 0
        codes = program.tolist()
        while at < len(codes):
            if codes[at] < 0:
                at += 1
                continue
            channel, place = divmod(codes[at], self.own_length)
            end, stride = at + 1, 0
            while end < len(codes) and codes[end] >= 0 and codes[end] // self.own_length == channel:
                step = codes[end] - codes[end - 1]
                if step < 1 or (stride and step != stride):
                    break
                stride, end = step, end + 1
            found.append((at, end, channel, place, stride))
            at = end
        return found

    def _run(
        self, count: int, begin: int, end: int, place: int, stride: int, rows: list[tuple[int, int]]
    ) -> str:
        source = self._crop(place, stride, end - begin)
        weight = np.zeros((count, self.channels, 1), np.float32)
        for row, channel in rows:
            weight[row, channel, 0] = 1
        return self._place(source, weight, (begin, self.length - end))

    def _single(self, count: int, place: int, rows: list[tuple[int, int, int]]) -> str:
        """One place of the source, at all places of the result that read it.

        The input has length 1 along the axis, so result i reads tap (before - i) of the kernel.
        """
        begin = min(at for _, at, _ in rows)
        end = max(at for _, at, _ in rows) + 1
        source = self._crop(place, self.own_length, 1)
        check_weights(self.name, count, self.channels, end - begin)
        taps = (end - begin) | 1  # odd (see shift_conv)
        weight = np.zeros((count, self.channels, taps), np.float32)
        for row, at, channel in rows:
            weight[row, channel, end - 1 - at] = 1
        more = taps - (end - begin)
        return self._place(source, weight, (end - 1, self.length - begin - 1 + more))

    def _crop(self, place: int, stride: int, count: int) -> str:
        return crop(self.builder, self.source, self.axis, place, stride, count, self.name)

    def _place(self, source: str, weight: Array, padding: tuple[int, int]) -> str:
        """A convolution along the axis with these weights, [Q, C, taps], and zero padding."""
        axes = len(self.builder.shapes[source]) - 1
        size = [1] * axes
        size[self.axis] = weight.shape[2]
        pads: list[tuple[int, int]] = [(0, 0)] * axes
        pads[self.axis] = padding
        return place_conv(
            self.builder, source, weight, tuple(size), tuple(pads), f"{self.name}.part"
        )


def crop(
    builder: Builder, source: str, axis: int, place: int, stride: int, count: int, name: str
) -> str:
    """The places place, place + stride, ... of a node along an axis.

    Args:
        builder: of the graph.
        source: the node.
        axis: spatial axis, from 0.
        place: the first one.
        stride: between them.
        count: of places.
        name: of what it is a part of.
    """
    channels = builder.shapes[source][0]
    if count == builder.shapes[source][axis + 1] and (count == 1 or stride == 1):
        return source
    every = np.arange(channels)
    shift = _along(builder, source, axis, stride, every, np.full(channels, place))
    positions = _lengths(builder, source, axis, count)
    return shift_conv(builder, source, shift, positions, builder.name(f"{name}.crop"), odd=True)


def grouped(weight: Array) -> tuple[Array, int]:
    """Weights [Q, C, taps] without the zeros of other groups, and the number of groups.

    The groups are as many as there are channels, or a divisor of that: those of one channel's
    phases keep together.
    """
    count, channels = weight.shape[:2]
    for groups in range(int(np.gcd(count, channels)), 1, -1):
        if count % groups or channels % groups:
            continue
        blocks = weight.reshape(groups, count // groups, groups, channels // groups, -1)
        own = blocks[np.arange(groups), :, np.arange(groups)]  # [g, Q / g, C / g, taps]
        if np.count_nonzero(own) == np.count_nonzero(weight):
            return own.reshape(count, channels // groups, -1), groups
    return weight, 1


def place_conv(
    builder: Builder, source: str, weight: Array, size: tuple[int, ...], padding: Pairs, wish: str
) -> str:
    """A convolution of stride 1; in groups where its weights [Q, C, taps] allow.

    Args:
        builder: of the graph.
        source: the node that it reads.
        weight: with the taps of the kernel in one axis.
        size: of the kernel.
        padding: for each spatial axis.
        wish: name of the node, where it is free.
    """
    weight, groups = grouped(weight)
    return builder.add(
        Conv(
            name=builder.name(wish),
            inputs=(source,),
            weight=weight.reshape(*weight.shape[:2], *size),
            bias=np.zeros(len(weight), np.float32),
            stride=(1,) * len(size),
            padding=padding,
            dilation=(1,) * len(size),
            groups=groups,
        )
    )
