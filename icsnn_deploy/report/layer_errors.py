"""The layers that cause most of a network's divergence from the ANN, in words."""

from __future__ import annotations

from collections.abc import Mapping

_SHOWN = 3


def errors_of_layers(divergence_without: Mapping[str, float]) -> dict[str, float]:
    """The divergence that each population adds to that of the populations before it.

    Args:
        divergence_without: first the divergence of the network, then by population, in order,
            the one that is left where it gives the ANN's activations; from one to the next it falls
            by what the next one caused.
    """
    names, left = list(divergence_without), list(divergence_without.values())
    return {name: left[n - 1] - left[n] for n, name in enumerate(names) if n}


def layer_error_lines(divergence_without: Mapping[str, float]) -> list[str]:
    """One line that names the layers with the largest errors; none where nothing was measured."""
    errors = errors_of_layers(divergence_without)
    largest = sorted(errors, key=lambda name: -errors[name])[:_SHOWN]
    if not largest or errors[largest[0]] <= 0:
        return []
    listed = ", ".join(f"{name} {errors[name]:.3f}" for name in largest if errors[name] > 0)
    whole = next(iter(divergence_without.values()))
    return [f"largest errors by layer, of a divergence of {whole:.3f}: {listed}"]
