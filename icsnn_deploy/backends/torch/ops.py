"""Evaluate the nodes of a graph in PyTorch, for the simulator and for calibration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import assert_never

from icsnn_deploy.backends.torch.event_convolution import EventConvolution
from icsnn_deploy.backends.torch.fused import fused_steps
from icsnn_deploy.backends.torch.population import Term, empty_over_time, fire_native
from icsnn_deploy.errors import BackendUnavailableError, GraphError, first_line
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AnyPopulation,
    AvgPool,
    BaseNode,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Pairs,
    Population,
    Relu,
)


def open_device(device: str) -> torch.device:
    """Open the device of that name; raises BackendUnavailableError if this machine has none."""
    try:
        opened = torch.device(device)
        torch.zeros(1, device=opened).cpu()  # fails on devices that can't be used or hold no data
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackendUnavailableError(
            f"torch device {device!r} can't be used: {first_line(error)}. Use 'cpu', or install a "
            "build of torch for that device"
        ) from error
    return opened


class TorchOps:
    """Evaluates the nodes of a graph on one device and in one floating type."""

    def __init__(
        self,
        graph: Graph,
        device: torch.device,
        dtype: torch.dtype,
        *,
        tf32: bool = False,
        fused: bool = True,
        int8: Mapping[str, Callable[[Tensor], Tensor | None]] | None = None,
        float32: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        events: Collection[str] = (),
    ) -> None:
        self.graph = graph
        self.device = device
        self.dtype = dtype
        self.tf32 = tf32
        self.fused = fused
        self.int8 = int8 or {}  # convolutions in 8 bits; their result is None if refused
        self.float32 = float32 or {}  # convolutions that are proven
        self.events = frozenset(events)  # convolutions that read spikes as events
        self._event_convolutions: dict[str, EventConvolution] = {}  # filled as they are needed
        self._parameters: dict[tuple[str, str], Tensor] = {}  # filled as they are needed

    def tensor(self, array: Array) -> Tensor:
        """The array on the device, in the floating dtype; channels-last if it has four axes."""
        value = torch.as_tensor(np.ascontiguousarray(array).copy()).to(self.device, self.dtype)
        # Convolutions of few channels are several times faster in that format; none is slower.
        return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value

    def parameter(self, node: BaseNode, field: str) -> Tensor:
        """An array parameter of a node, as a tensor."""
        key = (node.name, field)
        if key not in self._parameters:
            self._parameters[key] = self.tensor(self.graph.node(node.name).arrays()[field])
        return self._parameters[key]

    def set_parameter(self, name: str, field: str, value: Tensor) -> None:
        """Evaluate the node with this value, which may require a gradient, from now on."""
        self._parameters[name, field] = value
        self._event_convolutions.pop(name, None)

    def evaluate(self, node: Node, *sources: Tensor) -> Tensor:
        """Result of a memoryless node, batch first; a caller's autocast does not reach it."""
        if torch.is_autocast_enabled(self.device.type):
            with torch.autocast(self.device.type, enabled=False):
                return self.evaluate(node, *sources)
        result = self.int8[node.name](sources[0]) if node.name in self.int8 else None
        if node.name in self.events and isinstance(node, Conv):
            result = self._of_events(node)(sources[0])
        return self._evaluate(node, sources) if result is None else result

    def _evaluate(self, node: Node, sources: tuple[Tensor, ...]) -> Tensor:
        sources = tuple(self._floating(source) for source in sources)
        x = sources[0]
        match node:
            case Conv():
                return self._conv(node, x)
            case Linear():
                return functional.linear(
                    x, self.parameter(node, "weight"), self.parameter(node, "bias")
                )
            case ChannelAffine():
                return x * self.parameter(node, "scale") + self.parameter(node, "shift")
            case AvgPool():
                return _avg_pool(node, x)
            case Flatten():
                return x.flatten(1)
            case Add():
                return sum(sources[1:], start=x)
            case Relu():
                return _relu(node, x)
            case Output():
                return x
            case Input() | Population():
                raise GraphError(f"{node.name}: torch has no rule for {node.kind!r}")
            case _:
                assert_never(node)

    def fire(
        self,
        node: AnyPopulation,
        currents: Tensor,
        v: Tensor,
        *,
        keep_potentials: bool = False,
        as_bytes: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run several steps of a population.

        Args:
            node: the population.
            currents: [T, B, *shape]; may be a view expanded over T.
            v: potential before the first of them, broadcastable to [B, *shape].
            keep_potentials: return u, the potential before the reset, as well.
            as_bytes: return spikes as uint8.

        Returns:
            (spikes [T, B, *shape], v after the last step [B, *shape], u [T, B, *shape] or None).
        """
        match node:
            case IF():
                return integrate_and_fire(
                    currents,
                    v,
                    self.parameter(node, "v_threshold"),
                    None if node.v_reset is None else self.parameter(node, "v_reset"),
                    keep_potentials=keep_potentials,
                    as_bytes=as_bytes,
                    fused=self.fused,
                )
            case _:
                assert_never(node)

    def fire_terms(
        self,
        node: AnyPopulation,
        terms: Sequence[Term],
        v: Tensor,
        *,
        keep_potentials: bool = False,
        as_bytes: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """As fire, for a sum of terms that is not stored; None where that is not possible."""
        match node:
            case IF() if self.fused:
                return fire_native(
                    terms,
                    v,
                    self.parameter(node, "v_threshold"),
                    None if node.v_reset is None else self.parameter(node, "v_reset"),
                    as_bytes=as_bytes,
                    keep_potentials=keep_potentials,
                )
            case _:  # another neuron has no C code
                return None

    def _floating(self, x: Tensor) -> Tensor:
        """Convert spikes that are stored as bytes to the floating dtype."""
        return x if x.is_floating_point() else x.view(torch.bool).to(self.dtype)

    def _of_events(self, node: Conv) -> EventConvolution:
        """The convolution of spikes with the weights of now."""
        if node.name not in self._event_convolutions:
            weight, bias = self.parameter(node, "weight"), self.parameter(node, "bias")
            self._event_convolutions[node.name] = EventConvolution(
                node, weight, bias, partial(self._convolve, node)
            )
        return self._event_convolutions[node.name]

    def _conv(self, node: Conv, x: Tensor) -> Tensor:
        if node.name in self.float32:
            return self.float32[node.name](x)
        return self._convolve(node, x, self.parameter(node, "weight"), self.parameter(node, "bias"))

    def _convolve(self, node: Conv, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        reaches = [d * (k - 1) + 1 for d, k in zip(node.dilation, node.kernel, strict=True)]
        padding, x = symmetric_padding(node.padding, x, reaches)
        options: dict[str, Any] = {
            "stride": node.stride,
            "padding": padding,
            "dilation": node.dilation,
            "groups": node.groups,
        }
        convolve: Any = functional.conv1d if len(node.kernel) == 1 else functional.conv2d
        if self.device.type != "cuda":
            return convolve(x, weight, bias, **options)  # type: ignore[no-any-return]
        # By default cuDNN convolutions round their inputs to TF32; matrix products do not.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=self.tf32):
            return convolve(x, weight, bias, **options)  # type: ignore[no-any-return]


def integrate_and_fire(
    currents: Tensor,
    v_init: Tensor,
    v_threshold: Tensor,
    v_reset: Tensor | None = None,
    *,
    keep_potentials: bool = False,
    as_bytes: bool = False,
    fused: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run all T steps of a population; the equation is in neuron.if_step.

    Args:
        currents: [T, B, *shape]; may be a view expanded over T.
        v_init: broadcastable to [B, *shape].
        v_threshold: broadcastable to [B, *shape].
        v_reset: broadcastable to [B, *shape]; None for soft reset.
        keep_potentials: return u, the potential before the reset, as well.
        as_bytes: return spikes as uint8.
        fused: use a kernel of all steps where there is one: in C on the CPU (population.py), in
            Triton on CUDA (fused.py); the result is the same.

    Returns:
        (spikes [T, B, *shape], v(T) [B, *shape], u [T, B, *shape] or None).
    """
    native = None
    if fused:
        native = fire_native(
            [Term(values=currents)],
            v_init,
            v_threshold,
            v_reset,
            keep_potentials=keep_potentials,
            as_bytes=as_bytes,
        )
    if native is not None:
        return native
    v = torch.empty_like(currents[0]).copy_(v_init.expand(currents.shape[1:]))
    spikes = empty_over_time(v, len(currents), torch.bool if as_bytes else v.dtype)
    u = empty_over_time(currents[0], len(currents)) if keep_potentials else None
    run_steps = fused_steps(currents, v, spikes, u) if fused else None
    if run_steps is not None:
        spikes = spikes.view(torch.uint8) if as_bytes else spikes
        run_steps(currents, v, v_threshold, v_reset, spikes, u)
        return spikes, v, u
    fired = torch.empty_like(v)
    for step in range(len(currents)):
        v += currents[step]
        if u is not None:
            u[step] = v
        if not as_bytes:
            fired = spikes[step]
        torch.ge(v, v_threshold, out=fired)  # floats even for as_bytes: that is much faster
        if as_bytes:
            spikes[step].copy_(fired)
        if v_reset is None:
            v.addcmul_(fired, v_threshold, value=-1)
        else:
            v = torch.where(fired > 0, v_reset, v)
    return spikes.view(torch.uint8) if as_bytes else spikes, v, u


def symmetric_padding(
    padding: Pairs, x: Tensor, reaches: Sequence[int] | None = None
) -> tuple[tuple[int, ...], Tensor]:
    """Pad x here if PyTorch's operators can't; returns the padding that is left for them, and x.

    Padding that holds a whole window is done here, too (see proof.pad_by_hand).

    Args:
        padding: zeros before and after, per axis.
        x: [N, C, *shape].
        reaches: size of a window with its dilation, per axis; None: any symmetric padding is left.
    """
    symmetric = all(before == after for before, after in padding)
    if symmetric and (
        reaches is None or all(p < reach for (p, _), reach in zip(padding, reaches, strict=True))
    ):
        return tuple(before for before, _ in padding), x
    flat = [n for pair in reversed(padding) for n in pair]
    return (0,) * len(padding), functional.pad(x, flat)


def _avg_pool(node: AvgPool, x: Tensor) -> Tensor:
    padding, x = symmetric_padding(node.padding, x, node.kernel)
    if any(p > k // 2 for p, k in zip(padding, node.kernel, strict=True)):  # torch refuses these
        x = functional.pad(x, [n for p in reversed(padding) for n in (p, p)])
        padding = (0,) * len(padding)
    pool: Any = functional.avg_pool1d if len(node.kernel) == 1 else functional.avg_pool2d
    result: Tensor = pool(x, node.kernel, node.stride, padding)
    return result


def _relu(node: Relu, x: Tensor) -> Tensor:
    if node.upper is None:
        return torch.relu(x)
    if node.levels is None:
        return x.clamp(0, node.upper)
    level = torch.floor(x * node.levels / node.upper + 0.5)
    return level.clamp(0, node.levels) * (node.upper / node.levels)
