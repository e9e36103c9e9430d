"""README.md of the export: what the files hold, and the steps on the machine with the chip."""

from __future__ import annotations

from typing import Any

_PAGE = """# Speck configuration

Written by {producer}: {count} of 9 cores, T = {steps} time steps. Network:

    {hash}

| file | what |
|---|---|
| `speck.json` | the values of samna's configuration, core by core, as sinabs writes them |
| `network.json` | kernels, parameters and routes of the layers, and the readout |
| `configure.py` | lets sinabs write the configuration, validates it, and loads it into a chip |

| layer | core | kernel | threshold_high | sends to |
|---|---|---|---|---|
{rows}

## On your machine

Install sinabs and samna as SynSense's documentation says, then:

    python configure.py --check
    python configure.py --validate
    python configure.py --apply speck2fdevkit:0

`--check` needs no chip. `--validate` asks samna's `validate_configuration`, which no file can
replace: this step is yours.

1. Send each input event to every route of the input, as a spike of layer `core`, with its feature
   moved up by `feature_shift` and its position divided by `pooling`:

{inputs}
2. Between two time steps let the slow clock tick once: biases are leaks that it adds
   (`slow_clk_frequency` = 1 / seconds per step). They are enabled on {leaks}.
3. Before each sample, load the configuration again: it sets the potentials
   (`neurons_initial_value`, v_init rounded down).
4. Count the spikes of the monitored layers ({read}) in steps {first} to {steps}, and apply
   `readout` of network.json: pooled counts through its connections, plus {counted} times its
   bias, divided by {counted}.
   The chip's readout layer is not used: it has 15 classes and moving averages of its own.

## What was not proven here

No chip ran. Speck has no time steps: a neuron fires as soon as an event lifts it to its threshold,
once per event. `icsnn evaluate --backend event-driven` gives the accuracy and the spikes of that
order of events. It knows no time: an overloaded core delays or drops events. SynSense publishes no
number of operations per second that a core takes; `icsnn deploy` counts those of a sample.
"""


def readme_text(network: dict[str, Any]) -> str:
    """The page of a network as network.json describes it."""
    layers = network["layers"]
    readout = network["readout"]
    inputs = "\n".join(
        f"       core {route['core']} ({route['layer']}): feature_shift {route['feature_shift']}, "
        f"pooling {route['pooling']}"
        for route in network["input"]
    )
    leaks = [layer["layer"] for layer in layers if any(layer["bias"])]
    return _PAGE.format(
        producer=network["producer"],
        count=len(layers),
        steps=network["time_steps"],
        hash=network["graph_hash"],
        rows="\n".join(map(_row, layers)),
        inputs=inputs + "\n",
        leaks=", ".join(leaks) or "no layer",
        read=", ".join(layer["layer"] for layer in layers if layer["is_read"]),
        first=readout["after_step"] + 1,
        counted=readout["steps"],
    )


def _row(layer: dict[str, Any]) -> str:
    weight = layer["weight"]
    sizes = (len(weight), len(weight[0]), len(weight[0][0]), len(weight[0][0][0]))
    routes = "; ".join(
        f"core {route['core']}, feature_shift {route['feature_shift']}, pooling {route['pooling']}"
        for route in layer["routes"]
    )
    kernel = " x ".join(map(str, sizes))
    return (
        f"| {layer['layer']} | {layer['core']} | {kernel} | {layer['v_threshold']} | "
        f"{routes or 'the host'} |"
    )
