"""The C code gives the spikes of the PyTorch code bit for bit, and its gradients up to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from icsnn_deploy.conversion.calibration import surrogate
from icsnn_deploy.conversion.calibration.surrogate import SurrogateIF
from icsnn_deploy.conversion.calibration.surrogate_native import fits, native_if
from icsnn_deploy.native import build

SHAPES = [
    (2, 3, 4, 5),
    (70, 16, 2, 3),
    (3, 1500, 1, 2),
    (2, 7, 40, 40),
    (5, 3),
    (300, 7),
    (4, 3, 1100),
    (1, 1),
]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    build.load_library.cache_clear()
    native_if.cache_clear()


def results(shape: tuple[int, ...], steps: int, *, constant: bool, last: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows = shape[0] * (1 if constant else steps)
    current = torch.randn((rows, *shape[1:]), generator=generator) * 0.7 + 0.3
    current.view(-1)[::7] = 0.5  # ties with the threshold
    if last and current.ndim == 4:
        current = current.contiguous(memory_format=torch.channels_last)
    column = (shape[1], *(1,) * (len(shape) - 2))
    v_init = torch.full(column, 0.5)
    rho = torch.rand(column, generator=generator) + 0.5
    outer = torch.randn((shape[0] * steps, *shape[1:]), generator=generator)
    leaves = [value.requires_grad_() for value in (current, v_init, rho)]
    found = SurrogateIF.apply(*leaves, steps, constant)
    found.backward(outer)
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    assert len(gradients) == 3
    return [found.detach(), *gradients]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_it_does_what_pytorch_does(
    shape: tuple[int, ...],
    constant: bool,
    last: bool,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if native_if() is None:
        pytest.skip("no C compiler: PyTorch is used")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    native = results(shape, 5, constant=constant, last=last)
    monkeypatch.setattr(surrogate, "native_if", lambda: None)
    plain = results(shape, 5, constant=constant, last=last)
    assert torch.equal(native[0], plain[0])
    for got, expected in zip(native[1:], plain[1:], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_other_tensors_are_left_to_pytorch() -> None:
    assert fits(torch.zeros(2, 3, 4, 4))
    assert fits(torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last))
    assert not fits(torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    assert not fits(torch.zeros(2, 3, 4, 8)[..., ::2])
    assert not fits(torch.zeros(3))


def test_without_a_compiler_there_is_no_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert native_if() is None


@pytest.mark.parametrize(
    "script", ["exit 1", "echo nonsense", 'for last; do :; done; echo x > "$last"']
)
def test_a_compiler_that_fails_gives_no_library(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("ICSNN_KERNEL_CACHE", str(tmp_path / "cache"))
    assert native_if() is None
    assert torch.isfinite(results((2, 3, 4, 5), 3, constant=False, last=True)[1]).all()


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ICSNN_KERNEL_CACHE", str(tmp_path))
    if native_if() is None:
        pytest.skip("no C compiler: PyTorch is used")
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    build.load_library.cache_clear()
    native_if.cache_clear()
    assert native_if() is not None
    assert kept.stat().st_mtime_ns == before
    kept.chmod(0o777)  # anybody may have written it
    build.load_library.cache_clear()
    native_if.cache_clear()
    assert native_if() is not None
    assert kept.stat().st_mode & 0o022 == 0


def test_without_a_cache_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICSNN_KERNEL_CACHE", "")
    if build.find_compiler() is None:
        pytest.skip("no C compiler: PyTorch is used")
    assert native_if() is not None
