"""--task: what is accepted, and what is said about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from icsnn_deploy.cli.tasks import declared_tasks
from icsnn_deploy.conversion.report import OutputScore, OutputTask
from icsnn_deploy.errors import DataError
from icsnn_deploy.report.outputs import divergence_name, score_lines, task_lines


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], None),
        (["regression"], "regression"),
        (["box=regression", "a=b=binary"], {"box": "regression", "a=b": "binary"}),
    ],
)
def test_tasks_are_read(texts: list[str], found: Any) -> None:
    assert declared_tasks(texts) == found


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["boxes"], "--task boxes: TASK or NAME=TASK is needed, TASK classification, binary"),
        (["a=nonsense"], "--task a=nonsense"),
        (["regression", "a=binary"], "--task regression: give every output by name"),
        (["a=binary", "a=regression"], "output a is given twice"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        declared_tasks(texts)


def test_a_detected_task_is_shown_with_the_way_to_declare_another() -> None:
    depth = OutputTask(name="depth", shape=(1, 8, 8), task="regression", origin="shape")
    assert task_lines([depth]) == [
        "output    depth [1, 8, 8]: judged as regression, detected from its shape",
        "          another task is declared with --task TASK",
    ]
    label = OutputTask(name="label", shape=(10,), task="classification", origin="shape")
    assert task_lines([label]) == []
    assert "--task NAME=TASK" in task_lines([label, depth])[-1]


def test_scores_are_called_what_they_are() -> None:
    assert divergence_name(["classification", "segmentation"]) == "KL divergence"
    assert divergence_name(["regression"]) == "squared error / variance"
    assert divergence_name(["regression", "binary"]) == "divergence"
    number = OutputScore(task="regression", agreement=None, divergence=0.01)
    label = OutputScore(task="classification", agreement=0.5, divergence=0.25)
    assert score_lines("searched", {"y": label}, "samples", "the ANN", kept=True) == [
        "searched   classifies 50.0% of samples as the ANN does, KL divergence 0.2500, kept"
    ]
    both = {"y": label, "z": number}
    assert score_lines("searched", both, "samples", "the ANN", kept=True) == [
        "searched, kept:",
        "  y classifies 50.0% of samples as the ANN does, KL divergence 0.2500",
        "  z differs from the ANN by 10.00% of its spread on samples, R^2 0.9900",
    ]
