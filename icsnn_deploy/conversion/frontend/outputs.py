"""Names for the tensors in what a model returns: a tensor, or tuples, lists and dicts of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils import _pytree as pytree


def named_leaves(result: Any, is_leaf: Callable[[Any], bool]) -> dict[str, Any]:
    """The leaves of a result by name, in order: "output" for a single one, else keys and positions.

    A dict {"out": a, "aux": (b, c)} has the leaves "out", "aux.0" and "aux.1".

    Args:
        result: what the model returns.
        is_leaf: whether a value is one.
    """
    paths, _ = pytree.tree_flatten_with_path(result, is_leaf=is_leaf)
    if len(paths) == 1 and not any(hasattr(key, "key") for key in paths[0][0]):
        return {"output": paths[0][1]}
    return {".".join(_name(key) for key in path): leaf for path, leaf in paths}


def _name(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute)).replace("/", "_")
    return str(key)
