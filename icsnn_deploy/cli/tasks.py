"""Read the tasks of outputs from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.tasks import TASKS, Task


def declared_tasks(texts: Sequence[str]) -> Task | Mapping[str, Task] | None:
    """The task of the only output, or tasks by the name of the output; None where none is given.

    Args:
        texts: TASK, or NAME=TASK for each output.

    Raises:
        DataError: an unknown task, or an output without a name among several texts.
    """
    named: dict[str, Task] = {}
    for text in texts:
        name, _, found = text.rpartition("=")
        task = next((known for known in TASKS if known == found), None)
        if task is None:
            raise DataError(f"--task {text}: TASK or NAME=TASK is needed, TASK {', '.join(TASKS)}")
        if not name:
            if len(texts) > 1:
                raise DataError(f"--task {text}: give every output by name, NAME=TASK")
            return task
        if name in named:
            raise DataError(f"--task {text}: output {name} is given twice")
        named[name] = task
    return named or None
