"""How far a network is from its ANN: by KL for classes, by squared error for numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.objective import Objective, mean_score
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.graph.arrangement import output_tasks
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Output, Part
from icsnn_deploy.graph.readout import agreement, kl_divergence
from icsnn_deploy.graph.tasks import TASKS, Task
from icsnn_deploy.lattice.quantize import quantize
from tests.support.graphs import residual_ann
from tests.support.outputs import outputs_graph, values


def candidates_of(
    model: nn.Module, x: Array, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Any:
    """A conversion, and the error of each of its candidates relative to the variance of the ANN."""
    runners = []
    original = CandidateRunner.__init__

    def keep(self: CandidateRunner, *given: Any, **named: Any) -> None:
        original(self, *given, **named)
        runners.append(self)

    monkeypatch.setattr(CandidateRunner, "__init__", keep)
    result = convert(model, x, Recipe(name="fast", time_steps=8), **options)
    held_out = x[len(x) * 3 // 4 :]
    wanted = TorchANN(result.ann).run(held_out)
    errors = {
        c.result.method: float(
            np.square(TorchSimulator(c.network).classify(held_out) - wanted).mean() / wanted.var()
        )
        for c in runners[0].candidates
    }
    return result, errors


def dense_model(channels: int, offset: float) -> nn.Module:
    torch.manual_seed(1)
    last = nn.Conv2d(8, channels, 1)
    assert last.bias is not None
    with torch.no_grad():
        last.weight.mul_(10)
        last.bias.add_(offset)
    first = (nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    return nn.Sequential(*first, last).eval()


def test_the_candidate_of_a_dense_map_is_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temperatures in kelvin: a sigmoid of them is 1, whatever the network."""
    x = np.random.default_rng(1).random((32, 2, 8, 8)).astype(np.float32)
    result, errors = candidates_of(dense_model(1, 300.0), x, monkeypatch)
    assert len(errors) == 8
    assert max(errors.values()) > 2 * min(errors.values())
    assert result.report.chosen.method == min(errors, key=lambda name: errors[name])
    assert result.report.chosen.agreement is None
    assert result.report.chosen.divergence == pytest.approx(min(errors.values()), rel=1e-3)
    assert [(o.task, o.origin) for o in result.report.outputs] == [("regression", "shape")]


def test_the_candidate_of_a_declared_regression_is_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    last = nn.Linear(16, 2)
    with torch.no_grad():
        last.bias.add_(torch.tensor([200.0, -5.0]))
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), last).eval()
    x = values(64, 6)
    result, errors = candidates_of(model, x, monkeypatch, task="regression")
    wanted = TorchANN(result.ann).run(x[48:])
    within = np.square(wanted - wanted.mean(axis=0)).mean() / wanted.var()
    assert result.report.chosen.method == min(errors, key=lambda name: errors[name])
    assert result.report.chosen.divergence == pytest.approx(min(errors.values()) / within, rel=1e-3)
    assert output_tasks(result.network) == {"output": "regression"}
    assert [(o.task, o.origin) for o in result.report.outputs] == [("regression", "declared")]
    integer = quantize(result, x)
    assert output_tasks(integer.network) == {"output": "regression"}
    assert set(integer.agreement.values()) == {None}
    assert integer.divergence["float"] == pytest.approx(result.report.chosen.divergence)
    assert integer.kept == min(
        ("rounded", "corrected", "searched"), key=lambda name: integer.divergence[name]
    )
    assert integer.divergence[integer.kept] < 1


@pytest.mark.parametrize("shape", [(4,), (1,), (3, 9, 9)])
def test_one_output_of_classes_is_scored_as_before(shape: tuple[int, ...]) -> None:
    wanted, found = values(6, *shape), values(6, *shape, seed=1)
    score = Objective(outputs_graph(shape), wanted).score(found)
    assert score.agreement == agreement(wanted, found)
    assert score.divergence == kl_divergence(wanted, found)


def test_several_decisions_are_compared_one_by_one() -> None:
    wanted, found = values(6, 5), values(6, 5, seed=1)
    score = Objective(outputs_graph((5,), tasks={"y": "binary"}), wanted).score(found)
    each = [kl_divergence(wanted[:, [n]], found[:, [n]]) for n in range(5)]
    assert score.divergence == pytest.approx(np.mean(each))
    assert score.agreement == np.mean((wanted > 0) == (found > 0))


def test_numbers_are_compared_in_units_of_their_spread() -> None:
    wanted = values(50, 3) * np.array([1, 10, 100], np.float32)
    wanted[:, 0] += 1000
    graph = outputs_graph((3,), tasks={"y": "regression"})
    found = wanted + np.float32(0.5)
    variance = np.square(wanted - wanted.mean(axis=0)).mean()
    score = Objective(graph, wanted).score(found)
    assert score.divergence == pytest.approx(0.25 / variance, rel=1e-4)
    scaled = Objective(graph, wanted * 8).score(found * 8)
    assert scaled.divergence == pytest.approx(score.divergence, rel=1e-6)
    assert Objective(graph, wanted).score(wanted).divergence == 0


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_numbers_that_do_not_vary_can_be_compared(constant: float) -> None:
    graph = outputs_graph((2,), tasks={"y": "regression"})
    wanted = np.full((1, 2), constant, np.float32)
    assert Objective(graph, wanted).score(wanted + 1).divergence == 1 / (constant or 1) ** 2


def test_several_outputs_are_added_each_by_its_task() -> None:
    parts = (Part("label", (4,)), Part("box", (3,)))
    graph = outputs_graph((7,), parts, tasks={"box": "regression"})
    wanted, found = values(20, 7), values(20, 7, seed=1)
    score = Objective(graph, wanted).score(found)
    assert score.outputs["label"].divergence == kl_divergence(wanted[:, :4], found[:, :4])
    box = np.square(wanted[:, 4:] - found[:, 4:]).mean()
    box /= np.square(wanted[:, 4:] - wanted[:, 4:].mean(axis=0)).mean()
    assert score.outputs["box"].divergence == pytest.approx(box)
    assert score.divergence == sum(one.divergence for one in score.outputs.values())
    assert score.agreement == agreement(wanted[:, :4], found[:, :4])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shape", [(4,), (1,), (2, 3, 3)])
def test_the_loss_of_tuning_is_the_divergence(task: Task, shape: tuple[int, ...]) -> None:
    graph = outputs_graph(shape, tasks={"y": task})
    wanted, found = values(6, *shape), values(6, *shape, seed=1)
    objective = Objective(graph, wanted)
    tensor = torch.from_numpy(found).double().requires_grad_()
    loss = objective.loss(torch.from_numpy(wanted).double(), tensor)
    assert loss.item() == pytest.approx(objective.score(found).divergence, rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert tensor.grad is not None
    assert tensor.grad.abs().sum() > 0


def test_the_loss_adds_the_outputs_as_the_score_does() -> None:
    parts = (Part("label", (4,)), Part("box", (3,)))
    graph = outputs_graph((7,), parts, tasks={"box": "regression"})
    shuffled = np.random.default_rng(3).permutation(7)
    graph = graph.replace(Output(name="y", inputs=("x",), parts=parts, index=shuffled))
    wanted, found = values(20, 7), values(20, 7, seed=1)
    objective = Objective(graph, wanted)
    loss = objective.loss(torch.from_numpy(wanted), torch.from_numpy(found))
    assert float(loss) == pytest.approx(objective.score(found).divergence, rel=1e-5)


def test_the_mean_over_readout_steps_is_taken_output_by_output() -> None:
    graph = outputs_graph((3,))
    objective = Objective(graph, values(9, 3))
    scores = [objective.score(values(9, 3, seed=n)) for n in (1, 2)]
    found = mean_score(scores)
    assert found.divergence == np.mean([s.divergence for s in scores])
    assert found.agreement == np.mean([s.agreement for s in scores if s.agreement is not None])


def test_a_high_temperature_compares_logits_by_their_squares() -> None:
    """T^2 KL(softmax(a / T), softmax(b / T)) -> mean squared difference of centered logits / 2."""
    generator = np.random.default_rng(0)
    wanted, found = (torch.from_numpy(generator.normal(size=(5, 4))) for _ in range(2))
    objective = Objective(residual_ann(), wanted.float().numpy())
    loss = objective.loss(wanted, found, temperature=1e4)
    difference = found - wanted
    centered = difference - difference.mean(dim=1, keepdim=True)
    torch.testing.assert_close(loss, centered.square().mean(dim=1).mean() / 2, rtol=1e-3, atol=0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shape", [(4,), (1,), (2, 3, 3)])
def test_the_divergence_is_the_mean_over_samples(task: Task, shape: tuple[int, ...]) -> None:
    objective = Objective(outputs_graph(shape, tasks={"y": task}), values(6, *shape))
    found = values(6, *shape, seed=1)
    score = objective.score(found)
    assert score.by_sample.shape == (6,)
    assert score.divergence == pytest.approx(score.by_sample.mean())
    found[2] = values(6, *shape)[2]  # the ANN's own values
    assert objective.score(found).by_sample[2] == pytest.approx(0, abs=1e-12)


def test_the_report_says_how_sure_the_choice_among_candidates_is() -> None:
    x = values(32, 2, 6, 6)
    report = convert(dense_model(4, 0.0), x, Recipe(name="fast", time_steps=8)).report
    errors = [c.gap_error for c in report.candidates if c != report.chosen]
    assert report.chosen.gap_error is None
    assert len(errors) == len(report.candidates) - 1
    assert all(error is not None and error > 0 for error in errors)


def test_one_held_out_sample_has_no_standard_error() -> None:
    report = convert(
        dense_model(4, 0.0), values(1, 2, 6, 6), Recipe(name="fast", time_steps=8)
    ).report
    assert all(candidate.gap_error is None for candidate in report.candidates)
