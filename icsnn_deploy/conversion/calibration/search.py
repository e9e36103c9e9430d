"""Search v_threshold, v_init and bias of each channel, on the currents that really arrive there.

What a population makes of its current depends on when the current comes: early spikes that a later
inhibition can't take back are the error that no rule on ANN activations sees. So every candidate is
simulated through all T steps, on sampled places of the calibration samples, and compared with the
ANN's activations at the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.conversion.calibration.bias_correction import correct_bias
from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    Visitor,
)
from icsnn_deploy.conversion.calibration.sampled_activations import SampledActivations
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF

_FACTORS = (0.8, 1.0, 1.25)  # of the threshold that the search starts from
_SHARES = (0.25, 0.5)  # v_init / v_threshold
_ROUNDS = 4
_CHUNK = 1 << 17  # currents at a time: what stays in a processor's cache


@dataclass(frozen=True, kw_only=True)
class ChannelParams:
    """Parameters of every channel, [C] each."""

    v_threshold: Tensor
    v_init_ratio: Tensor  # v_init / v_threshold
    shift: Tensor  # added to the current

    def where(self, better: Tensor, other: ChannelParams) -> ChannelParams:
        """The other's values where `better`, these elsewhere."""
        return ChannelParams(
            v_threshold=torch.where(better, other.v_threshold, self.v_threshold),
            v_init_ratio=torch.where(better, other.v_init_ratio, self.v_init_ratio),
            shift=torch.where(better, other.shift, self.shift),
        )


@dataclass(frozen=True, kw_only=True)
class FitError:
    """How near a setting comes to the activations, [C] each."""

    error: Tensor  # mean squared, over places and wanted T
    gain: Tensor  # amplitude / v_threshold of the least error
    mean: Tensor  # of v_threshold * rate; of amplitude * rate where the amplitude is given


def search(
    activations: SampledActivations,
    time_steps: Sequence[int],
    *,
    units: Mapping[str, Array] | None = None,
    keep_thresholds: bool = False,
    readout_start: int = 0,
) -> Visitor:
    """A visitor that settles each population, and the mean of the output, by simulation.

        minimize over v_threshold, v_init, b and amplitude, channel by channel,
        sum over T of mean((amplitude / T * count_T(I + b) - a)^2)

    a: the ANN's activation, count_T: spikes in T steps of a neuron with current I. The least
    squares amplitude becomes the threshold, and the current is scaled to it, so that a spike still
    stands for v_threshold.

    Args:
        activations: of the samples that the sweep runs.
        time_steps: the T that the network will be read out at, ascending.
        units: for an integer network, the activation that one unit stands for, [C] by name, the
            output's too: v_threshold, v_init and shift stay on the lattice, amplitudes as they are.
        keep_thresholds: search v_init and shift only.
        readout_start: t0 of the network.
    """

    def visit(population_input: PopulationInput) -> CalibrationUpdate:
        node = population_input.node
        if not isinstance(node, IF):
            unit_of_logits = 1.0 if units is None else units[node.name]
            return correct_bias({}, activations.logits_mean / unit_of_logits, readout_start)(
                population_input
            )
        name = node.name
        picked = population_input.replay(lambda start, found: activations.pick(name, found, start))
        current = torch.cat(list(picked), dim=2)  # [T, C, M]
        wanted = activations.values[name].to(current)
        unit = None if units is None else torch.as_tensor(units[node.name]).to(current)
        if unit is not None:
            wanted = wanted / unit.reshape(-1, 1)
        v_threshold = _per_channel(node.v_threshold, len(wanted)).to(current)
        channels = _Channels(
            current,
            wanted,
            time_steps,
            v_threshold,
            on_lattice=unit is not None,
            keep_thresholds=keep_thresholds,
        )
        best, fit = channels.search(_per_channel(node.v_init, len(wanted)).to(current))
        return _change(node, best, fit, on_lattice=unit is not None)

    return visit


class _Channels:
    """The currents and activations of one population at sampled places."""

    def __init__(
        self,
        current: Tensor,
        wanted: Tensor,
        time_steps: Sequence[int],
        amplitude: Tensor,
        *,
        on_lattice: bool,
        keep_thresholds: bool = False,
    ) -> None:
        self.current = current
        self.wanted = wanted
        self.time_steps = frozenset(time_steps)
        self.amplitude = amplitude
        self.on_lattice = on_lattice
        self.keep_thresholds = keep_thresholds

    def search(self, v_init: Tensor) -> tuple[ChannelParams, FitError]:
        """The best setting found: coarse starts, then steps that shrink."""
        best = self._setting(self.amplitude, v_init / self.amplitude, 0 * self.amplitude)
        fit = self.fit(best)

        def consider(setting: ChannelParams) -> FitError:
            nonlocal best, fit
            found = self.fit(setting)
            better = found.error < fit.error
            best = best.where(better, setting)
            fit = FitError(
                error=torch.where(better, found.error, fit.error),
                gain=torch.where(better, found.gain, fit.gain),
                mean=torch.where(better, found.mean, fit.mean),
            )
            return found

        wanted = self.wanted.mean(dim=1)
        for factor in (1.0,) if self.keep_thresholds else _FACTORS:
            for v_init_ratio in _SHARES:
                v_threshold = self.amplitude * factor
                shift = torch.zeros_like(wanted)
                for _ in range(3):  # towards the shift at which the means agree
                    setting = self._setting(
                        v_threshold, torch.full_like(wanted, v_init_ratio), shift
                    )
                    shift = setting.shift + (wanted - consider(setting).mean)
        for size in (0.7**n for n in range(_ROUNDS)):
            for move in _moves(size, len(self.current))[1 if self.keep_thresholds else 0 :]:
                for sign in (-1.0, 1.0):
                    consider(self._setting(*move(best, sign)))
        return best, fit

    def _setting(self, v_threshold: Tensor, v_init_ratio: Tensor, shift: Tensor) -> ChannelParams:
        """The setting, on the lattice if the network is."""
        if not self.on_lattice:
            return ChannelParams(v_threshold=v_threshold, v_init_ratio=v_init_ratio, shift=shift)
        whole = v_threshold.round().clamp(min=1)
        v_init = torch.floor(v_init_ratio * whole) + 0.5
        return ChannelParams(v_threshold=whole, v_init_ratio=v_init / whole, shift=shift.round())

    def fit(self, setting: ChannelParams) -> FitError:
        """Simulate the setting."""
        channels, places = self.wanted.shape
        squares, products, sums = (self.wanted.new_zeros(channels) for _ in range(3))
        size = places if self.current.is_cuda else max(1, _CHUNK // channels)
        for start in range(0, places, size):
            part = slice(start, start + size)
            wanted = self.wanted[:, part]
            for rate in self._rates(setting, part):
                squares += (rate * rate).sum(dim=1)
                products += (rate * wanted).sum(dim=1)
                sums += rate.sum(dim=1)
        count = places * len(self.time_steps)
        squares, products, sums = squares / count, products / count, sums / count
        power = (self.wanted * self.wanted).mean(dim=1)
        scale = setting.v_threshold
        best = products / squares.clamp(min=1e-30)
        amplitude = torch.where(products > 0, best.clamp(scale / 3, scale * 3), scale)
        if self.on_lattice:
            amplitude = self.amplitude
        error = amplitude * amplitude * squares - 2 * amplitude * products + power
        reached = self.amplitude if self.on_lattice else scale
        return FitError(error=error, gain=amplitude / scale, mean=reached * sums)

    def _rates(self, setting: ChannelParams, part: slice) -> list[Tensor]:
        """Spikes a step up to each wanted T, [C, places]."""
        v_threshold = setting.v_threshold.unsqueeze(1)
        shift = setting.shift.unsqueeze(1)
        v = (setting.v_init_ratio * setting.v_threshold).unsqueeze(1) + shift
        count = torch.zeros_like(self.wanted[:, part])
        rates = []
        v = v.expand_as(count).clone()
        spikes = torch.empty_like(v)
        for step, current in enumerate(self.current[:, :, part], start=1):
            v += current
            torch.ge(v, v_threshold, out=spikes)
            count += spikes
            v.addcmul_(spikes, v_threshold, value=-1)
            v += shift
            if step in self.time_steps:
                rates.append(count / step)
        return rates


_Move = Callable[[ChannelParams, float], tuple[Tensor, Tensor, Tensor]]


def _moves(size: float, time_steps: int) -> tuple[_Move, ...]:
    """Steps along each parameter, v_threshold first, and one that leaves the charge of T steps."""

    def threshold(s: ChannelParams, sign: float) -> tuple[Tensor, Tensor, Tensor]:
        return s.v_threshold * (1 + sign * 0.15 * size), s.v_init_ratio, s.shift

    def v_init_ratio(s: ChannelParams, sign: float) -> tuple[Tensor, Tensor, Tensor]:
        return s.v_threshold, s.v_init_ratio + sign * 0.12 * size, s.shift

    def shift(s: ChannelParams, sign: float) -> tuple[Tensor, Tensor, Tensor]:
        return s.v_threshold, s.v_init_ratio, s.shift + sign * 0.08 * size * s.v_threshold

    def later(s: ChannelParams, sign: float) -> tuple[Tensor, Tensor, Tensor]:
        moved = sign * 0.12 * size
        return s.v_threshold, s.v_init_ratio - moved, s.shift + moved * s.v_threshold / time_steps

    return threshold, v_init_ratio, shift, later


def _change(node: IF, best: ChannelParams, fit: FitError, *, on_lattice: bool) -> CalibrationUpdate:
    """The change that puts a setting into the network."""
    shape = (-1, *(1,) * (node.v_threshold.ndim - 1))
    gain = torch.ones_like(fit.gain) if on_lattice else fit.gain
    v_threshold = best.v_threshold * gain
    v_init = best.v_init_ratio * v_threshold
    if on_lattice:
        v_init = v_init.floor() + 0.5  # exactly, whatever the quotient lost

    def ready(values: Tensor) -> Array:
        kind = node.v_threshold.dtype if values is v_threshold else node.v_init.dtype
        return values.cpu().numpy().astype(kind).reshape(shape)

    shift = (best.shift * gain).cpu().numpy().astype(np.float64)
    return CalibrationUpdate(
        v_threshold=ready(v_threshold),
        v_init=ready(v_init),
        gain=None if on_lattice else gain.cpu().numpy().astype(np.float64),
        shift=shift,
        rescale=not on_lattice,
    )


def _per_channel(values: Array, channels: int) -> Tensor:
    """A threshold's or initial potential's value per channel; the mean where it is per neuron."""
    spread = values.reshape(values.shape[0], -1).astype(np.float64).mean(axis=1)
    return torch.from_numpy(np.broadcast_to(spread, (channels,)).copy())
