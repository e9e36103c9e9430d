"""The example that a model is traced on: tensors by the names of forward's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from icsnn_deploy.errors import ConversionError

Example: TypeAlias = "torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]"
"""A batch [B, ...]; several inputs in the order of forward's arguments, or by their names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExampleInputs:
    """A batch of each input of the model.

    Args:
        tensors: by name, in the order of forward's arguments, each [B, ...].
        positional: the names of the inputs that are passed by position.
        keywords: the names of the others, by keyword.
    """

    tensors: dict[str, torch.Tensor]
    positional: tuple[str, ...]
    keywords: Mapping[str, str]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @property
    def shapes(self) -> str:
        """The shapes and types of the inputs, as a message shows them."""
        described = {
            name: f"shape {tuple(one.shape)}, type {one.dtype}"
            for name, one in self.tensors.items()
        }
        if len(described) == 1:
            return f"an input of {next(iter(described.values()))}"
        return "inputs " + "; ".join(f"{name} of {text}" for name, text in described.items())

    def of(self, tensors: dict[str, torch.Tensor]) -> ExampleInputs:
        """Other batches of the same inputs."""
        return replace(self, tensors=tensors)

    def taking(self, count: int) -> ExampleInputs:
        """The first `count` samples, repeated where there are fewer."""
        rows = torch.arange(count) % len(self)
        return self.of({name: one[rows] for name, one in self.tensors.items()})

    def arguments(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A value for each input, as the positional and keyword arguments of forward."""
        positional = tuple(values[name] for name in self.positional)
        return positional, {key: values[name] for key, name in self.keywords.items()}

    def call(self, model: nn.Module) -> Any:
        """The result of the model on copies of the inputs; the model may work in place.

        A failing GraphModule raises as any other; its own __call__ writes to stderr, too.
        """
        positional, keywords = self.arguments(
            {name: one.clone() for name, one in self.tensors.items()}
        )
        quiet = isinstance(model, fx.GraphModule)
        with torch.no_grad():
            if quiet:
                return nn.Module.__call__(model, *positional, **keywords)
            return model(*positional, **keywords)


def bind_example(model: nn.Module, example: Example) -> ExampleInputs:
    """The example by the names of the arguments of the model's forward.

    Args:
        model: its forward has an argument for each input; others need a default.
        example: one batch, or one for each input in the order of the arguments, or by name.

    Raises:
        ConversionError: inputs that forward does not take, or that are missing or no batches.
    """
    signature = inspect.signature(model.forward)
    try:
        if isinstance(example, Mapping):
            bound = signature.bind(**example)
        else:
            bound = signature.bind(
                *([example] if isinstance(example, torch.Tensor) else list(example))
            )
    except TypeError as error:
        taken = ", ".join(str(p.replace(annotation=p.empty)) for p in signature.parameters.values())
        raise ConversionError(
            f"{type(model).__name__}.forward takes the inputs {taken or 'none'}, and the example "
            f"does not fit ({error}). Give one batch for each input, by name or in this order; "
            "arguments that are no inputs need a default"
        ) from None
    tensors: dict[str, torch.Tensor] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind == inspect.Parameter.VAR_POSITIONAL:
            bound.arguments[name] = names = tuple(f"{name}_{i}" for i in range(len(value)))
            tensors.update(zip(names, value, strict=True))
        elif kind == inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = {key: key for key in value}
            tensors.update(value)
        else:
            bound.arguments[name] = name
            tensors[name] = value
    return ExampleInputs(tensors=as_batches(tensors), positional=bound.args, keywords=bound.kwargs)


def as_batches(given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The named tensors on the CPU, those of floats as float32.

    Raises:
        ConversionError: none, one that is not a batch, or batches of different sizes.
    """
    if not given:
        raise ConversionError("an example without tensors: a batch [B, ...] is needed")
    for name, one in given.items():
        where = "" if len(given) == 1 else f" for the input {name}"
        if not isinstance(one, torch.Tensor):
            raise ConversionError(
                f"an example of type {type(one).__name__}{where}: a tensor [B, ...] is needed"
            )
        if one.dim() < 2 or not one.numel():
            raise ConversionError(
                f"an example of shape {tuple(one.shape)}{where}: a batch [B, ...] of values is "
                "needed"
            )
    sizes = {name: len(one) for name, one in given.items()}
    if len(set(sizes.values())) > 1:
        raise ConversionError(f"examples of different batch sizes, {sizes}: one size is needed")
    plain = {name: one.detach().cpu() for name, one in given.items()}
    return {name: one.float() if one.is_floating_point() else one for name, one in plain.items()}
