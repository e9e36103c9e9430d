"""Logits mean the same classes wherever they are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.early_exit import confidence_of
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Linear
from icsnn_deploy.graph.readout import (
    class_scores,
    kl_divergence,
    label_scores,
    top1,
    torch_class_scores,
    torch_kl_divergence,
)
from icsnn_deploy.parity.verify import verify
from tests.support.evaluating import build, run
from tests.support.graphs import dyadic, residual_network, samples

SHAPES = [(5, 1), (5, 4), (5, 1, 3, 2), (5, 4, 3, 2)]


def logits_of(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)


def single_logit_network() -> Graph:
    network = residual_network(time_steps=4)
    head = network.node("head")
    assert isinstance(head, Linear)
    rng = np.random.default_rng(3)
    single = replace(head, weight=dyadic(rng, 1, 36), bias=np.zeros(1, np.float32))
    return network.replace(single)


def test_verify_and_evaluate_report_one_accuracy_for_a_single_logit(tmp_path: Path) -> None:
    network = single_logit_network()
    x = samples(network, 12, seed=7)
    logits = ReferenceSimulator(network).run(x).logits
    labels = (logits[:, 0] > 0).astype(np.int64)
    assert 0 < labels.sum() < len(labels)  # both classes occur
    bundle = build(tmp_path / "bundle", network)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    report = verify(bundle, ["torch"], x, labels=labels)
    evaluation = run(bundle, tmp_path)
    assert report.snn_accuracy == evaluation.top1 == 1
    assert report.ann_accuracy == evaluation.ann_top1


def test_backends_whose_single_logits_differ_in_sign_do_not_agree() -> None:
    ours, theirs = np.array([[2.0], [-1.0], [1.0]]), np.array([[2.0], [1.0], [-1.0]])
    assert (top1(ours) == top1(theirs)).tolist() == [True, False, False]


def test_a_single_logit_is_class_1_only_above_zero() -> None:
    assert top1(np.array([[2.0], [-1.0], [0.0]])).tolist() == [1, 0, 0]


def test_a_label_names_one_value_of_the_whole_output() -> None:
    logits = np.array([[[0.0], [2.0]], [[3.0], [1.0]]])
    assert top1(logits).tolist() == [1, 0]
    assert label_scores(np.zeros((2, 3, 2))).shape == (2, 6)


@pytest.mark.parametrize("shape", SHAPES)
def test_tensors_and_arrays_are_read_alike(shape: tuple[int, ...]) -> None:
    expected, found = logits_of(shape), logits_of(shape, seed=1)
    tensors = torch.from_numpy(expected), torch.from_numpy(found)
    assert np.array_equal(torch_class_scores(tensors[0]).numpy(), class_scores(expected))
    divergence = torch_kl_divergence(*(tensor.double() for tensor in tensors))
    assert float(divergence) == pytest.approx(kl_divergence(expected, found), rel=1e-12)


def test_a_single_logit_has_the_probabilities_of_a_sigmoid() -> None:
    logits = logits_of((6, 1)).astype(np.float64)
    p = 1 / (1 + np.exp(-logits[:, 0]))
    q = np.full(6, 0.5)
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert kl_divergence(logits, np.zeros_like(logits)) == pytest.approx(divergence.mean())
    assert confidence_of(torch.from_numpy(logits)).numpy() == pytest.approx(np.maximum(p, 1 - p))


def test_of_equal_scores_the_lower_class_comes_first() -> None:
    assert top1(np.array([[1.0, 3.0, 3.0]])).tolist() == [1]
