"""Search v_threshold, v_init and bias of each channel on the currents of the IF network itself.

The output of a population depends on when its current arrives: early spikes cannot be taken back by
later inhibition, and no rule on ANN activations accounts for that error. So every candidate is
simulated through all T steps, on sampled places of the calibration samples, and compared with the
ANN's activations at the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.conversion.calibration.bias_correction import shift_to_mean
from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    Visitor,
)
from icsnn_deploy.conversion.calibration.sampled_activations import SampledActivations
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.progress import InnerSteps

_FACTORS = (0.8, 1.0, 1.25)  # times the threshold that the search starts from
_V_INIT_RATIOS = (0.25, 0.5)  # v_init / v_threshold
_ROUNDS = 4
_CHUNK = 1 << 17  # currents at a time, so that they stay in the processor's cache
_APPROACHES = 3  # of the shift at which the means agree
FITS = 1 + len(_FACTORS) * len(_V_INIT_RATIOS) * _APPROACHES + 8 * _ROUNDS
"""Settings that are simulated for each channel; a round has two signs of four moves."""


@dataclass(frozen=True, kw_only=True)
class ChannelParams:
    """Parameters of every channel, [C] each."""

    v_threshold: Tensor
    v_init_ratio: Tensor  # v_init / v_threshold
    shift: Tensor  # added to the current

    def where(self, better: Tensor, other: ChannelParams) -> ChannelParams:
        """The values of `other` where `better` is true, these elsewhere."""
        return ChannelParams(
            v_threshold=torch.where(better, other.v_threshold, self.v_threshold),
            v_init_ratio=torch.where(better, other.v_init_ratio, self.v_init_ratio),
            shift=torch.where(better, other.shift, self.shift),
        )


@dataclass(frozen=True, kw_only=True)
class FitError:
    """Error of a setting of the parameters against the activations, [C] each."""

    error: Tensor  # mean squared error over places and readout steps
    gain: Tensor  # amplitude / v_threshold of the least error
    mean: Tensor  # mean of v_threshold * rate, or of amplitude * rate with a given amplitude


def search(
    activations: SampledActivations,
    time_steps: Sequence[int],
    *,
    units: Mapping[str, Array] | None = None,
    keep_thresholds: bool = False,
    readout_start: int = 0,
) -> Visitor:
    """A visitor that chooses the parameters of each population by simulation.

        minimize over v_threshold, v_init, b and amplitude, channel by channel,
        sum over T of mean((amplitude / T * count_T(I + b) - a)^2)

    a: the ANN's activation; count_T: spikes in T steps of a neuron with current I. The least
    squares amplitude becomes the threshold, and the current is scaled accordingly, so that a spike
    still represents v_threshold. At the output, the mean current is shifted to the mean logits.

    Args:
        activations: of the samples that the sweep runs.
        time_steps: readout steps, ascending: the T after which the network is read.
        units: for an integer network, the activation that one unit represents, [C] by name, also
            of the output; v_threshold, v_init and shift then stay on the lattice, and the
            amplitudes stay as they are.
        keep_thresholds: search v_init and shift only.
        readout_start: t0 of the network.
    """

    def visit(population_input: PopulationInput) -> CalibrationUpdate:
        node = population_input.node
        if not isinstance(node, IF):
            logit_unit = 1.0 if units is None else units[node.name]
            return shift_to_mean(
                population_input, activations.logits_mean / logit_unit, readout_start
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
        return _update(node, best, fit, on_lattice=unit is not None)

    return visit


@dataclass(frozen=True, kw_only=True)
class FitExample:
    """One fit of made-up currents, whose time tells that of a search: `run` fits so many."""

    run: Callable[[], object]
    currents: int


def fit_example(time_steps: Sequence[int], channels: int = 32, places: int = 8192) -> FitExample:
    """Currents of a population, ready to be fitted.

    Args:
        time_steps: readout steps, ascending.
        channels: of the population.
        places: per channel.
    """
    current = torch.linspace(-1, 1, time_steps[-1] * channels * places)
    current = current.reshape(time_steps[-1], channels, places)
    ones = torch.ones(channels)
    fitted = _Channels(current, current[0].clamp(min=0), time_steps, ones, on_lattice=False)
    setting = ChannelParams(v_threshold=ones, v_init_ratio=ones / 2, shift=0 * ones)
    return FitExample(run=lambda: fitted.fit(setting), currents=current.numel())


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
        """The best setting found: a coarse grid first, then steps of decreasing size."""
        best = self._setting(self.amplitude, v_init / self.amplitude, 0 * self.amplitude)
        fits = InnerSteps("settings of a layer", FITS)
        fit = self.fit(best)
        fits.step()

        def consider(setting: ChannelParams) -> FitError:
            nonlocal best, fit
            found = self.fit(setting)
            fits.step()
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
            for v_init_ratio in _V_INIT_RATIOS:
                v_threshold = self.amplitude * factor
                shift = torch.zeros_like(wanted)
                for _ in range(_APPROACHES):
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
        """The setting, rounded to the lattice for an integer network."""
        if not self.on_lattice:
            return ChannelParams(v_threshold=v_threshold, v_init_ratio=v_init_ratio, shift=shift)
        whole = v_threshold.round().clamp(min=1)
        v_init = torch.floor(v_init_ratio * whole) + 0.5
        return ChannelParams(v_threshold=whole, v_init_ratio=v_init / whole, shift=shift.round())

    def fit(self, setting: ChannelParams) -> FitError:
        """Simulate a setting and measure its error."""
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
        """Spikes per step up to each readout step, [C, places]."""
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
    """Steps along each parameter, v_threshold first; the last keeps the total charge of T steps."""

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


def _update(node: IF, best: ChannelParams, fit: FitError, *, on_lattice: bool) -> CalibrationUpdate:
    """The update that gives a population the best setting."""
    shape = (-1, *(1,) * (node.v_threshold.ndim - 1))
    gain = torch.ones_like(fit.gain) if on_lattice else fit.gain
    v_threshold = best.v_threshold * gain
    v_init = best.v_init_ratio * v_threshold
    if on_lattice:
        v_init = v_init.floor() + 0.5  # exact, whatever the division rounded

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
    """v_threshold or v_init as one value per channel: the mean where there is one per neuron."""
    spread = values.reshape(values.shape[0], -1).astype(np.float64).mean(axis=1)
    return torch.from_numpy(np.broadcast_to(spread, (channels,)).copy())
