"""The ANN graph that calibration begins with: a model traced, folded, and put behind pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.conversion.frontend.approximate.options import Approximation, evenly, sample_count
from icsnn_deploy.conversion.frontend.example_inputs import Example
from icsnn_deploy.conversion.frontend.max_pool_neurons import relay_max_pools
from icsnn_deploy.conversion.frontend.onnx_model.module import OnnxModule
from icsnn_deploy.conversion.frontend.replace_max_pool import Replacement
from icsnn_deploy.conversion.frontend.trace import DeclaredActivation, trace, trace_exported
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import input_parts, is_plain, pack_inputs
from icsnn_deploy.graph.encoder import DIRECT, InputEncoder
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine
from icsnn_deploy.passes.edit import fresh_name, insert_after
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.merge_pointwise import merge_pointwise

_COMPARED = 32
"""Samples on which an ONNX model is compared with ONNX Runtime."""


def to_ann_graph(
    model: nn.Module | ExportedProgram,
    samples: Array,
    normalization: Normalization | None = None,
    activations: Sequence[DeclaredActivation] = (),
    *,
    replace_max_pool: Replacement | None = None,
    approximate: Approximation | None = None,
    encoder: InputEncoder = DIRECT,
) -> Graph:
    """The model as a graph of Relu nodes, folded, with the normalization as its first node.

    With rate encoding the graph takes pixels divided by 255.

    Args:
        model: see convert.
        samples: see convert; with events encoding spikes, batch first as CalibrationSet has them.
        normalization: of uint8 pixels.
        activations: see convert.
        replace_max_pool: see convert.
        approximate: see convert.
        encoder: of the network's input.

    Raises:
        UnsupportedOperatorError, ConversionError, DataError: see convert.
    """

    def frames(found: Array) -> Array:
        return encoder.frames(found) if encoder.encoding == "events" else found

    few = frames(np.asarray(samples[: _COMPARED if isinstance(model, OnnxModule) else 2]))
    if encoder.encoding == "events" and normalization is not None:
        raise DataError(
            "a normalization of pixels with events encoding: spikes are 0 or 1; leave it out"
        )
    if normalization is None and few.dtype.kind != "f":
        raise DataError(
            f"calibration data of type {few.dtype}: floats as the model takes them are needed, "
            "or uint8 pixels with a normalization"
        )
    if normalization is not None and few.dtype != np.uint8:
        raise DataError(f"calibration data of type {few.dtype}: a normalization needs uint8")

    def prepared(pixels: Array) -> torch.Tensor:
        return _example(pixels if normalization is None else normalization.apply(pixels))

    if approximate is not None:
        approximate = approximate.on(prepared(frames(_spread_over(samples))))
    ann = _traced(model, prepared(few), activations, replace_max_pool, approximate)
    if normalization is not None:
        ann = _normalized(ann, normalization, on_rates=encoder.is_timed)
    return fold_scales(relay_max_pools(merge_pointwise(ann)))


def several_inputs(
    model: nn.Module | ExportedProgram,
    named: Mapping[str, Array],
    normalization: Normalization | None,
    activations: Sequence[DeclaredActivation],
    replacement: Replacement | None,
    approximate: Approximation | None,
) -> tuple[Graph, Array]:
    """The model as a graph, and the samples of its inputs packed as the graph takes them.

    Args:
        model: see convert.
        named: floats [N, *shape] for each input, by the names of forward's arguments.
        normalization: must be None.
        activations: see convert.
        replacement: see convert.
        approximate: see convert.

    Raises:
        UnsupportedOperatorError, ConversionError, DataError: see convert.
    """
    arrays = {name: np.asarray(values) for name, values in named.items()}
    if normalization is not None:
        raise DataError(
            f"calibration data for the inputs {', '.join(arrays)} with a normalization: give "
            "several inputs as floats, normalized as in training"
        )
    for name, values in arrays.items():
        if values.dtype.kind != "f" or values.ndim < 2 or not len(values):
            raise DataError(
                f"calibration data of type {values.dtype} and shape {values.shape} for the input "
                f"{name!r}: floats [N, *shape] with N >= 1 are needed"
            )
    if len({len(values) for values in arrays.values()}) != 1:
        counts = {name: len(values) for name, values in arrays.items()}
        raise DataError(f"calibration data of {counts} samples: as many for each input are needed")
    example = {name: _example(values[:2]) for name, values in arrays.items()}
    if approximate is not None:
        several = {name: _example(_spread_over(values)) for name, values in arrays.items()}
        approximate = approximate.on(several)
    ann = _traced(model, example, activations, replacement, approximate)
    if len(arrays) == 1:
        arrays = {input_parts(ann)[0].name: next(iter(arrays.values()))}
    return fold_scales(relay_max_pools(merge_pointwise(ann))), pack_inputs(ann, arrays)


def _spread_over(samples: Array) -> Array:
    """As many of the samples as fits use, spread evenly over all."""
    count = sample_count(len(samples), int(np.prod(samples.shape[1:])))
    return np.asarray(samples[evenly(len(samples), count).numpy()])


def _example(samples: Array) -> torch.Tensor:
    """The samples as a tensor: a copy, as the model may work in place and files are read-only."""
    return torch.from_numpy(np.array(samples, np.float32, order="C"))


def _traced(
    model: nn.Module | ExportedProgram,
    example: Example,
    activations: Sequence[DeclaredActivation],
    replacement: Replacement | None,
    approximate: Approximation | None,
) -> Graph:
    if isinstance(model, ExportedProgram):
        return trace_exported(
            model,
            example,
            activations=activations,
            replace_max_pool=replacement,
            approximate=approximate,
        )
    return trace(
        model,
        example,
        activations=activations,
        replace_max_pool=replacement,
        approximate=approximate,
    )


def _normalized(ann: Graph, normalization: Normalization, *, on_rates: bool = False) -> Graph:
    """The graph on uint8 pixels: pixel / (255 std) - mean / std as its first node.

    Args:
        ann: the graph on normalized floats.
        normalization: of the model's training.
        on_rates: the graph takes pixel / 255 instead, in float32.
    """
    (part, *others) = input_parts(ann)
    if others:
        names = ", ".join(one.name for one in (part, *others))
        raise DataError(f"a normalization of pixels, but the model takes {names}; leave it out")
    shape = (len(normalization.mean), *(1,) * (len(part.shape) - 1))
    mean = np.asarray(normalization.mean, np.float64).reshape(shape)
    std = np.asarray(normalization.std, np.float64).reshape(shape)
    factor, shift = 1 / (std if on_rates else 255 * std), -mean / std
    if not is_plain(ann.input.parts, ann.input.index, ann.input.shape):
        # value by value, as the input arranges them; where no pixel goes, both are 0
        factor, shift = (
            pack_inputs(ann, {part.name: np.broadcast_to(value, (1, *part.shape))})[0]
            for value in (factor, shift)
        )
    scale = ChannelAffine(
        name=fresh_name(ann, "normalization"),
        inputs=(ann.input.name,),
        scale=factor,
        shift=shift,
    )
    pixels = ann if on_rates else ann.replace(replace(ann.input, dtype="uint8"))
    return insert_after(pixels, ann.input.name, scale)
