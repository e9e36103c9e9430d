"""An ONNX model as an nn.Module: its nodes are submodules, named after the nodes of the file."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.conversion.frontend.onnx_model.operators import OPERATORS
from icsnn_deploy.conversion.frontend.onnx_model.sizes import shape_of
from icsnn_deploy.errors import ConversionError, IcsnnError, first_line
from icsnn_deploy.passes.edit import unique_name


@dataclass(frozen=True, kw_only=True)
class Step:
    """One node of a model, in the order of computation.

    Args:
        node: what it computes.
        inputs: the tensors that it takes; empty where an optional one is left out.
        outputs: the tensors that it makes; empty where nobody uses one.
    """

    node: OperatorNode
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxContent:
    """What a checked file holds.

    Args:
        steps: its nodes.
        tensors: its constants, by name.
        inputs: the names of its inputs.
        input_types: NumPy's name of the type of each.
        input_shapes: the shape of each, None for a size that is free; None for any shape.
        outputs: the names of its outputs.
        low_precision: it stores or computes numbers of 16 bits.
        data: the file as a runtime takes it, with all constants inside.
        source: the path, for messages.
    """

    steps: Sequence[Step]
    tensors: Mapping[str, torch.Tensor]
    inputs: Sequence[str]
    input_types: Sequence[str]
    input_shapes: Sequence[tuple[int | None, ...] | None]
    outputs: Sequence[str]
    low_precision: bool
    data: bytes
    source: str

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file is made for; None for any."""
        return next((shape[0] for shape in self.input_shapes if shape and shape[0]), None)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxContent:
        """Nothing in it changes, and it may be large."""
        return self


class OnnxOperator(nn.Module):
    """One node of an ONNX model; the front end names its calls after it."""

    is_one_operator = True

    def __init__(self, node: OperatorNode) -> None:
        super().__init__()
        self.node = node

    def forward(self, *inputs: Any) -> Any:
        return OPERATORS[self.node.kind](self.node, *inputs)


class OnnxModule(nn.Module):
    """The network of an ONNX file, in eval mode.

    It takes the file's inputs by position and returns its output, or a dict of its outputs. It can
    be run and traced as any other model, in single or double precision.

    Args:
        content: of the file.
    """

    def __init__(self, content: OnnxContent) -> None:
        super().__init__()
        self.content = content
        self._buffer_names = {name: f"constant_{i}" for i, name in enumerate(content.tensors)}
        for name, buffer in self._buffer_names.items():
            self.register_buffer(buffer, content.tensors[name])
        self._operators: list[OnnxOperator] = []
        for step in content.steps:
            operator = OnnxOperator(step.node)
            _place(self, step.node.path, operator)
            self._operators.append(operator)
        taken: dict[str, str] = {}
        for name in content.outputs:
            taken[unique_name(plain_name(name), taken)] = name
        self._results = taken
        self.eval()

    def forward(self, *inputs: Any) -> Any:
        self._check_shapes(inputs)
        values = {name: getattr(self, buffer) for name, buffer in self._buffer_names.items()}
        values[""] = None
        values.update(zip(self.content.inputs, inputs, strict=True))
        for step, operator in zip(self.content.steps, self._operators, strict=True):
            try:
                result = operator(*(values[name] for name in step.inputs))
            except ConversionError as error:  # of an operator, which names its node
                if type(error) is not ConversionError:
                    raise
                raise ConversionError(f"{self.content.source}: {error}") from error
            except (IcsnnError, torch.fx.proxy.TraceError):
                raise
            except Exception as error:  # a file may combine anything
                raise ConversionError(
                    f"{self.content.source}: {step.node.kind} {step.node.path}: "
                    f"{first_line(error):.300}"
                ) from error
            results = result if isinstance(result, (tuple, list)) else (result,)
            values.update(zip(step.outputs, results, strict=False))
        found = {name: values[tensor] for name, tensor in self._results.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def _check_shapes(self, inputs: Sequence[Any]) -> None:
        """Raise ConversionError for an input of another shape than the file says."""
        content = self.content
        for name, taken, given in zip(content.inputs, content.input_shapes, inputs, strict=True):
            shape = shape_of(given)
            if taken is None:
                continue
            alike = len(taken) == len(shape) and all(
                size in (None, one) for size, one in zip(taken, shape, strict=True)
            )
            if not alike:
                sizes = ", ".join("N" if size is None else str(size) for size in taken)
                raise ConversionError(
                    f"{content.source}: {tuple(shape)} given for the input {name[:80]!r}, which "
                    f"takes [{sizes}]. Give samples in that shape"
                )


def onnx_module(content: OnnxContent) -> OnnxModule:
    """The module, with a forward whose arguments have the names of the file's inputs."""
    names: dict[str, None] = {}
    for name in content.inputs:
        plain = plain_name(name)
        names[unique_name(f"{plain}_" if keyword.iskeyword(plain) else plain, names)] = None
    parameters = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    self_first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)

    def forward(self: OnnxModule, *inputs: Any) -> Any:
        return OnnxModule.forward(self, *inputs)

    forward.__signature__ = inspect.Signature([self_first, *parameters])  # type: ignore[attr-defined]
    made: OnnxModule = type("OnnxModule", (OnnxModule,), {"forward": forward})(content)
    return made


def plain_name(name: str) -> str:
    """A name as Python and file formats take it: "input:0" becomes "input_0"."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "tensor"
    return f"_{plain}" if plain[0].isdigit() else plain


def _place(root: nn.Module, path: str, operator: OnnxOperator) -> None:
    """Register an operator under a dotted path that no other has."""
    *parents, name = path.split(".")
    owner = root
    for part in parents:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    if name in owner._modules:  # other paths begin with this one
        operator._modules.update(owner.get_submodule(name)._modules)
    owner.add_module(name, operator)
