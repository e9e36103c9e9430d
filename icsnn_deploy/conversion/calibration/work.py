"""How much a calibration computes, and how long that takes on this machine.

Work is counted in a few units; the time of each is measured on some samples, so that an estimate
holds for any network on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.sampled_activations import PLACES
from icsnn_deploy.conversion.calibration.search import FITS, fit_example
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.encoder import with_encoding
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Relu

Clock = Callable[[], float]

_MOST_SAMPLES = 32  # of a measured pass
_TRAINED = 3.5
"""A sample in training takes so many passes of the IF network: forward, and backward for inputs and
weights. Measured: 3.4 on a ResNet20, T = 8, two cores."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a strategy computes.

    Args:
        ann_samples: samples that the ANN runs on.
        network_samples: samples that an IF network runs on for all T steps.
        fitted: currents that a search simulates: channels * places * T * settings.
        trained_samples: samples that a network is trained on, repeated ones included.
    """

    ann_samples: float = 0.0
    network_samples: float = 0.0
    fitted: float = 0.0
    trained_samples: float = 0.0

    def __add__(self, other: Work) -> Work:
        names = [field.name for field in fields(self)]
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What the amount of work depends on.

    Args:
        ann: the ANN.
        fit: number of samples to calibrate on.
        held_out: number of samples that candidates are compared on.
        time_steps: T.
    """

    ann: Graph
    fit: int
    held_out: int
    time_steps: int

    def search(self, samples: int, simulations: int) -> Work:
        """A sweep with a search per channel, on so many samples."""
        samples = min(samples, self.fit)
        currents = 0
        for relu in self.ann.nodes_of(Relu):
            channels, *positions = self.ann.shape(relu.name)
            per_sample = min(max(1, PLACES // samples), int(np.prod(positions)))
            currents += channels * per_sample * samples
        return Work(
            ann_samples=samples,
            network_samples=simulations * samples,
            fitted=currents * self.time_steps * FITS,
        )


@dataclass(frozen=True, kw_only=True)
class MachineSpeed:
    """Seconds for one unit of each kind of work, for one network on this machine."""

    ann_sample: float
    network_sample: float
    fitted: float

    @classmethod
    def measure(
        cls,
        ann: Graph,
        context: CalibrationContext,
        readout_steps: Sequence[int],
        measured_s: float = 0.5,
        clock: Clock = time.perf_counter,
    ) -> MachineSpeed:
        """Run a few samples; large networks take one sample.

        Args:
            ann: the ANN.
            context: samples.
            readout_steps: the T after which networks are read.
            measured_s: for each kind of work; on a busy machine a short run tells nothing.
            clock: seconds.
        """
        few = context.part(0, _MOST_SAMPLES)
        runner = TorchANN(ann, device=context.device)
        frames, inputs = few.frames(slice(None)), few.inputs(slice(None))
        simulator = TorchSimulator(
            _example_network(runner, few, readout_steps[-1]), device=context.device
        )
        axis = simulator.graph.input.batch_axis
        timed = _Timed(clock, len(few), measured_s)
        fitted = fit_example(readout_steps)
        return cls(
            ann_sample=timed.per_sample(lambda n: runner.run(frames[:n])),
            network_sample=timed.per_sample(
                lambda n: simulator.classify(inputs.take(range(n), axis))
            ),
            fitted=timed.seconds(fitted.run) / fitted.currents,
        )

    def seconds(self, work: Work, processes: int = 1) -> float:
        """About how long the work takes; processes share everything but training."""
        shared = (
            work.ann_samples * self.ann_sample
            + work.network_samples * self.network_sample
            + work.fitted * self.fitted
        )
        trained = work.trained_samples * (self.ann_sample + _TRAINED * self.network_sample)
        return shared / processes + trained


class _Timed:
    """Times functions.

    Args:
        clock: seconds.
        most: samples at once.
        measured_s: how long each function is run.
    """

    def __init__(self, clock: Clock, most: int, measured_s: float) -> None:
        self._clock, self._most, self._measured_s = clock, most, measured_s

    def seconds(self, run: Callable[[], object]) -> float:
        """The mean of several runs, without the first one, which allocates."""
        run()
        begun, count = self._clock(), 0
        while True:
            run()
            count += 1
            taken = self._clock() - begun
            if taken >= self._measured_s:
                return taken / count

    def per_sample(self, run: Callable[[int], object]) -> float:
        """Seconds per sample, in batches, or in one run of one sample that takes long."""
        begun = self._clock()
        run(1)
        taken = self._clock() - begun
        if taken > 2 * self._measured_s:
            return taken
        count = max(1, min(self._most, int(2 * self._measured_s / max(taken, 1e-9))))
        return self.seconds(partial(run, count)) / count


def _example_network(runner: TorchANN, few: CalibrationContext, time_steps: int) -> Graph:
    """An IF network that fires about as a calibrated one does."""
    _, activations = runner.run_with_activations(few.frames(slice(1)))
    populations = {}
    for name, found in activations.items():
        largest = max(float(found.max()), 1e-6)
        v_threshold = np.full((1,) * (found.ndim - 1), largest, np.float32)
        populations[name] = PopulationParameters(
            v_threshold=v_threshold, v_init=(v_threshold / 2).astype(np.float32)
        )
    network = to_spiking(runner.graph, populations, time_steps)
    return with_encoding(network, few.encoder) if few.encoder.is_timed else network
