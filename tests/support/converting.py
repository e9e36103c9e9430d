"""Samples for small conversions, and what is asked of the results."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from icsnn_deploy.graph.neuron import Array


def images(count: int = 12, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 3, 6, 6)).astype(np.float32)


def model_logits(model: nn.Module, x: Array) -> Array:
    with torch.no_grad():
        found: Array = model(torch.from_numpy(x)).numpy()
    return found
