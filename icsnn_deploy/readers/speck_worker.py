"""Print what sinabs writes: python -m icsnn_deploy.readers.speck_worker NETWORK_JSON...

It runs in sinabs' environment. samna is never imported: an object that records is put in its place
before sinabs is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from icsnn_deploy.exporters.speck import program


class Recorder:
    """An object whose attributes are recorders until they are set."""

    destinations: list[Recorder]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Recorder()
        setattr(self, name, made)
        return made

    def __call__(self, *arguments: Any, **named: Any) -> Recorder:
        return Recorder()


class SpeckConfiguration(Recorder):
    """A configuration of 9 cores with 2 destinations each."""

    def __init__(self) -> None:
        self.cnn_layers = [Recorder() for _ in range(9)]
        for layer in self.cnn_layers:
            layer.destinations = [Recorder(), Recorder()]


def replace_samna() -> None:
    """Put recorders in the place of samna and of the modules in it that sinabs imports."""
    for name in ("samna", "samnagui", *(f"samna.{each}" for each in _MODULES)):
        module = ModuleType(name)
        module.__path__ = []
        module.__getattr__ = _attribute  # type: ignore[method-assign]
        sys.modules[name] = module
    for chip in ("speck2e", "speck2f"):
        configuration = sys.modules[f"samna.{chip}.configuration"]
        configuration.SpeckConfiguration = SpeckConfiguration  # type: ignore[attr-defined]


def _attribute(name: str) -> Recorder:
    if name.startswith("__"):
        raise AttributeError(name)
    return Recorder()


_MODULES = (
    "speck2e",
    "speck2e.configuration",
    "speck2f",
    "speck2f.configuration",
    "specksim",
    "specksim.nodes",
)


def recorded(network: dict[str, Any], config: SpeckConfiguration) -> list[dict[str, Any]]:
    """The cores of a configuration, as speck.json lists them."""
    found = []
    for layer in network["layers"]:
        own = dict(vars(config.cnn_layers[layer["core"]]))
        own["destinations"] = [vars(each) for each in own["destinations"] if _is_set(each)]
        own["leak_enable"] = bool(own["leak_enable"])
        found.append({"core": layer["core"], "layer": layer["layer"], **own})
    return found


def _is_set(destination: Recorder) -> bool:
    """Whether a destination was enabled; what was only read of it holds recorders."""
    return vars(destination).get("enable") is True


def main() -> None:
    replace_samna()
    print(json.dumps([_written(Path(file)) for file in sys.argv[1:]]))


def _written(file: Path) -> dict[str, Any]:
    """What sinabs writes of one network."""
    network = json.loads(file.read_bytes())
    builder = program.builder_of(f"{network['chip']}devkit:0")
    mapping = builder.map_layers_to_cores(program.sinabs_layers(network))
    return {
        "written": program.written_by_sinabs(network, builder),
        "recorded": recorded(network, program.configuration(network, builder)),
        "fits": program.fits_all_cores(network, builder),
        "mapping": [int(core) for core in mapping.values()],
    }


if __name__ == "__main__":
    main()
