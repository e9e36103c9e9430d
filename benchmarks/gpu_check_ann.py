"""One pass of an ANN in a narrow type, the baseline of a spiking network's speed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.torch.ops import TorchOps
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Linear, Node

INT8_MEANS = (
    "int8 is im2col and torch._int_mm, with sums in int32 and float16 between the layers: PyTorch "
    "has no 8-bit convolution on CUDA, and an inference engine that fuses these would be faster"
)


class FloatANN:
    """Runs an ANN graph in one floating type, from tensor to tensor."""

    def __init__(self, graph: Graph, device: torch.device, dtype: torch.dtype) -> None:
        self.graph = graph
        self.ops = TorchOps(graph, device, dtype, tf32=True)
        self._unused_after = graph.last_uses()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, *output shape] of samples in this type."""
        values = {self.graph.input.name: x}
        for node in self.graph.nodes[1:]:
            values[node.name] = self.evaluate(node, [values[name] for name in node.inputs])
            for name in self._unused_after[node.name]:
                del values[name]
        return values[self.graph.output.name]

    def evaluate(self, node: Node, sources: list[Tensor]) -> Tensor:
        """The result of one node."""
        return self.ops.evaluate(node, *sources)


class Int8ANN(FloatANN):
    """Multiplies 8-bit activations by 8-bit weights, one scale per activation and output channel.

    Args:
        graph: the ANN.
        device: torch device.
        images: samples that the scales of the activations are measured on.
    """

    def __init__(self, graph: Graph, device: torch.device, images: Array) -> None:
        super().__init__(graph, device, torch.float16)
        self._scales = _largest_inputs(graph, device, images)
        self._packed: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def evaluate(self, node: Node, sources: list[Tensor]) -> Tensor:
        if isinstance(node, Linear):
            return self._product(node, self._quantized(node, sources[0]))
        if isinstance(node, Conv) and len(node.kernel) == 2 and node.groups == 1:
            return self._convolution(node, sources[0])
        return super().evaluate(node, sources)

    def _convolution(self, node: Conv, x: Tensor) -> Tensor:
        """[N, O, H', W'], channels last."""
        (top, bottom), (left, right) = node.padding
        image = self._quantized(node, x).permute(0, 2, 3, 1)  # [N, H, W, C]
        image = functional.pad(image, (0, 0, left, right, top, bottom))
        reach = [d * (k - 1) + 1 for d, k in zip(node.dilation, node.kernel, strict=True)]
        windows = image.unfold(1, reach[0], node.stride[0]).unfold(2, reach[1], node.stride[1])
        windows = windows[..., :: node.dilation[0], :: node.dilation[1]]  # [N, H', W', C, kh, kw]
        count, rows, columns = windows.shape[:3]
        flat = windows.permute(0, 1, 2, 4, 5, 3).reshape(count * rows * columns, -1)
        return self._product(node, flat).view(count, rows, columns, -1).permute(0, 3, 1, 2)

    def _quantized(self, node: Node, x: Tensor) -> Tensor:
        return (x * (127 / self._scales[node.name])).round().clamp(-127, 127).to(torch.int8)

    def _product(self, node: Conv | Linear, rows: Tensor) -> Tensor:
        """Rows of bytes [M, K] by the weight [K, O]; float16 [M, O]."""
        weight, scale, bias = self._weight(node)
        count, wanted = len(rows), max(len(rows), 32)  # _int_mm takes 17 rows or more
        rows = functional.pad(rows, (0, len(weight) - rows.shape[1], 0, wanted - count))
        sums = torch._int_mm(rows, weight)[:count, : len(bias)]
        return (sums * scale + bias).to(torch.float16)

    def _weight(self, node: Conv | Linear) -> tuple[Tensor, Tensor, Tensor]:
        """Bytes [K, O] padded to multiples of 8, the scale of their products, and the bias."""
        if node.name not in self._packed:
            flat = node.weight.astype(np.float32)
            if isinstance(node, Conv):
                flat = flat.transpose(0, 2, 3, 1)
            flat = flat.reshape(len(flat), -1)  # [O, K]
            largest = np.maximum(np.abs(flat).max(axis=1, keepdims=True), 1e-12)
            outputs, inputs = flat.shape
            padded = np.zeros((-(-inputs // 8) * 8, -(-outputs // 8) * 8), np.int8)
            padded[:inputs, :outputs] = np.round(127 * flat / largest).T
            scale = largest[:, 0] * self._scales[node.name] / 127**2
            arrays = (padded, scale.astype(np.float32), node.bias.astype(np.float32))
            packed, scales, bias = (torch.tensor(a, device=self.ops.device) for a in arrays)
            # cuBLAS takes the second factor column by column.
            self._packed[node.name] = packed.t().contiguous().t(), scales, bias
        return self._packed[node.name]


def _largest_inputs(graph: Graph, device: torch.device, images: Array) -> dict[str, float]:
    """The largest magnitude that each connection gets."""
    found: dict[str, float] = {}

    class Observed(FloatANN):
        def evaluate(self, node: Node, sources: list[Tensor]) -> Tensor:
            found[node.name] = max(float(sources[0].abs().max()), 1e-12)
            return super().evaluate(node, sources)

    observed = Observed(graph, device, torch.float32)
    observed(observed.ops.tensor(images))
    return found
