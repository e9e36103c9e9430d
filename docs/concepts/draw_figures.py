"""Draws the pictures of the concepts, from networks that are run for them.

    python docs/concepts/draw_figures.py

Needs matplotlib (the extra plots). The same versions write the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Input, Linear, Output

FIGURES = Path(__file__).parent / "figures"
STYLE = {
    "svg.hashsalt": "icsnn-deploy",
    "figure.facecolor": "white",  # readable on a dark page as well
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}
BLUE, ORANGE, GRAY = "#1f5fa8", "#c35a00", "#666666"


def neuron(v_init: float, time_steps: int) -> Graph:
    """One neuron whose current is the input; v_threshold is 1."""
    one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    return Graph(
        time_steps=time_steps,
        nodes=(
            Input(name="input", shape=(1,)),
            Linear(name="fc", inputs=("input",), weight=one, bias=zero),
            IF(name="if", inputs=("fc",), v_threshold=one[0], v_init=v_init * one[0]),
            Linear(name="head", inputs=("if",), weight=one, bias=zero),
            Output(name="output", inputs=("head",)),
        ),
    )


def trace(current: float, v_init: float, time_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Potentials after each step, v[0] first, and spikes [T]."""
    spikes = ReferenceSimulator(neuron(v_init, time_steps)).run(np.float32([[current]])).spikes
    fired = np.asarray(next(iter(spikes.values()))).reshape(-1)
    steps = np.arange(1, time_steps + 1)
    return np.concatenate([[v_init], v_init + current * steps - np.cumsum(fired)]), fired


def rates(currents: np.ndarray, v_init: float, time_steps: int) -> np.ndarray:
    """Spikes / T for each current."""
    logits = ReferenceSimulator(neuron(v_init, time_steps)).run(currents[:, None]).logits
    return np.asarray(logits)[:, 0]


def draw_neuron() -> plt.Figure:
    """Potential and spikes of one neuron."""
    current, steps = 0.3, 10
    v, fired = trace(current, 0.5, steps)
    figure, axes = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    for t in range(1, steps + 1):
        before = v[t - 1] + current
        axes.plot([t - 1, t], [v[t - 1], before], color=BLUE)
        if fired[t - 1]:
            axes.plot([t, t], [before, v[t]], color=ORANGE, linestyle=":")
            axes.plot(t, 1.45, marker="|", markersize=16, markeredgewidth=2, color=ORANGE)
    axes.axhline(1, color=GRAY, linestyle="--", linewidth=1)
    axes.text(0.05, 1.03, "v_threshold", color=GRAY)
    axes.text(0.05, 1.41, "spikes", color=ORANGE)
    axes.set(xlabel="step t", ylabel="potential v", ylim=(0, 1.6), xticks=range(steps + 1))
    return figure


def draw_staircase() -> plt.Figure:
    """Rate over current, with and without an initial potential."""
    currents = np.linspace(-0.3, 1.3, 1601, dtype=np.float32)
    relu = np.clip(currents, 0, 1)
    figure, plots = plt.subplots(1, 2, figsize=(6.8, 2.9), sharey=True, layout="constrained")
    for axes, v_init in zip(plots, (0.0, 0.5), strict=True):
        found = rates(currents, v_init, 4)
        axes.plot(currents, relu, color=GRAY, linestyle="--", label="ANN, clipped at v_threshold")
        axes.plot(currents, found, color=BLUE, label="spikes / T, T = 4")
        inside = (currents >= 0) & (currents <= 1)
        error = float(np.abs(found - relu)[inside].mean())
        axes.set(title=f"v_init = {v_init:g}: mean error {error:.3f}", xlabel="current")
    plots[0].set_ylabel("rate")
    plots[0].legend(frameon=False, fontsize=8)
    return figure


def draw_error() -> plt.Figure:
    """Mean error of the rate over T."""
    currents = np.linspace(0, 1, 2001, dtype=np.float32)
    steps = np.array([1, 2, 4, 8, 16, 32, 64])
    figure, axes = plt.subplots(figsize=(5.2, 2.9), layout="constrained")
    for v_init, color in ((0.0, ORANGE), (0.5, BLUE)):
        errors = [np.abs(rates(currents, v_init, int(t)) - currents).mean() for t in steps]
        axes.loglog(steps, errors, marker="o", color=color, label=f"v_init = {v_init:g}")
    axes.set(xlabel="time steps T", ylabel="mean error, in units of v_threshold")
    axes.set_xticks(steps, [str(t) for t in steps])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def draw_lattice() -> plt.Figure:
    """Potentials on integers and a half, and the bound of the certificate."""
    threshold, v, potentials = 9, 4.5, [4.5]
    for current in (3, 3, 5, -2, 4, 3, 2, 5):
        v += current
        v -= threshold * (v >= threshold)
        potentials.append(v)
    figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    for level in np.arange(-2.5, 15, 1):
        axes.axhline(level, color="#dddddd", linewidth=0.6, zorder=0)
    axes.step(range(9), potentials, where="post", color=BLUE, marker="o")
    axes.plot([0, 8], [threshold, threshold], color=GRAY, linestyle="--", linewidth=1)
    axes.text(8.1, threshold, "v_threshold = 9", va="center", color=GRAY)
    axes.plot([0, 8], [14, 14], color=ORANGE, linewidth=1.2)
    axes.text(8.1, 14, "bound: fits\nthe register", va="center", color=ORANGE)
    axes.set(xlabel="step t", ylabel="potential, lattice units", xlim=(0, 10.4), ylim=(-3, 15.5))
    axes.set_xticks(range(9))
    return figure


def draw_tie() -> plt.Figure:
    """Two backends at a rounding tie: the potential before the threshold is compared."""
    steps = np.arange(1, 7)
    first = np.array([0.6, 0.9, 1.2, 0.7, 1.0, 0.4])
    other = np.array([0.6, 0.9, 1.2, 0.7, 1.0, 1.4])
    figure, axes = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    axes.plot(steps, first, color=BLUE, marker="o", label="reference: fires at t = 5")
    axes.plot(steps, other, color=ORANGE, marker="x", linestyle="--", label="backend: does not")
    axes.axhline(1, color=GRAY, linestyle="--", linewidth=1)
    axes.annotate(
        "both within rounding\nof v_threshold: a tie", (5, 1.0), (3.1, 1.35),
        arrowprops={"arrowstyle": "->"},
    )  # fmt: skip
    axes.set(xlabel="step t", ylabel="v[t-1] + I[t]", ylim=(0.3, 1.7))
    axes.legend(frameon=False, loc="lower left", fontsize=8)
    return figure


def main() -> None:
    mpl.use("svg")
    mpl.rcParams.update(STYLE)
    for name, draw in (
        ("neuron", draw_neuron),
        ("staircase", draw_staircase),
        ("error", draw_error),
        ("lattice", draw_lattice),
        ("tie", draw_tie),
    ):
        figure = draw()
        figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()
