"""The outputs of a network, their tasks and their scores, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from icsnn_deploy.conversion.report import OutputScore, OutputTask
from icsnn_deploy.graph.tasks import CLASS_TASKS, Task

_ORIGINS = {
    "declared": "as declared",
    "shape": "detected from its shape",
    "samples": "detected from the samples: it is an image made from the input",
}


def task_lines(outputs: Sequence[OutputTask]) -> list[str]:
    """What each output is judged as; none for a single vector of class scores."""
    if [(o.task, o.origin) for o in outputs] == [("classification", "shape")]:
        return []
    option = "--task TASK" if len(outputs) == 1 else "--task NAME=TASK"
    lines = [
        f"output    {o.name} {list(o.shape)}: judged as {o.task}, {_ORIGINS[o.origin]}"
        for o in outputs
    ]
    if any(o.origin != "declared" for o in outputs):
        lines.append(f"          another task is declared with {option}")
    return lines


def divergence_name(tasks: Iterable[Task]) -> str:
    """What the divergence summed over outputs of these tasks is called."""
    found = {task in CLASS_TASKS for task in tasks}
    if found == {True, False}:
        return "divergence"
    return "squared error / variance" if found == {False} else "KL divergence"


def score_lines(
    variant: str, scores: Mapping[str, OutputScore], samples: str, other: str, *, kept: bool
) -> list[str]:
    """The scores of one network: a line, or with several outputs a line for each, under its name.

    Args:
        variant: what the network is called.
        scores: by name of the output.
        samples: what they were measured on.
        other: the network that it is compared with.
        kept: whether it is the one that was chosen.
    """
    mark = ", kept" if kept else ""
    texts = {name: _score_text(score, samples, other) for name, score in scores.items()}
    if len(texts) == 1:
        return [f"{variant:<10} {text}{mark}" for text in texts.values()]
    return [f"{variant}{mark}:", *(f"  {name} {text}" for name, text in texts.items())]


def _score_text(score: OutputScore, samples: str, other: str) -> str:
    if score.agreement is None:
        return (
            f"differs from {other} by {score.divergence**0.5:.2%} of its spread on {samples}, "
            f"R^2 {1 - score.divergence:.4f}"
        )
    positions = "the positions of " if score.task == "segmentation" else ""
    return (
        f"classifies {score.agreement:.1%} of {positions}{samples} as {other} does, "
        f"KL divergence {score.divergence:.4f}"
    )
