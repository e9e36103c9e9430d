"""Export to a folder of C99 files; the same network and samples give the same bytes."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.c import (
    build_files,
    golden,
    inspection,
    interface,
    parameters,
    program,
)
from icsnn_deploy.exporters.c.memory import check_memory, program_memory
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.exporters.c.plan import Plan, plan_program
from icsnn_deploy.exporters.c.prefix import renamed
from icsnn_deploy.exporters.expected import ReferenceRun, for_tests, inputs_for_tests
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array

FOLDER = "network-c"
"""Name of the folder in a bundle."""


def write(
    graph: Graph,
    path: Path,
    options: COptions = COptions(),
    *,
    samples: Array | None,
    run: ReferenceRun,
) -> None:
    """Write an integer network as a folder of C files.

    Args:
        graph: an integer IF network.
        path: the folder to make.
        options: see COptions.
        samples: for the golden test, as the network takes them, or real values; None: random ones.
        run: the reference simulator.

    Raises:
        ExportError: not an integer network, a value beyond 32 bits, a limit that is exceeded, or
            the folder can't be written.
    """
    plan = plan_program(graph)
    arrays = list(parameters.parameters_of(plan))
    memory = program_memory(plan, arrays)
    check_memory(memory, options)
    tested = for_tests(graph)
    inputs = inputs_for_tests(graph, samples, options.golden)
    recorded = golden.record(plan, tested, inputs, run)
    texts = {
        **_program_texts(plan, arrays),
        "golden.h": golden.header_text(plan, recorded),
        "test_main.c": golden.test_text(plan, recorded.steps),
        "Makefile": build_files.MAKEFILE,
        "CMakeLists.txt": build_files.CMAKE,
        "README.md": build_files.readme_text(plan, memory),
    }
    try:
        path.mkdir()
        for name, text in renamed(texts, arrays, options.prefix).items():
            (path / name).write_bytes(text.encode())
    except OSError as error:
        raise ExportError(f"{path}: can't be written ({error})") from error


def program_of(graph: Graph) -> tuple[dict[str, str], list[parameters.Parameter]]:
    """The program of an integer network, for a simulator.

    Returns:
        its files by name, and the arrays of weights.c.

    Raises:
        ExportError: as `write`.
    """
    plan = plan_program(graph)
    arrays = list(parameters.parameters_of(plan))
    return _program_texts(plan, arrays), arrays


def _program_texts(plan: Plan, arrays: list[parameters.Parameter]) -> dict[str, str]:
    return {
        "network.h": interface.header_text(plan),
        "network.c": program.source_text(plan),
        "weights.h": parameters.header(arrays),
        "weights.c": parameters.source(arrays),
        "inspect.h": inspection.HEADER,
        "inspect.c": inspection.source_text(plan),
    }


def check_limits(graph: Graph, names: tuple[str, ...], options: COptions) -> None:
    """Raise ExportError where the program can't be made or exceeds a limit; see formats.Format."""
    plan = plan_program(graph)
    check_memory(program_memory(plan, list(parameters.parameters_of(plan))), options)
