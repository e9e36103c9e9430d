"""Wrapped models give the graph of what is inside; what can't be traced is refused at once."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.conversion.frontend.working_copy import working_copy
from icsnn_deploy.errors import ConversionError
from tests.support.traced import check, images, kinds


def network() -> nn.Sequential:
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    return nn.Sequential(body, nn.Flatten(), nn.Linear(4 * 36, 5)).eval()


def _inner_parallel() -> nn.Module:
    model = network()
    model[0] = nn.DataParallel(model[0])
    return model.eval()


def _inner_compiled() -> nn.Module:
    model = network()
    model[0] = torch.compile(model[0])  # type: ignore[assignment]
    return model


def _compiled_in_place() -> nn.Module:
    model = network()
    model.compile()
    return model


WRAPPED: dict[str, Callable[[], Any]] = {
    "DataParallel": lambda: nn.DataParallel(network()).eval(),
    "DataParallel inside": _inner_parallel,
    "torch.compile": lambda: torch.compile(network()),
    "torch.compile inside": _inner_compiled,
    "Module.compile": _compiled_in_place,
    "both": lambda: nn.DataParallel(cast(nn.Module, torch.compile(network()))).eval(),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_model_gives_the_graph_of_the_model(name: str) -> None:
    x = images(2, 3, 8, 8)
    assert trace(WRAPPED[name](), x).hash() == trace(network(), x).hash()


def _trained(model: nn.Module) -> nn.Module:
    """One step in training mode: power iteration runs, weights get a history."""
    model.train()
    model(images(2, 3, 8, 8)).sum().backward()
    return model.eval()


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


def _pruned(layer: nn.Module) -> nn.Module:
    prune.l1_unstructured(layer, "weight", 0.5)  # type: ignore[no-untyped-call]
    prune.random_unstructured(layer, "bias", 0.5)  # type: ignore[no-untyped-call]
    return layer


COMPUTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm hook": _old_weight_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm hook": nn.utils.spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruned": _pruned,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_weights_that_are_computed_in_each_call_are_taken_as_they_are(name: str) -> None:
    model = network()
    model[0][0] = COMPUTED[name](model[0][0])  # type: ignore[index,operator]
    _trained(model)
    before = list(model.state_dict())
    x = images(2, 3, 8, 8)
    with torch.no_grad():
        model(x)
    expected = model(x).detach().numpy()  # the weights have a history again
    graph = trace(model, x)
    assert kinds(graph) == ["conv", "relu", "flatten", "linear"]
    from icsnn_deploy.backends.reference import run_ann

    assert abs(run_ann(graph, x.numpy()) - expected).max() < 1e-5
    assert list(model.state_dict()) == before  # the model is not changed


def _meta() -> nn.Module:
    return network().to("meta")


def _jit_traced() -> nn.Module:
    traced: nn.Module = torch.jit.trace(network(), images(2, 3, 8, 8))  # type: ignore[no-untyped-call]
    return traced


def _training() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _qat(*, enabled: bool) -> nn.Module:
    quantization: Any = torch.ao.quantization
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(*model, nn.Linear(4 * 36, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
        fused = quantization.fuse_modules_qat(model.train(), [["0", "1", "2"]])
        prepared: nn.Module = quantization.prepare_qat(fused)
    prepared(images(4, 3, 8, 8))
    prepared.eval()
    if not enabled:
        prepared.apply(quantization.disable_fake_quant)
        prepared.apply(quantization.disable_observer)
    return prepared


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "script": (lambda: torch.jit.script(network()), r"TorchScript.*\.pt2"),
    "traced": (lambda: _jit_traced(), "the model .*TorchScript"),
    "script inside": (
        lambda: nn.Sequential(torch.jit.script(network())),
        r"^0 \(RecursiveScriptModule\).*TorchScript",
    ),
    "meta": (_meta, r"0\.0 \(Conv2d\), 2 \(Linear\): on the meta device.*to_empty"),
    "lazy": (
        lambda: nn.Sequential(nn.LazyConv2d(4, 3)).eval(),
        r"0 \(LazyConv2d\): weights without a shape yet. Call the model once",
    ),
    "fake quantized": (lambda: _qat(enabled=True), "fake quantization.*disable_fake_quant"),
    "training": (_training, r"1 \(BatchNorm2d\): in training mode. Call model.eval\(\)"),
    "complex": (lambda: nn.Linear(3, 4, dtype=torch.complex64).eval(), "weight: type .*complex64"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_has_no_code_or_no_values_is_refused_with_what_to_do(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ConversionError, match=message):
        trace(make(), images(2, 3, 8, 8))


def test_all_of_these_reasons_at_once() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4, device="meta"))
    with pytest.raises(ConversionError) as caught:
        working_copy(model)
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == ["0", "2", "1"]


@pytest.mark.filterwarnings("ignore")
def test_a_model_with_its_fake_quantization_off_converts() -> None:
    check(_qat(enabled=False), images(2, 3, 8, 8))


def test_a_weight_with_a_history_can_be_copied() -> None:
    model = _old_weight_norm(nn.Linear(3, 4))
    model(images(2, 3))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    assert torch.equal(working_copy(model)(images(2, 3)), model(images(2, 3)))


def _overriding(name: str, method: Callable[..., Any]) -> nn.Module:
    kind = type("Odd", (nn.Sequential,), {name: method})
    made = kind(nn.Linear(3, 4))
    assert isinstance(made, nn.Module)
    return made


OVERRIDES: dict[str, tuple[str, Callable[..., Any], str]] = {
    "a copy that is no module": (
        "__deepcopy__",
        lambda self, memo: 3,
        r"Odd: copy\.deepcopy gives a int",
    ),
    "modules of other kinds": (
        "named_modules",
        lambda self, *a, **k: iter([(1, 2)]),
        r"Odd\.named_modules\(\) does not list entries of str and Module",
    ),
    "no list": ("parameters", lambda self, recurse=True: None, r"Odd\.parameters\(\) does not"),
    "no pairs": ("named_buffers", lambda self, *a, **k: [3], r"Odd\.named_buffers\(\) does not"),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_methods_that_break_what_a_module_is_are_named(name: str) -> None:
    method, body, message = OVERRIDES[name]
    with pytest.raises(ConversionError, match=message):
        working_copy(_overriding(method, body))


def test_such_a_method_is_also_found_inside_another_module() -> None:
    method, body, message = OVERRIDES["modules of other kinds"]
    with pytest.raises(ConversionError, match=message):
        working_copy(nn.Sequential(_overriding(method, body)))


def test_methods_that_are_overridden_as_they_are_meant_stay() -> None:
    model = _overriding("parameters", lambda self, recurse=True: nn.Module.parameters(self))
    assert torch.equal(working_copy(model)(images(2, 3)), model(images(2, 3)))


def test_a_move_that_returns_nothing_is_no_matter() -> None:
    model = _overriding("_apply", lambda self, *a, **k: None)
    assert torch.equal(working_copy(model)(images(2, 3)), model(images(2, 3)))


@pytest.mark.parametrize("name", ["eval", "modules", "parameters", "to"])
@pytest.mark.parametrize("wrap", [lambda m: m, nn.Sequential])
def test_an_attribute_that_hides_a_method_is_named(
    name: str, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    model = nn.Linear(3, 4)
    model.__dict__[name] = [3]
    with pytest.raises(ConversionError, match=rf"Linear\.{name} is no method but a list, which"):
        working_copy(wrap(model))
