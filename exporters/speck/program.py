"""Let sinabs write Speck's configuration of the network in network.json, and apply it to a chip.

    pip install sinabs            with samna, as SynSense's documentation says
    python configure.py --check                       compare what sinabs writes with speck.json
    python configure.py --validate                    ask samna whether the chip takes it
    python configure.py --apply speck2fdevkit:0       validate it, and load it into the chip

This file is the same in every export; it needs Python, torch, sinabs and samna only.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def sinabs_layers(network: dict[str, Any]) -> dict[int, Any]:
    """A DynapcnnLayer for each layer, by its number in network.json."""
    import torch
    from sinabs.activation import MembraneReset, MembraneSubtract
    from sinabs.backend.dynapcnn.dynapcnn_layer import DynapcnnLayer
    from sinabs.layers import IAFSqueeze

    layers = {}
    for number, layer in enumerate(network["layers"]):
        weight = torch.tensor(layer["weight"], dtype=torch.float32)  # [out, in, K, K]
        conv = torch.nn.Conv2d(
            weight.shape[1],
            weight.shape[0],
            weight.shape[2],
            stride=tuple(layer["stride"]),
            padding=tuple(layer["padding"]),
        )
        conv.weight = torch.nn.Parameter(weight)
        conv.bias = torch.nn.Parameter(torch.tensor(layer["bias"], dtype=torch.float32))
        spiking = IAFSqueeze(
            batch_size=1,
            spike_threshold=torch.tensor(float(layer["v_threshold"])),
            reset_fn=MembraneReset() if layer["hard_reset"] else MembraneSubtract(),
            min_v_mem=None,
        )
        spiking.v_mem = torch.tensor([layer["v_init"]], dtype=torch.float32)
        pools = [(route["pooling"],) * 2 for route in layer["routes"]]
        layers[number] = DynapcnnLayer(
            conv=conv,
            spk=spiking,
            in_shape=tuple(layer["input_shape"]),
            pool=pools or [(1, 1)],
            discretize=False,
        )
    return layers


def destinations(network: dict[str, Any]) -> dict[int, list[int]]:
    """The numbers of the layers that each layer sends to; [-1]: to none."""
    numbers = {layer["layer"]: number for number, layer in enumerate(network["layers"])}
    return {
        number: [numbers[route["layer"]] for route in layer["routes"]] or [-1]
        for number, layer in enumerate(network["layers"])
    }


def written_by_sinabs(network: dict[str, Any], builder: Any) -> list[dict[str, Any]]:
    """The values that sinabs writes for each core, in the order of network.json.

    `feature_shift` and `monitor_enable` are added as network.json says: sinabs sets the first to 0
    and the second afterwards.
    """
    layers, targets = sinabs_layers(network), destinations(network)
    cores = {number: layer["core"] for number, layer in enumerate(network["layers"])}
    found = []
    for number, layer in enumerate(network["layers"]):
        values = builder.get_dynapcnn_layer_config_dict(layers[number], cores, targets[number])
        for destination, route in zip(values["destinations"], layer["routes"], strict=True):
            destination["feature_shift"] = route["feature_shift"]
        values["leak_enable"] = bool(values["leak_enable"])
        values["monitor_enable"] = layer["is_read"]
        found.append({"core": layer["core"], "layer": layer["layer"], **values})
    return found


def first_difference(expected: Any, found: Any, place: str = "cores") -> str | None:
    """The first value in which two descriptions differ; None: there is none."""
    if isinstance(expected, dict) and isinstance(found, dict) and set(expected) == set(found):
        parts = [(f"{place}.{name}", value, found[name]) for name, value in expected.items()]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        parts = [
            (f"{place}[{n}]", a, b) for n, (a, b) in enumerate(zip(expected, found, strict=True))
        ]
    elif type(expected) is type(found) and expected == found:
        return None
    else:
        return f"{place}: {str(expected)[:80]} in speck.json, {str(found)[:80]} by sinabs"
    differences = (first_difference(a, b, where) for where, a, b in parts)
    return next((each for each in differences if each is not None), None)


def configuration(network: dict[str, Any], builder: Any) -> Any:
    """samna's configuration of the chip."""
    layers = sinabs_layers(network)
    cores = {number: layer["core"] for number, layer in enumerate(network["layers"])}
    config = builder.build_config(layers, cores, destinations(network))
    for layer in network["layers"]:
        own = config.cnn_layers[layer["core"]]
        for number, route in enumerate(layer["routes"]):
            own.destinations[number].feature_shift = route["feature_shift"]
        own.monitor_enable = layer["is_read"]
    return config


def builder_of(device: str) -> Any:
    """sinabs' writer of the configurations of a device."""
    from sinabs.backend.dynapcnn.chip_factory import ChipFactory

    return ChipFactory(device).get_config_builder()


def fits_all_cores(network: dict[str, Any], builder: Any) -> bool:
    """Whether sinabs counts the same memories: it finds a mapping, and ours is one of its own."""
    layers = sinabs_layers(network)
    limits = builder.get_constraints()
    builder.map_layers_to_cores(layers)  # raises ValueError where there is none
    own = [layer["core"] for layer in network["layers"]]
    pairs = zip(layers.values(), own, strict=True)
    return len(set(own)) == len(own) and all(limits[core].fits(layer) for layer, core in pairs)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="compare with speck.json")
    parser.add_argument("--validate", action="store_true", help="ask samna whether it is valid")
    parser.add_argument("--apply", metavar="DEVICE", help="load it into a chip: speck2fdevkit:0")
    options = parser.parse_args()
    folder = Path(__file__).parent
    network = json.loads((folder / "network.json").read_text())
    builder = builder_of(options.apply or f"{network['chip']}devkit:0")
    if options.check or not (options.validate or options.apply):
        expected = json.loads((folder / "speck.json").read_text())["cores"]
        difference = first_difference(expected, written_by_sinabs(network, builder))
        if difference is not None:
            sys.exit(f"sinabs writes another configuration: {difference}")
        if not fits_all_cores(network, builder):
            sys.exit("sinabs counts other memories: a layer does not fit its core")
        print(f"sinabs writes speck.json: {len(expected)} cores, every value equal")
    if options.validate or options.apply:
        config = configuration(network, builder)
        if not builder.validate_configuration(config):
            sys.exit("samna refuses the configuration, as printed above")
        print("samna: the configuration is valid")
        if options.apply:
            from sinabs.backend.dynapcnn.io import open_device

            open_device(options.apply).get_model().apply_configuration(config)
            print(f"loaded into {options.apply}")


if __name__ == "__main__":
    main()
