"""Weights: PyTorch checkpoints, new and old, and files that only look like one."""

from __future__ import annotations

import collections
import io
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.attack.formats.format import ODD_NAMES, Format, damaged
from tests.attack.formats.networks import CONVERTS, UNSUPPORTED, images


class _Runs:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch pwned",)


class Checkpoints(Format):
    def prepare(self) -> None:
        (self.good / "model.py").write_text(UNSUPPORTED)
        (self.good / "converts.py").write_text(CONVERTS)
        np.save(self.good / "x.npy", images(8))

    def make(self, rng: random.Random, work: Path) -> list[str]:
        path = work / rng.choice(("w.pt", "w.pth", "w.safetensors", "w.pt", "w.bin"))
        data = _checkpoint(rng)
        path.write_bytes(damaged(data, rng) if rng.random() < 0.35 else data)
        model = "converts.py" if rng.random() < 0.02 else "model.py"
        return [
            *("convert", str(self.good / f"{model}:model"), "--weights", str(path)),
            *("--calibration", str(self.good / "x.npy"), "--out", str(work / "o")),
            *("--recipe", "ic-snn", "--time-steps", "2"),
        ]


def _state() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "conv.weight": torch.randn(3, 2, 3, 3),
        "conv.bias": torch.randn(3),
        "norm.weight": torch.ones(3),
        "norm.bias": torch.zeros(3),
        "norm.running_mean": torch.zeros(3),
        "norm.running_var": torch.ones(3),
        "norm.num_batches_tracked": torch.tensor(1),
        "fc.weight": torch.randn(4, 48),
        "fc.bias": torch.randn(4),
    }


def _odd_tensor(tensor: Any, rng: random.Random) -> Any:
    kinds = (
        lambda: tensor.to_sparse(),
        lambda: tensor.to("meta"),
        lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([tensor, tensor[:1]]),
        lambda: tensor.to(rng.choice((torch.complex64, torch.bool, torch.int64, torch.float16))),
        lambda: tensor.to(rng.choice((torch.bfloat16, torch.float8_e4m3fn, torch.float64))),
        lambda: tensor * rng.choice((float("nan"), float("inf"), 1e38, -1e30, 0.0)),
        lambda: tensor.reshape(-1),
        lambda: tensor.expand(1000, *tensor.shape),
        lambda: torch.empty(0),
        lambda: torch.tensor(1.0),
        lambda: tensor.tolist(),
        lambda: None,
        lambda: rng.choice(ODD_NAMES),
        lambda: {"weight": tensor},
        lambda: tensor.numpy(),
        lambda: torch.nn.Parameter(tensor),
        lambda: tensor.flip(0).t() if tensor.ndim == 2 else tensor.unsqueeze(0),
        lambda: tensor.to_mkldnn(),
        lambda: torch.empty(1, 1).expand(2**20, 2**20),
    )
    return rng.choice(kinds)()


def _content(rng: random.Random) -> Any:
    state: dict[Any, Any] = _state()
    for _ in range(rng.choice((0, 1, 1, 2))):
        key = rng.choice(list(state))
        how = rng.randrange(6)
        if how < 3 and isinstance(state[key], torch.Tensor):
            try:
                state[key] = _odd_tensor(state[key], rng)
            except (RuntimeError, NotImplementedError, TypeError, IndexError):
                state[key] = None
        elif how == 3:
            state[rng.choice((*ODD_NAMES, 3, None, "a\udc80b", ("a",), 2.5, b"x"))] = state.pop(key)
        elif how == 4:
            del state[key]
        else:
            state = {f"module.{k}": v for k, v in state.items()}
    wraps: tuple[Callable[[], Any], ...] = (
        lambda: state,
        lambda: state,
        lambda: collections.OrderedDict(state),
        lambda: {"state_dict": state},
        lambda: {"state_dict": {"model": state}, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda: {rng.choice(ODD_NAMES): state},
        lambda: [state],
        lambda: next(iter(state.values())),
        dict,
        lambda: 3,
        lambda: {"state_dict": {}},
    )
    made = rng.choice(wraps)()
    if rng.random() < 0.1 and isinstance(made, dict):
        made["self"] = made
    return made


def _checkpoint(rng: random.Random) -> bytes:
    stream = io.BytesIO()
    how = rng.random()
    if how < 0.08:
        from safetensors.torch import save

        return save({k: v.contiguous() for k, v in _state().items()})
    if how < 0.12:
        return pickle.dumps(
            rng.choice((_state(), _Runs(), {"a": _Runs()}, [1, 2])), rng.choice((0, 2, 4))
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = _content(rng)
        if how < 0.15 and isinstance(content, dict):
            content["run"] = _Runs()
        try:
            torch.save(content, stream, _use_new_zipfile_serialization=how < 0.85)
        except (RuntimeError, NotImplementedError, TypeError, AttributeError, UnicodeError):
            stream = io.BytesIO()
            torch.save(_state(), stream)
    data = stream.getvalue()
    return _members_changed(data, rng) if rng.random() < 0.3 and how < 0.85 else data


def _members_changed(data: bytes, rng: random.Random) -> bytes:
    stream = io.BytesIO()
    try:
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            warnings.catch_warnings(),
            zipfile.ZipFile(stream, "w", rng.choice((0, 0, 8))) as new,
        ):
            warnings.simplefilter("ignore")
            for entry in old.infolist():
                body = old.read(entry)
                how = rng.random()
                if how < 0.1:
                    continue
                if how < 0.3:
                    body = damaged(body, rng)
                name = entry.filename if how < 0.9 else entry.filename + rng.choice(ODD_NAMES)
                new.writestr(name, body)
    except (zipfile.BadZipFile, ValueError):
        return data
    return stream.getvalue()
