"""Forward hooks of modules that stay one call: run while tracing, so that their calls are traced.

torch.fx does not look into such a module and would miss a hook that changes its result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, eq=False)
class Hooks:
    """Hooks that run before and after a module's forward; the flag: they get keyword arguments."""

    before: dict[int, tuple[Callable[..., Any], bool]]
    after: dict[int, tuple[Callable[..., Any], bool]]

    def give_back(self, module: nn.Module) -> None:
        """Register the hooks with the module again, in their order."""
        for number, (hook, with_kwargs) in self.before.items():
            if number not in module._forward_pre_hooks:
                module.register_forward_pre_hook(hook, with_kwargs=with_kwargs)
        for number, (hook, with_kwargs) in self.after.items():
            if number not in module._forward_hooks:
                module.register_forward_hook(hook, with_kwargs=with_kwargs)
        self.before.clear()
        self.after.clear()


def take_hooks(module: nn.Module) -> Hooks:
    """Take the forward hooks from a module."""
    before = {
        number: (hook, number in module._forward_pre_hooks_with_kwargs)
        for number, hook in module._forward_pre_hooks.items()
    }
    after = {
        number: (hook, number in module._forward_hooks_with_kwargs)
        for number, hook in module._forward_hooks.items()
    }
    for hooks in (
        module._forward_pre_hooks,
        module._forward_pre_hooks_with_kwargs,
        module._forward_hooks,
        module._forward_hooks_with_kwargs,
        module._forward_hooks_always_called,
    ):
        hooks.clear()
    return Hooks(before, after)


def call_with_hooks(
    module: nn.Module,
    hooks: Hooks,
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """What a call of the module gives with these hooks, as nn.Module calls them."""
    for hook, with_kwargs in list(hooks.before.values()):
        changed = hook(module, args, kwargs) if with_kwargs else hook(module, args)
        if changed is not None and with_kwargs:
            args, kwargs = changed
        elif changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    result = forward(*args, **kwargs)
    for hook, with_kwargs in list(hooks.after.values()):
        changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
        if changed is not None:
            result = changed
    return result
