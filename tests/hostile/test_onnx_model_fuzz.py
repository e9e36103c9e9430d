"""Malformed ONNX models as an input: one clear error, or a network that is right.

ICSNN_ONNX_FUZZ=2000 python -m pytest tests/hostile/test_onnx_model_fuzz.py
"""

from __future__ import annotations

import os
import resource
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import IcsnnError, UnsupportedOperatorError
from tests.support.onnx_models import MODELS
from tests.support.onnx_mutations import mutated

COUNT = int(os.environ.get("ICSNN_ONNX_FUZZ", "240"))
MEGABYTES = 600  # more at the peak, over all files
SECONDS = 20  # a file; tenths where nothing hangs
LONGEST = 2000  # characters of a message that is no table


def test_damaged_models_give_one_clear_error_or_a_right_network(tmp_path: Path) -> None:
    path, counts = tmp_path / "model.onnx", Counter[str]()
    (tmp_path / "w.bin").write_bytes(bytes(432))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    names = list(MODELS)
    models = {name: MODELS[name]() for name in names}
    for seed in range(COUNT):
        name = names[seed % len(names)]
        path.write_bytes(mutated(models[name], seed))
        start = time.monotonic()
        counts[_outcome(path, f"{name}, seed {seed}")] += 1
        assert time.monotonic() - start < SECONDS, f"{name}, seed {seed}"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEGABYTES * 1024
    assert counts["refused"] > COUNT / 3, counts
    assert counts["converted"] > 0, counts
    print(dict(counts))


def _outcome(path: Path, what: str) -> str:
    """Whether the file converts; fails on anything but one clear error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            model = read_onnx(path)
            trace(model, _example(model.content.data))  # compares with ONNX Runtime
        except IcsnnError as error:
            problem = _problem(error)
            if problem:
                pytest.fail(f"{what}: {problem}")
            return "refused"
        except Exception as error:
            pytest.fail(f"{what}: {type(error).__name__}: {error}")
    return "converted"


def _problem(error: IcsnnError) -> str:
    """What is wrong with the message of an error; empty where it is one clear line or a table."""
    text = str(error)
    if isinstance(error, UnsupportedOperatorError):
        text = " ".join(map(str, error.rejections))
    if not text:
        return "no message"
    if any(ord(one) < 32 for one in text):
        return f"a message with control characters, {text[:200]!r}"
    return f"a message of {len(text)} characters" if len(text) > LONGEST else ""


def _example(data: bytes) -> list[torch.Tensor]:
    """Samples in the shape that the file says, or a small one."""
    import onnx

    graph = onnx.ModelProto.FromString(data).graph
    constants = {one.name for one in graph.initializer}
    made = []
    for one in graph.input:
        if one.name in constants:
            continue
        axes = [axis.dim_value for axis in one.type.tensor_type.shape.dim][1:]
        shape = [size if 0 < size < 64 else 3 for size in axes[:4]] or [6]
        made.append(torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))
    return made
