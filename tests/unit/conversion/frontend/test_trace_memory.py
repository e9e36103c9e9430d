"""In-place operators: whatever looks at the overwritten memory later must see the new values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Relu
from tests.support.traced import Body, Form, check, images


def _result_ignored(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    y.relu_()
    return m.conv2(y)


def _module_result_ignored(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    m.relu_in_place(y)
    return m.conv2(y)


def _shortcut_takes_the_rectified(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    return m.conv2(m.relu_in_place(y)) + y


def _shortcut_kept_by_clone(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    kept = y.clone()
    return m.conv2(F.relu(y, inplace=True)) + kept


def _plus_equals_changes_the_other_name(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    other = y
    y += x
    return m.conv2(y) + other


def _alias_by_identity(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    alias = F.dropout(y.contiguous().view(y.shape), training=False)
    alias.add_(x)
    alias.relu_()
    return y * 2


def _input_overwritten(m: Body, x: torch.Tensor) -> Any:
    torch.relu_(x)
    return m.conv(x) + x


def _view_taken_after(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    y.clamp_(0, 0.5)
    return y.flatten(1)


def _copy_of_a_slice(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    part = y[:, :, ::2, ::2].contiguous()
    y.relu_()
    return part + F.avg_pool2d(y, 2)


def _view_not_used_again(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    y.view(y.size(0), -1).relu_()
    return m.conv2(x)


ALIASED: tuple[Form, ...] = (
    _result_ignored,
    _module_result_ignored,
    _shortcut_takes_the_rectified,
    _shortcut_kept_by_clone,
    _plus_equals_changes_the_other_name,
    _alias_by_identity,
    _input_overwritten,
    _view_taken_after,
    _copy_of_a_slice,
    _view_not_used_again,
)


@pytest.mark.parametrize("form", ALIASED, ids=lambda form: form.__name__)
def test_in_place_result_is_seen_by_every_name(form: Form) -> None:
    check(Body(form).eval(), images(2, 3, 6, 6))


def _view_taken_before(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    flat = y.flatten(1)
    y.relu_()
    return flat


def _base_of_a_changed_view(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    y.view(y.size(0), -1).relu_()
    return y


def _slice_of_the_overwritten(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    part = y[:, :, ::2, ::2]
    y.relu_()
    return part + F.avg_pool2d(y, 2)


@pytest.mark.parametrize(
    "form",
    [_view_taken_before, _base_of_a_changed_view, _slice_of_the_overwritten],
    ids=lambda form: form.__name__,
)
def test_view_of_overwritten_memory_is_rejected(form: Form) -> None:
    with pytest.raises(UnsupportedOperatorError, match="whose memory relu overwrote"):
        trace(Body(form).eval(), images(2, 3, 6, 6))


def test_ignored_activation_is_not_lost() -> None:
    graph = trace(Body(_result_ignored).eval(), images(2, 3, 6, 6))
    assert len(graph.nodes_of(Relu)) == 1


def test_the_model_and_the_example_stay_as_they_were() -> None:
    model = Body(_input_overwritten).eval()
    weight, x = model.conv.weight.clone(), images(2, 3, 6, 6)
    before = x.clone()
    trace(model, x)
    assert torch.equal(model.conv.weight, weight)
    assert isinstance(model.conv.weight, nn.Parameter)
    assert torch.equal(x, before)


def test_inference_mode_around_it_does_not_matter() -> None:
    with torch.inference_mode():
        graph = trace(Body(_result_ignored).eval(), images(2, 3, 6, 6))
    assert len(graph.nodes_of(Relu)) == 1
