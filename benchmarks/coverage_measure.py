"""What happens to one architecture: traced and compared, or converted, quantized and verified."""

from __future__ import annotations

import inspect
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coverage_build import Subject, build, leaves
from coverage_operators import operators_of
from coverage_zoo import Architecture
from torch import Tensor, nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.approximate.loss import APPROXIMATED
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.max_pool_neurons import relay_max_pools
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import IcsnnError, UnsupportedOperatorError
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.arrangement import input_parts, named_outputs, output_parts, pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population, Relu
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.merge_pointwise import merge_pointwise

Record = dict[str, Any]

EXACT = 1e-5
"""Largest difference of a network that is equal to its model, over the range of the output."""
WRONG = 1e-3
"""A larger difference is a fault, not rounding."""

BACKENDS = ("torch", "onnxruntime", "nir")
_SCALES = (1.0, -1.0, 0.7, 1.2)  # of the inputs: calibration samples [16, *shape]
_VERIFIED_SAMPLES = 2
_TIME_STEPS = 4
_COSTLY = 3

_HOST: dict[str, Callable[[Tensor, int], Tensor]] = {
    "softmax": lambda x, dim: torch.softmax(x, dim),
    "softmax2d": lambda x, dim: torch.softmax(x, -3),
    "softmin": lambda x, dim: torch.softmax(-x, dim),
    "log_softmax": lambda x, dim: torch.log_softmax(x, dim),
    "sigmoid": lambda x, dim: torch.sigmoid(x),
    "logsigmoid": lambda x, dim: torch.nn.functional.logsigmoid(x),
    "tanh": lambda x, dim: torch.tanh(x),
    "argmax": lambda x, dim: x.argmax(dim),
}
"""What the host computes: "sigmoid", or "softmax(dim=1)" with its axis."""


def trace_one(architecture: Architecture) -> Iterator[Record]:
    """Build, trace and compare; yields what is known after the build, and the outcome.

    A later record is added to the one before. "rounding" is the difference of the model's own run
    in float32; "status" is "unbuildable", "refused", "crashed", "wrong", "imprecise" or "converts".
    """
    started = time.process_time()
    try:
        subject = build(architecture)
        smooth, operators = operators_of(subject.model, subject.example)
        expected = in_double(subject.model, subject.check)
        single = [t.double().numpy() for t in leaves(_run(subject.model, subject.check))]
    except Exception:  # a library's own code may raise anything
        yield {"status": "unbuildable", "error": traceback.format_exc()}
        return
    yield {
        "smooth": smooth,
        "operators": operators,
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "inputs": [list(shape) for shape in architecture.inputs],
        "rounding": max(map(relative_difference, single, expected)),
        "outputs": [list(one.shape[1:]) for one in expected],
        "build_s": round(time.process_time() - started, 2),
    }
    started = time.process_time()
    yield _attempt(lambda: _traced(subject, expected))
    yield {"trace_s": round(time.process_time() - started, 2)}


def approximate_one(architecture: Architecture) -> Iterator[Record]:
    """Trace with approximations; "status" is "approximated", "refused" or "crashed".

    "fits" is the number of fits, "rms" and "largest" the errors of the worst output over its range,
    "costly" the calls that change the outputs most.
    """
    started = time.process_time()
    yield _attempt(lambda: _approximated(build(architecture)))
    yield {"approximate_s": round(time.process_time() - started, 2)}


def deploy_one(architecture: Architecture) -> Iterator[Record]:
    """Convert, quantize, export and verify; "status" is "certified", "refused" or "crashed"."""
    started = time.process_time()
    yield _attempt(lambda: _deployed(build(architecture)))
    yield {"deploy_s": round(time.process_time() - started, 2)}


def _attempt(work: Callable[[], Record]) -> Record:
    try:
        return work()
    except UnsupportedOperatorError as error:
        table = [[r.node, r.got, r.allowed, r.remedy] for r in error.rejections]
        return {"status": "refused", "error": str(error), "rejections": table}
    except IcsnnError as error:
        return {"status": "refused", "error": str(error), "kind": type(error).__name__}
    except Exception:  # that is what is looked for
        return {"status": "crashed", "error": traceback.format_exc()}


def _traced(subject: Subject, expected: Sequence[Array]) -> Record:
    graph = ann_graph(subject.model, subject.example)
    relus = graph.nodes_of(Relu)
    record: Record = {
        "neurons": sum(int(np.prod(graph.shape(node.name))) for node in relus),
        "populations": len(relus),
    }
    got = outputs_of(graph, subject.check)
    if [one.shape for one in got] != [one.shape for one in expected]:
        shapes = f"{[one.shape for one in got]}, the model has {[one.shape for one in expected]}"
        return {**record, "status": "wrong", "error": f"outputs of shapes {shapes}"}
    difference = max(relative_difference(a, b) for a, b in zip(got, expected, strict=True))
    status = "converts" if difference <= EXACT else "imprecise" if difference <= WRONG else "wrong"
    return {**record, "status": status, "difference": difference}


def _approximated(subject: Subject) -> Record:
    named = _samples(subject)
    names = list(named)
    example = tuple(subject.example)
    samples = {name: torch.from_numpy(values) for name, values in named.items()}
    asked = Approximation(samples=samples if len(names) > 1 else samples[names[0]])
    graph = trace(subject.model, example if len(example) > 1 else example[0], approximate=asked)
    record: Any = graph.provenance.get(APPROXIMATED)
    if not record:
        return {"status": "converts"}
    relus = graph.nodes_of(Relu)
    errors = list(record["outputs"].values())
    costly = sorted(record["fits"], key=lambda fit: -float(fit["alone"]))[:_COSTLY]
    return {
        "status": "approximated",
        "fits": len(record["fits"]),
        "rms": max(float(one["rms"]) for one in errors),
        "largest": max(float(one["largest"]) for one in errors),
        "costly": [[one["name"], one["operator"], one["alone"]] for one in costly],
        "neurons": sum(int(np.prod(graph.shape(node.name))) for node in relus),
        "populations": len(relus),
    }


def _samples(subject: Subject) -> dict[str, Array]:
    """Calibration samples of each input, by the names of forward's arguments."""
    names = list(inspect.signature(subject.model.forward).parameters)
    return {
        name: torch.cat([scale * part for scale in _SCALES for part in pair]).numpy()
        for name, *pair in zip(names, subject.example, subject.check, strict=False)
    }


def ann_graph(model: nn.Module, example: Sequence[Tensor]) -> Graph:
    """The ANN graph as `convert` makes it."""
    if len(example) == 1:
        return to_ann_graph(model, example[0].numpy())
    return fold_scales(relay_max_pools(merge_pointwise(trace(model, tuple(example)))))


def outputs_of(graph: Graph, inputs: Sequence[Tensor]) -> list[Array]:
    """What the graph computes in double precision, with the operations left to the host."""
    names = [part.name for part in input_parts(graph)]
    arrays = [tensor.numpy() for tensor in inputs]
    packed = pack_inputs(graph, dict(zip(names, arrays, strict=True)))
    named = named_outputs(graph, run_ann(graph, packed))
    return [_on_host(part.host_op, named[part.name]) for part in output_parts(graph)]


def _on_host(operation: str, values: Array) -> Array:
    if not operation:
        return values
    name, _, axis = operation.removesuffix(")").partition("(dim=")
    result: Array = _HOST[name](torch.from_numpy(values), int(axis or 1)).numpy()
    return result


def in_double(model: nn.Module, inputs: Sequence[Tensor]) -> list[Array]:
    """What the model computes, in double precision where it runs in it; the model is restored."""
    try:
        result = _run(model.double(), [t.double() if t.is_floating_point() else t for t in inputs])
    except RuntimeError:  # float32 constants in forward
        result = _run(model.float(), inputs)
    model.float()
    return [tensor.double().numpy() for tensor in leaves(result)]


def _run(model: nn.Module, inputs: Sequence[Tensor]) -> object:
    with torch.no_grad():
        return model(*(tensor.clone() for tensor in inputs))


def relative_difference(got: Array, expected: Array) -> float:
    """Largest difference over the range of the expected values (largest minus smallest)."""
    extent = float(np.ptp(expected)) or float(np.abs(expected).max()) or 1.0
    difference = float(np.abs(got - expected).max()) / extent
    return difference if np.isfinite(difference) else float("inf")


def _deployed(subject: Subject) -> Record:
    named = _samples(subject)
    recipe = Recipe(name="opi", time_steps=_TIME_STEPS)
    data = named if len(named) > 1 else next(iter(named.values()))
    conversion = convert(subject.model, data, recipe)
    parts = [part.name for part in input_parts(conversion.network)]
    samples = dict(zip(parts, named.values(), strict=True))
    images = pack_inputs(conversion.network, samples)
    populations = conversion.network.nodes_of(Population)
    record: Record = {
        "neurons": sum(int(np.prod(conversion.network.shape(p.name))) for p in populations)
    }
    try:
        result = quantize(conversion, images, options=LatticeOptions(bits=8, batch_size=16))
    except IcsnnError as error:
        return {**record, "status": "refused", "stage": "quantize", "error": str(error)}
    record["bits"] = sorted(set(result.bits.values()))
    record["headroom"] = round(float(result.certificate.tightest.headroom_bits), 2)
    with tempfile.TemporaryDirectory() as folder:
        bundle = result.save(Path(folder) / "bundle", images[:_VERIFIED_SAMPLES])
        for export_format in ("nir", "onnx"):
            bundle = export_into(bundle, export_format)
        record["bytes"] = {
            name: bundle.manifest.files[file].size for name, file in bundle.exports.items()
        }
        report = verify(bundle, BACKENDS)
    mismatches = {one.backend: int(one.spike_mismatches) for one in report.comparisons}
    compared = {one.backend: int(one.spikes_compared) for one in report.comparisons}
    return {
        **record,
        "status": "certified" if report.verdict == "pass" else "differs",
        "mismatches": mismatches,
        "spikes": compared,
    }
