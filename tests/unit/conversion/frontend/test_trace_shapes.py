"""Pooling, reshaping, slicing and padding in their many spellings."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses

from icsnn_deploy.graph.nodes import Conv
from tests.support.traced import Body, Form, check, images, kinds

POOLS: dict[str, Form] = {
    "F.avg_pool2d": lambda m, x: F.avg_pool2d(x, 2),
    "F.avg_pool2d of size": lambda m, x: F.avg_pool2d(x, x.size()[2:]),
    "F.avg_pool2d keywords": lambda m, x: F.avg_pool2d(x, kernel_size=(2, 4), stride=[2, 1]),
    "F.adaptive": lambda m, x: F.adaptive_avg_pool2d(x, (2, 1)),
    "mean keepdim": lambda m, x: x.mean([2, 3], keepdim=True),
    "mean of width keepdim": lambda m, x: x.mean(3, True),
}
GLOBAL_POOLS: dict[str, Form] = {
    "mean list": lambda m, x: x.mean([2, 3]),
    "mean tuple": lambda m, x: x.mean((-2, -1)),
    "torch.mean": lambda m, x: torch.mean(x, dim=(3, 2)),
    "mean twice": lambda m, x: x.mean(3).mean(2),
    "mean of rows first": lambda m, x: x.mean(2).mean(2),
    "view and mean": lambda m, x: x.view(x.size(0), x.size(1), -1).mean(2),
    "flatten and mean": lambda m, x: x.flatten(2).mean(-1),
    "pool and squeeze": lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "pool and flatten": lambda m, x: torch.flatten(F.avg_pool2d(x, (8, 6)), 1),
    "pool and index": lambda m, x: F.adaptive_avg_pool2d(x, 1).reshape(x.shape[0], 3),
}
FLATTENS: dict[str, Form] = {
    "torch.flatten": lambda m, x: torch.flatten(x, 1),
    "Tensor.flatten": lambda m, x: x.flatten(start_dim=1),
    "view of size": lambda m, x: x.view(x.size(0), -1),
    "view of shape": lambda m, x: x.view(x.shape[0], -1),
    "view of count": lambda m, x: x.view(-1, 3 * 8 * 6),
    "view of computed count": lambda m, x: x.view(-1, x.size(1) * x.shape[2] * x.shape[3]),
    "view of a tuple": lambda m, x: x.view((-1, 144)),
    "reshape": lambda m, x: x.reshape(x.size(0), 144),
    "reshape of numel": lambda m, x: x.reshape(x.shape[0], x.numel() // x.shape[0]),
    "in two steps": lambda m, x: x.flatten(2).flatten(1),
    "there and back": lambda m, x: x.flatten(2).view(x.shape).flatten(1),
    "contiguous": lambda m, x: x.contiguous().view(x.size(0), -1),
}
NOTHING: dict[str, Form] = {
    "view of itself": lambda m, x: x.view(x.shape),
    "clone, detach": lambda m, x: x.clone().detach(),
    "to": lambda m, x: x.to(torch.float32).float().to("cpu"),
    "to double": lambda m, x: x.to(x.dtype),
    "data": lambda m, x: x.data,
    "F.dropout": lambda m, x: F.dropout(x, 0.5, m.training),
    "whole slice": lambda m, x: x[:, :, 0:, ...],
    "no pad": lambda m, x: F.pad(x, (0, 0)),
    "adaptive of its size": lambda m, x: F.adaptive_avg_pool2d(x, (8, 6)),
    "asserts": lambda m, x: _with_assert(x),
}
SLICES: dict[str, Form] = {
    "stride": lambda m, x: x[:, :, ::2, ::2],
    "stride of three": lambda m, x: x[:, :, ::3, 1::4],
    "start": lambda m, x: x[:, :, 1::2, 1:],
    "stop": lambda m, x: x[:, :, :5, :-2],
    "both": lambda m, x: x[:, :, 2:-1, 1:4:2],
    "one row": lambda m, x: x[:, :, 3:4],
    "one element": lambda m, x: x[..., -1:, -1:],
    "ellipsis": lambda m, x: x[..., ::2],
    "channels": lambda m, x: x[:, 1:],
    "one channel": lambda m, x: x[:, 1:2],
    "channels and space": lambda m, x: x[:, ::2, ::2, 1:5],
    "twice": lambda m, x: x[:, :, 1::2][:, 1:, 1:, ::2],
    "narrow": lambda m, x: x.narrow(2, 1, 4).narrow(-1, -3, 2),
    "features": lambda m, x: x.flatten(1)[:, 3:50:7],
}
PADS: dict[str, Form] = {
    "space": lambda m, x: F.pad(x, (1, 2, 0, 1)),
    "last axis": lambda m, x: F.pad(x, [1, 0], "constant", 0.0),
    "channels": lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "channels and space": lambda m, x: F.pad(x, (1, 0, 0, 2, 2, 1), value=0),
    "crop": lambda m, x: F.pad(x, (-1, -2, 0, -1)),
    "crop and pad": lambda m, x: F.pad(x, (-1, 2, 1, -1, -1, 3)),
    "features": lambda m, x: F.pad(x.flatten(1), (2, 1)),
    "slice and pad": lambda m, x: F.pad(x[:, :, ::2, ::2], (1, 1, 0, 0, 2, 2)),
    "sliced channels": lambda m, x: F.pad(x[:, 1:, 1::2], (0, 0, 0, 0, 2, 0)),
}


def _with_assert(x: torch.Tensor) -> torch.Tensor:
    torch._assert(x.shape[1] == 3, "three channels")
    return x


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name: str) -> None:
    graph = check(Body(POOLS[name]).eval(), images(3, 3, 8, 6))
    assert kinds(graph) == ["avg_pool"]


@pytest.mark.parametrize("name", GLOBAL_POOLS)
def test_global_pooling(name: str) -> None:
    graph = check(Body(GLOBAL_POOLS[name]).eval(), images(2, 3, 8, 6))
    assert graph.shape(graph.output.name) == (3,)
    assert set(kinds(graph)) == {"avg_pool", "flatten"}


@pytest.mark.parametrize("name", FLATTENS)
def test_flattening(name: str) -> None:
    graph = check(Body(FLATTENS[name]).eval(), images(3, 3, 8, 6))
    assert kinds(graph) == ["flatten"]


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_leaves_no_node(name: str) -> None:
    graph = check(Body(lambda m, x: NOTHING[name](m, m.relu(x))).eval(), images(2, 3, 8, 6))
    assert kinds(graph) == ["relu"]


@pytest.mark.parametrize("name", SLICES)
def test_slicing(name: str) -> None:
    graph = check(Body(SLICES[name]).eval(), images(2, 3, 8, 6))
    assert kinds(graph)[-1:] == ["conv"] or graph.output.index is not None


@pytest.mark.parametrize("name", PADS)
def test_padding(name: str) -> None:
    check(Body(PADS[name]).eval(), images(2, 3, 8, 6))


@pytest.mark.parametrize("side", [7, 8])
def test_option_a_shortcut_is_one_strided_convolution(side: int) -> None:
    model = Body(lambda m, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))).eval()
    graph = check(model, images(2, 3, side, side))
    (conv,) = graph.nodes_of(Conv)
    assert conv.weight.shape == (7, 3, 1, 1)
    assert conv.stride == (2, 2)


def test_slicing_over_one_axis() -> None:
    model = Body(lambda m, x: F.pad(x[:, 1:, 2::3], (1, 0, 1, 1))).eval()
    check(model, images(2, 3, 11))


def test_one_sample_is_enough() -> None:
    check(
        Body(lambda m, x: m.linear(x.mean([2, 3]).view(x.size(0), -1))).eval(), images(1, 3, 4, 4)
    )


def test_a_batch_size_written_into_the_model() -> None:
    check(Body(lambda m, x: m.linear(x.mean([2, 3]).view(4, 3))).eval(), images(4, 3, 4, 4))
