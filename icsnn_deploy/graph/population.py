"""The neuron models: the base class of spiking populations, and each model with its equation.

A new model subclasses Population and joins the union AnyPopulation below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.node import BaseNode, Shape


@dataclass(frozen=True, kw_only=True, eq=False)
class Population(BaseNode):
    """Base class of the neuron models: one neuron per value of the source, spikes of 0 or 1.

    A neuron has a potential v, v[0] = v_init, that the incoming current changes at every step, and
    it spikes where the potential reaches v_threshold. How v changes is up to the subclass. Code
    that only counts, records or places neurons takes a Population; code that needs the equation
    takes the subclass.

    Attributes:
        v_threshold: > 0, of a shape that broadcast_shapes allows, unit of the input current.
        v_init: likewise, of either sign.
    """

    half_integers: ClassVar[frozenset[str]] = frozenset({"v_init"})

    v_threshold: Array
    v_init: Array

    def _check(self) -> None:
        self._array("v_init")
        smallest = self._array("v_threshold").min()
        if not smallest > 0:
            raise GraphError(f"{self.name}.v_threshold: smallest is {smallest}, > 0 needed")

    def output_shape(self, *sources: Shape) -> Shape:
        self._broadcasts("v_threshold", sources[0])
        self._broadcasts("v_init", sources[0])
        return sources[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class IF(Population):
    """Integrate-and-fire population (IC-SNN, Eqs. 4 to 6, with >= for >).

        u[t] = v[t-1] + I[t]
        s[t] = 1 if u[t] >= v_threshold else 0
        v[t] = u[t] - v_threshold * s[t]          soft reset
        v[t] = v_reset if s[t] else u[t]          hard reset, with a v_reset

    Attributes:
        v_reset: None for soft reset; otherwise of a shape that broadcast_shapes allows, unit of the
            input current.
    """

    kind: ClassVar[str] = "if"
    optional: ClassVar[frozenset[str]] = frozenset({"v_reset"})
    half_integers: ClassVar[frozenset[str]] = frozenset({"v_init", "v_reset"})

    v_reset: Array | None = None

    def _check(self) -> None:
        if self.v_reset is not None:
            self._array("v_reset")
        super()._check()

    def output_shape(self, *sources: Shape) -> Shape:
        if self.v_reset is not None:
            self._broadcasts("v_reset", sources[0])
        return super().output_shape(*sources)


AnyPopulation = IF
"""The closed union of the neuron models, for code that needs their equation (`A | B` for two)."""
