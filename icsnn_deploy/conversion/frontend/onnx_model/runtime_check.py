"""Compare the network that was read with the one that ONNX Runtime runs from the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icsnn_deploy.backends.onnx.any_model import open_any_model
from icsnn_deploy.conversion.frontend.example_inputs import ExampleInputs
from icsnn_deploy.conversion.frontend.onnx_model.module import OnnxContent, OnnxModule
from icsnn_deploy.conversion.frontend.self_check import (
    DOUBLE,
    SIXTEEN_BITS,
    ReferenceRun,
    differences,
    reference_runs,
)
from icsnn_deploy.errors import ConversionError, ExportError
from icsnn_deploy.graph.neuron import Array


def check_with_runtime(model: OnnxModule, inputs: ExampleInputs) -> list[ReferenceRun]:
    """Check that the model computes what a runtime computes from its file.

    Args:
        model: a float32 copy; it is run in double precision and is float32 afterwards.
        inputs: samples, as many as the file takes.

    Returns:
        The runs of the model that were compared, and those without finite outputs.

    Raises:
        ConversionError: it does not, or the runtime refuses the file.
    """
    content = model.content
    every = reference_runs(model, inputs, single=content.fixed_batch is None)
    # if others are the user's samples, the self-check says so
    runs = [run for run in every if all(np.isfinite(one).all() for one in run.outputs.values())]
    if not runs:
        return every
    try:
        runtime, session = open_any_model(Path(content.source), content.data)
        found = [session.run(content.outputs, _feed(content, run.inputs)) for run in runs]
    except ExportError as error:
        raise ConversionError(
            f"{error}. A conversion compares the network with the file's own results"
        ) from error
    for run, results in zip(runs, found, strict=True):
        got = dict(zip(run.outputs, results, strict=True))
        problems = differences(got, run, SIXTEEN_BITS if content.low_precision else DOUBLE)
        if problems:
            raise ConversionError(
                f"{content.source}: the network that was read differs from that of {runtime}: "
                f"{'; '.join(problems)}. Export the model with another operator set, or report "
                "the operator"
            )
    return every


def _feed(content: OnnxContent, inputs: ExampleInputs) -> dict[str, Array]:
    """The inputs by the names and in the types of the file."""
    named = zip(content.inputs, content.input_types, inputs.tensors.values(), strict=True)
    return {name: one.numpy().astype(kind) for name, kind, one in named}
