"""How many samples and time steps are run at once, so that their activations fit the memory."""

from __future__ import annotations

import math

import torch

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Population

CPU_MEMORY = 1 << 28  # bytes of activations held at once; more is no faster
GPU_SHARE = 4  # a quarter of the free memory: libraries and fragmentation need memory too


def default_memory(device: torch.device) -> int:
    """The default number of bytes for activations."""
    if device.type != "cuda":
        return CPU_MEMORY
    free, _ = torch.cuda.mem_get_info(device)
    return free // GPU_SHARE


def sample_bytes(graph: Graph, element: int) -> tuple[int, int]:
    """For one sample, bytes held during the whole run, and the most bytes held per step.

    Args:
        graph: an IF network.
        element: bytes of one value.
    """
    size = {node.name: element * math.prod(graph.shape(node.name)) for node in graph.nodes}
    constant, unused_after = graph.constant_nodes(), graph.last_uses()
    lasting = {*constant, *(node.name for node in graph.nodes_of(Population))}
    alive = peak = 0
    for node in graph.nodes:
        if node.name in constant:
            continue
        alive += size[node.name]
        peak = max(peak, alive)
        alive -= sum(size[name] for name in unused_after[node.name] if name not in constant)
    return sum(size[name] for name in lasting), max(peak, 1)


def chunks_of(memory: int, one_sample: tuple[int, int], steps: int) -> tuple[int, int]:
    """The numbers of samples and of time steps to run at once.

    Args:
        memory: bytes for activations.
        one_sample: sample_bytes of the network.
        steps: number of steps that should be run at once; fewer where one sample needs more memory.
    """
    fixed, per_step = one_sample
    samples = memory // (fixed + per_step * steps)
    if samples:
        return samples, steps
    max_steps = max(1, (memory - fixed) // per_step)
    blocks = -(-steps // max_steps)
    return 1, -(-steps // blocks)  # blocks of equal size: the largest one needs the memory
