"""An integrate-and-fire network as a PyTorch module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from icsnn_deploy.backends.prediction import Prediction
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.encoder import encoded
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, silent, tracked
from icsnn_deploy.progress_display import ProgressOption, shown
from icsnn_deploy.sources.network_samples import network_samples

_AT_ONCE = 256  # samples that are run between two reports of progress


class SpikingNetwork(nn.Module):
    """An integrate-and-fire network, float or integer, as a PyTorch module for inference.

        network = icsnn_deploy.load("build/mynet").to("cuda")
        logits = network(images)                # a tensor, as the model that was converted gives it
        classes = network.predict(loader).classes

    It takes what the converted model takes: floats; or uint8 pixels and floats in 0..1 where the
    network has a normalization. It runs T time steps from the initial potentials in each call and
    keeps no state between calls. Moved with `.to(device)`; in float64 after `.double()`. It has no
    parameters and gives no gradients: the recipes `auto` and `hybrid` train.

    Args:
        source: a bundle, or a graph.
        normalization: of the pixels that a graph takes; a bundle has its own.
        rate_seed: of the Bernoulli spikes of a graph with rate encoding; a bundle has its own.

    Raises:
        DataError: neither a bundle nor a graph, or a graph that is an ANN.
    """

    def __init__(
        self,
        source: Graph | Bundle,
        *,
        normalization: Normalization | None = None,
        rate_seed: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(source, (Graph, Bundle)):
            raise DataError(
                f"a network of type {type(source).__name__}: a bundle or a graph is needed, such "
                "as conversion.network"
            )
        self.bundle = source if isinstance(source, Bundle) else None
        self.graph = source.network() if isinstance(source, Bundle) else source
        if self.graph.time_steps is None:
            raise DataError("the graph is an ANN; give the IF network, such as conversion.network")
        self.normalization = normalization
        self.rate_seed = rate_seed
        if isinstance(source, Bundle):
            self.normalization, self.rate_seed = source.normalization, source.rate_seed
        # follows .to() and .double(), so that it tells where and how to compute
        self.register_buffer("_place", torch.zeros(0), persistent=False)
        self._simulator: TorchSimulator | None = None

    def extra_repr(self) -> str:
        """The network in one line, as print(module) shows it."""
        return repr(self.graph)

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Logits after T steps, in the units of the model, without gradients.

        Args:
            x: samples [N, *shape]; of rate encoding also spikes [T, N, *shape]; of several inputs a
                tensor for each, by name.

        Returns:
            [N, *output shape] on the module's device; of several outputs a dict by name.

        Raises:
            DataError: samples that the network does not take.
        """
        samples = network_samples(self.graph, x, "the input", normalization=self.normalization)
        found = Prediction.of(self.graph, self._logits(samples.samples)).outputs
        tensors = {name: torch.as_tensor(value).to(self._buffer) for name, value in found.items()}
        return tensors if len(tensors) > 1 else next(iter(tensors.values()))

    def predict(
        self,
        samples: Any,
        *,
        limit: int | None = None,
        channels_last: bool | None = None,
        input_key: str | None = None,
        progress: ProgressOption = True,
    ) -> Prediction:
        """Logits and classes of samples, as arrays.

        Args:
            samples: an array or tensor [N, *shape], (X, y), a Dataset, a DataLoader, or an iterable
                of batches; of several inputs an array for each, by name. Labels are not looked at.
            limit: predict at most this many; of a Dataset evenly spread over all.
            channels_last: the order of axes, where it can't be told (pixels.is_channels_last).
            input_key: of dict batches, the entry that holds the samples.
            progress: True shows how far it is, None or False nothing, a function is called.

        Raises:
            DataError: samples that the network does not take.
        """
        with shown(progress, "predicting") as reporting:
            found = network_samples(
                self.graph,
                samples,
                "the samples",
                normalization=self.normalization,
                channels_last=channels_last,
                limit=limit,
                input_key=input_key,
                progress=reporting,
            )
            return Prediction.of(self.graph, self._logits(found.samples, reporting))

    def __getstate__(self) -> dict[str, Any]:
        """Without the simulator, which is opened again where a copy runs."""
        return {**self.__dict__, "_simulator": None}

    @property
    def _buffer(self) -> Tensor:
        place: Tensor = self.get_buffer("_place")
        return place

    def _logits(self, samples: Array, progress: Progress = silent) -> Array:
        """Logits [N, *graph output], in the units of the graph."""
        x = encoded(self.graph, samples, self.rate_seed)
        x = check_inputs(self.graph, to_input_units(self.graph, x))
        simulator, axis = self._opened(), self.graph.input.batch_axis
        starts = range(0, max(1, x.shape[axis]), _AT_ONCE)
        parts = [
            simulator.classify(x.take(range(start, min(start + _AT_ONCE, x.shape[axis])), axis))
            for start in tracked(starts, "predicting", len(starts), progress)
        ]
        return np.concatenate(parts)

    def _opened(self) -> TorchSimulator:
        """The simulator on the device, and in the type, that the module was moved to."""
        place = self._buffer
        simulator = self._simulator
        if simulator is None or (simulator.ops.device, simulator.ops.dtype) != (
            place.device,
            place.dtype,
        ):
            simulator = TorchSimulator(self.graph, device=str(place.device), dtype=place.dtype)
            self._simulator = simulator
        return simulator


def load(path: str | os.PathLike[str]) -> SpikingNetwork:
    """Load the network of a bundle, ready to run; `load(path).bundle` is the bundle itself.

    Args:
        path: a bundle, as `icsnn convert` or `conversion.save` writes it.

    Raises:
        BundleError: no bundle, or a damaged one.
    """
    return SpikingNetwork(open_bundle(path))
