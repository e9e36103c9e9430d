"""The outputs of a model have names, whatever container they are in."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from icsnn_deploy.conversion.frontend.outputs import named_leaves

A, B, C = (torch.zeros(n) for n in (1, 2, 3))
Pair = namedtuple("Pair", "left right")


@dataclass
class Detections:
    boxes: Any
    scores: Any
    masks: Any = None


RESULTS: dict[str, tuple[Any, dict[str, torch.Tensor]]] = {
    "tensor": (A, {"output": A}),
    "tuple": ((A, B), {"0": A, "1": B}),
    "one in a list": ([A], {"0": A}),
    "dict": ({"out": A, "aux": B}, {"out": A, "aux": B}),
    "ordered dict": (OrderedDict(out=A, aux=B), {"out": A, "aux": B}),
    "numbered dict": ({3: A}, {"3": A}),
    "named tuple": (Pair(A, B), {"left": A, "right": B}),
    "dataclass": (Detections((A, B), C), {"boxes.0": A, "boxes.1": B, "scores": C}),
    "nested": ([A, {"x": (B, [C])}], {"0": A, "1.x.0": B, "1.x.1.0": C}),
    "clash": ({"a.b": A, "a": {"b": B}}, {"a.b": A, "a.b_1": B}),
    "none": ((None, A), {"1": A}),
}


@pytest.mark.parametrize("name", RESULTS)
def test_leaves_are_named_by_keys_fields_and_positions(name: str) -> None:
    result, expected = RESULTS[name]
    found = named_leaves(result)
    assert list(found) == list(expected)
    assert all(found[key] is expected[key] for key in expected)


def test_what_is_no_tensor_stays_a_leaf() -> None:
    assert named_leaves((A.shape, 3, "x")) == {"0": A.shape, "1": 3, "2": "x"}


def test_a_dataclass_that_counts_as_a_leaf_is_not_taken_apart() -> None:
    whole = Detections(A, B)
    assert named_leaves({"d": whole}, (Detections,)) == {"d": whole}
