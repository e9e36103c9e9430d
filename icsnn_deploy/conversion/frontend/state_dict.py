"""Find the state dict in a checkpoint, and fit its keys to those of the model.

Training scripts wrap models and save more than weights. A prefix is cut or added only where all
keys fit then; what is bookkeeping is left out and reported.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from icsnn_deploy.errors import DataError

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]

_CONTAINERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("ema", "model_ema", "ema_state_dict", "state_dict_ema", "params_ema"),
)
"""Entries that hold a state dict, the preferred ones first."""
_DEPTH = 3
_BOOKKEEPING = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")
"""Last parts of keys that no output of a network in eval mode depends on."""
_WRAPPERS = frozenset({"module", "_orig_mod"})
"""Parts of keys that DataParallel and torch.compile put in, at any depth."""


def find_states(value: Any) -> dict[str, State]:
    """The state dicts in a checkpoint, by the path of the entry that holds them.

    Args:
        value: what was loaded.

    Returns:
        The preferred one first; empty if no mapping holds a tensor.
    """
    return dict(_states("", value, 0))


def check_states(path: Path, states: Mapping[str, State]) -> None:
    """Raise DataError if a tensor is of a kind that no weight has; names it."""
    for state in states.values():
        for name, tensor in state.items():
            kinds = {
                "nested": tensor.is_nested,
                "sparse": tensor.layout != torch.strided,
                "quantized": tensor.is_quantized,
                "on the meta device, without values": tensor.is_meta,
                "complex": tensor.is_complex(),
            }
            found = [kind for kind, holds in kinds.items() if holds]
            if found:
                raise DataError(
                    f"{path}: {name} is {found[0]}; dense tensors of real numbers are needed. Save "
                    "the state dict of the float model"
                )
            if tensor.numel() * tensor.element_size() > 2 * _held(tensor):
                raise DataError(
                    f"{path}: {name} declares {list(tensor.shape)}, of which {_held(tensor)} bytes "
                    "are there; save tensors that are not expanded"
                )


def _held(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def fit_state(path: Path, states: Mapping[str, State], own: State) -> tuple[State, list[str]]:
    """The state dict that fits the model, with the keys of the model.

    Args:
        path: the file, for messages.
        states: those in the file, the preferred one first; at least one.
        own: the state dict of the model.

    Returns:
        The state dict, and what does not fit: empty if all does.
    """
    best: tuple[State, list[str]] = {}, []
    for place, state in states.items():
        for renamed in _renamings(state, own):
            misfits = _misfits(renamed, own)
            if not misfits:
                _report(path, place, renamed, own, states)
                return {key: renamed[key] for key in own if key in renamed}, []
            if not best[1] or len(misfits) < len(best[1]):
                best = renamed, misfits
    return best


def _states(place: str, value: Any, depth: int) -> Iterator[tuple[str, State]]:
    if not isinstance(value, Mapping):
        return
    entries = {str(key): entry for key, entry in value.items()}
    tensors = {key: one for key, one in entries.items() if isinstance(one, torch.Tensor)}
    if tensors:
        yield place, tensors
    if depth < _DEPTH:
        for key in _CONTAINERS:
            if key in entries:
                yield from _states(f"{place}.{key}" if place else key, entries[key], depth + 1)


def _renamings(state: State, own: State) -> Iterator[State]:
    """The state dict with keys that may be those of the model; unchanged first."""
    cuts = [(cut, added) for cut in _prefixes(state) for added in _prefixes(own)]
    for unwrap in (False, True):
        for cut, added in sorted(cuts, key=lambda pair: bool(pair[0]) + bool(pair[1])):
            names = {_plain(key, added, unwrap): key for key in own}
            renamed = {
                names.get(plain, plain): tensor
                for key, tensor in state.items()
                for plain in [_plain(key, cut, unwrap)]
            }
            if len(names) == len(own) and len(renamed) == len(state):
                yield renamed


def _prefixes(state: State) -> list[str]:
    """Prefixes that all keys but those of bookkeeping share, the empty one first."""
    paths = [key.split(".")[:-1] for key in state if not _is_bookkeeping(key)]
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ["".join(f"{part}." for part in shared[:count]) for count in range(len(shared) + 1)]


def _plain(key: str, prefix: str, unwrap: bool) -> str:
    """The key without a prefix, and without the parts that wrappers put in."""
    parts = key.removeprefix(prefix).split(".")
    return ".".join(part for part in parts if not (unwrap and part in _WRAPPERS))


def _is_bookkeeping(key: str) -> bool:
    return key.rpartition(".")[2] in _BOOKKEEPING


def _misfits(state: State, own: State) -> list[str]:
    """Everything that does not fit, one line each."""
    missing = [f"missing {key}" for key in own if key not in state and not _is_bookkeeping(key)]
    extra = [key for key in state if key not in own and not _is_bookkeeping(key)]
    shapes = [
        f"{key}: shape {list(state[key].shape)}, the model has {list(one.shape)}"
        for key, one in own.items()
        if key in state and not is_lazy(one) and state[key].shape != one.shape
    ]
    return [*missing, *(f"not in the model: {key}" for key in extra), *shapes]


def _report(
    path: Path, place: str, renamed: State, own: State, states: Mapping[str, State]
) -> None:
    """Log what was taken, and which tensors were not."""
    left_out = [key for key in renamed if key not in own]
    others = [f"the state dict {other!r}" for other in states if other != place]
    if place:
        logger.info("%s: took the state dict %r", path, place)
    if left_out or others:
        logger.warning("%s: left out %s", path, ", ".join([*left_out[:5], *others]))
