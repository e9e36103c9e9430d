"""The limits of NIR readers: what each supports, and what has to be set after loading a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from typing_extensions import assert_never

from icsnn_deploy.errors import ExportError, Rejection, rejection_table
from icsnn_deploy.exporters.nir.metadata import V_INIT, VInitEncoding
from icsnn_deploy.exporters.nir.portable.portable import to_portable
from icsnn_deploy.exporters.nir.portable.relay import relayed
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
)

_IMAGES = frozenset({"Affine", "Conv2d", "Flatten", "IF", "Input", "Linear", "Output"})


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A framework that reads NIR files, in the version that was tested.

    Args:
        version: name and tested version.
        load: the call that loads a file.
        holds: types of NIR nodes that it supports; it drops others or fails on them.
        one_threshold: whether a population has a single threshold.
        reset: the settings that make its neuron reset by subtraction.
        depth_first: whether it runs a join before the shortcut unless the order is set.
        potentials: where to set v_init, for a file without a relay.
        fires: "u > v_threshold" or "u >= v_threshold".
    """

    version: str
    load: str
    holds: frozenset[str]
    one_threshold: bool = False
    reset: str
    depth_first: bool = False
    potentials: str
    fires: str


READERS: dict[str, Reader] = {
    "snntorch": Reader(
        version="snnTorch 1.0.0",
        load="snntorch.import_nir.import_from_nir(nir.read(path))",
        holds=_IMAGES | {"AvgPool2d"},
        one_threshold=True,
        reset="each Leaky: beta = 1, init_hidden = True, reset_delay = True",
        potentials="each Leaky: mem = v_init for every sample of the batch",
        fires="u > v_threshold",
    ),
    "spikingjelly": Reader(
        version="SpikingJelly 2.0.0",
        load="import_from_nir(path, dt=1.0)",
        holds=_IMAGES | {"AvgPool2d", "Conv1d"},
        one_threshold=True,
        reset="each IFNode: v_reset = None",
        potentials="each IFNode: v = v_init for every sample of the batch",
        fires="u >= v_threshold",
    ),
    "norse": Reader(
        version="norse 1.1.0",
        load="norse.torch.from_nir(nir.read(path))",
        holds=_IMAGES,
        reset="each IAFCell: an activation that subtracts v_th where norse's sets v_reset",
        depth_first=True,
        potentials="a GraphExecutorState with v = v_init for each IAFCell",
        fires="u > v_threshold",
    ),
    "sinabs": Reader(
        version="sinabs 3.1.3",
        load="sinabs.nir.from_nir(nir.read(path), num_timesteps=T)",
        holds=_IMAGES - {"Linear"} | {"SumPool2d"},
        reset="each IAFSqueeze: spike_fn = SingleSpike, min_v_mem = None",
        depth_first=True,
        potentials="each IAFSqueeze: v_mem = v_init for every sample of the batch",
        fires="u >= v_threshold",
    ),
    "nirtorch": Reader(
        version="nirtorch 2.6",
        load="nirtorch.nir_to_torch(path, node_map)",
        holds=_IMAGES | {"AvgPool2d"},
        reset="node_map: an IF module of your own; nir.Affine as torch.nn.Linear with its bias",
        potentials="the IF module starts at v_init",
        fires="as the IF module says",
    ),
}
"""By name. The modules of `icsnn_deploy.readers` apply these settings; tests compare both."""


def find_reader(name: str) -> Reader:
    """The reader of that name; raises ExportError, which lists them."""
    if name == "spinnaker2":
        raise ExportError(
            "spinnaker2: py-spinnaker2's importer needs another form; export the format spinnaker2"
        )
    if name not in READERS:
        raise ExportError(f"no NIR reader {name!r} is known; there are {', '.join(READERS)}")
    return READERS[name]


def require_held(graph: Graph, name: str) -> None:
    """Check that a reader can run the portable form of a network.

    Raises:
        ExportError: an unknown reader, no portable form, or lists what the reader does not support.
    """
    reader = find_reader(name)
    rejections = [
        Rejection(
            node=node.name,
            got=kind,
            allowed=", ".join(sorted(reader.holds)),
            remedy=_remedy(kind),
        )
        for node in to_portable(graph).graph.nodes
        for kind in _kinds(node)
        if kind not in reader.holds
    ]
    if rejections:
        raise ExportError(rejection_table(f"{reader.version} can't run this network", rejections))


def needs(name: str, path: str, graph: Graph, v_init_encoding: VInitEncoding) -> list[str]:
    """The steps that a reader needs after loading a file, one sentence each.

    Args:
        name: a name of READERS.
        path: of the file.
        graph: the exported network.
        v_init_encoding: of the file.
    """
    reader = find_reader(name)
    lines = [
        f"{reader.version}: {reader.load}; then",
        f"reset: {reader.reset}",
    ]
    form = to_portable(graph)
    if v_init_encoding == "relay":
        form = relayed(form)
    if reader.depth_first and form.graph.nodes_of(Add):
        lines.append("joins: set its execution_order to a topological one")
    if v_init_encoding == "relay":
        timed = ", timed=True" if graph.input.is_timed else ""
        lines.append(
            "input: icsnn_deploy.exporters.nir.portable.relay.relay_inputs"
            f"(x, {graph.steps}{timed}), one step after the other; potentials start at 0"
        )
    else:
        lines.append(f"potentials: {reader.potentials}; v_init is metadata[{V_INIT!r}] of the node")
    lines.append(f"time: dt = 1, {graph.steps} steps; logits are the mean of the output over steps")
    if graph.readout_start:
        lines[-1] += f" {graph.readout_start + 1} to {graph.steps}"
    if reader.fires == "u > v_threshold" and not graph.is_integer:
        lines.append(f"ties: it fires at {reader.fires}: of a float network they may differ")
    lines.append(f"or all of this: icsnn_deploy.readers.{name}.load({path!r})")
    return lines


def _kinds(node: Node) -> Iterator[str]:
    """The type of the NIR node that a node of a portable network becomes; sums become none."""
    match node:
        case Conv():
            yield f"Conv{len(node.kernel)}d"
        case Linear():
            yield "Affine"
        case Input() | Population() | Flatten() | Output():
            yield type(node).__name__
        case Add() | AvgPool() | ChannelAffine() | Relu():
            return
        case _:
            assert_never(node)


def _remedy(kind: str) -> str:
    if kind == "Conv1d":
        return "Write the signal as an image of height 1, or choose another reader."
    return "Choose another reader."
