"""Refit the weights of a layer to the spikes that it receives: ridge regression, no gradient.

The spikes of the preceding layers are a noisy copy of the ANN's activations. The weights that are
best for the activations are not those that are best for the copy.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.torch.ops import symmetric_padding
from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    Visitor,
)
from icsnn_deploy.conversion.calibration.sampled_activations import SampledActivations
from icsnn_deploy.graph.nodes import IF, Conv, Linear


def refit(activations: SampledActivations, ridge: float) -> Visitor:
    """A visitor that refits the weights of the affine node that feeds only this population.

        minimize over D  mean(|D x - r|^2) + ridge * mean(x^2) * |D|^2

    x: input of the node, mean over the T steps (a spike rate). r: the ANN's activation minus the
    population's current, mean over the steps; 0 where the activation is 0 and the current is
    negative, which is correct. D is added to the weights; the ridge keeps it small.

    Args:
        activations: of the samples that the sweep runs.
        ridge: > 0, relative to the mean power of the inputs.
    """

    def visit(population_input: PopulationInput) -> CalibrationUpdate:
        affine = population_input.affine
        if affine is None or not isinstance(population_input.node, IF):
            return CalibrationUpdate()  # the readout has one place per sample: too few for a fit
        name, groups = population_input.node.name, affine.groups if isinstance(affine, Conv) else 1

        def sample(start: int, inputs: Tensor, currents: Tensor) -> tuple[Tensor, Tensor]:
            index = activations.places[name][start : start + len(inputs)].to(inputs.device)
            windows = _windows(affine, inputs, index)
            return windows, _residual(activations, name, currents, start)

        found = zip(*population_input.replay_affine(sample), strict=True)
        x, r = (torch.cat(parts, dim=1).chunk(groups) for parts in found)
        change = torch.stack([_ridge(*each, ridge) for each in zip(x, r, strict=True)])  # [G, O, K]
        refitted = affine.weight + change.cpu().numpy().reshape(affine.weight.shape)
        return CalibrationUpdate(weight=refitted.astype(affine.weight.dtype))

    return visit


def _ridge(x: Tensor, r: Tensor, ridge: float) -> Tensor:
    """D [O, K] for inputs x [K, M] and residuals r [O, M]."""
    inputs, places = x.shape
    power = float(x.square().mean())
    least = 1e-12 * (min(power, 1.0) or 1.0)  # relative to inputs in small units
    penalty = ridge * power * places + least
    # With fewer places than inputs the dual form has the smaller matrix.
    moment = (x @ x.T if inputs <= places else x.T @ x).double()
    moment.diagonal().add_(penalty)
    found: Tensor
    if inputs <= places:
        found = torch.linalg.solve(moment, (x @ r.T).double()).T
    else:
        found = torch.linalg.solve(moment, r.T.double()).T @ x.T.double()
    return found.float()


def _residual(activations: SampledActivations, name: str, currents: Tensor, start: int) -> Tensor:
    """ANN activations minus mean currents [B, C, *positions] at sampled places, [C, B places]."""
    current = activations.pick(name, currents.unsqueeze(0), start)[0]
    count = activations.places[name].shape[1]
    part = slice(start * count, (start + len(currents)) * count)
    wanted = activations.values[name][:, part].to(current)
    excited = current.clamp(min=0)
    return torch.where(wanted > 0, wanted - current, -excited)


def _windows(affine: Conv | Linear, inputs: Tensor, index: Tensor) -> Tensor:
    """Input window of each sampled place, [K, B places]; the rows of all groups in order."""
    if isinstance(affine, Linear):
        return inputs.T
    padding, x = symmetric_padding(affine.padding, inputs)
    kernel, stride, dilation = affine.kernel, affine.stride, affine.dilation
    if len(kernel) == 1:
        x, padding = x.unsqueeze(2), (0, *padding)
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    columns = functional.unfold(x, kernel, dilation=dilation, padding=padding, stride=stride)
    picked = columns.gather(2, index.unsqueeze(1).expand(-1, columns.shape[1], -1))
    return picked.transpose(0, 1).flatten(1)
