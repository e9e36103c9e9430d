"""NIR files through a reader's own import, as its manual has it; runs in the reader's environment.

    python benchmarks/plain_import.py JOBS.json

A job names `reader`, `file`, `inputs` (.npy [T, B, *shape], what enters at each step), `out` and
`reset`. `out` becomes an .npz of the module's output ("") and of what each IF node sent, by its
name in the file, all [T, B, ...]; where the import or the run fails, `out`.error says how.
`reset` makes the reader's neuron the one with soft reset, and changes nothing else: no initial
potentials, no order of execution.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch


def snntorch(file: str, steps: int) -> Any:
    from snntorch.import_nir import import_from_nir

    return import_from_nir(nir.read(file))


def reset_snntorch(module: Any) -> None:
    import snntorch

    for leaky in module.modules():
        if isinstance(leaky, snntorch.Leaky):
            leaky.beta = torch.ones(())
            leaky.init_hidden = leaky.reset_delay = True


def spikingjelly(file: str, steps: int) -> Any:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(file)


def reset_spikingjelly(module: Any) -> None:
    from spikingjelly.activation_based.neuron import IFNode

    for node in module.modules():
        if isinstance(node, IFNode):
            node.v_reset = None


def norse(file: str, steps: int) -> Any:
    import norse.torch

    return norse.torch.from_nir(nir.read(file))


def reset_norse(module: Any) -> None:
    from norse.torch import IAFCell
    from norse.torch.functional.iaf import IAFFeedForwardState
    from norse.torch.functional.threshold import threshold

    def soft(x: Any, state: Any, p: Any, dt: float) -> Any:
        v = state.v + x
        spikes = threshold(v - p.v_th, p.method, p.alpha)
        return spikes, IAFFeedForwardState(v - spikes * p.v_th)

    for cell in module.modules():
        if isinstance(cell, IAFCell):
            cell.activation = soft


def sinabs(file: str, steps: int) -> Any:
    import sinabs.nir

    return sinabs.nir.from_nir(nir.read(file), num_timesteps=steps)


def reset_sinabs(module: Any) -> None:
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAFSqueeze

    for layer in module.modules():
        if isinstance(layer, IAFSqueeze):
            layer.spike_fn, layer.min_v_mem = SingleSpike, None


def nirtorch(file: str, steps: int) -> Any:
    import nirtorch

    return nirtorch.nir_to_torch(file, {})


IMPORTS: dict[str, Callable[[str, int], Any]] = {
    f.__name__: f for f in (snntorch, spikingjelly, norse, sinabs, nirtorch)
}


def import_plainly(reader: str, file: str, steps: int) -> Any:
    """The reader's module as it comes."""
    return IMPORTS[reader](file, steps)


def import_with_reset(reader: str, file: str, steps: int) -> Any:
    """The reader's module with soft reset; two of them take it as they import."""
    if reader == "nirtorch":
        import nirtorch

        return nirtorch.nir_to_torch(file, {nir.IF: SoftIF, nir.Affine: _affine})
    if reader == "spikingjelly":
        from spikingjelly.activation_based.nir_exchange import import_from_nir

        module = import_from_nir(file, dt=1.0)  # r = 1 / dt
    else:
        module = IMPORTS[reader](file, steps)
    globals()[f"reset_{reader}"](module)
    return module


class SoftIF(torch.nn.Module):
    """nirtorch has no neuron."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.v_threshold = torch.from_numpy(node.v_threshold)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> Any:
        v = x if state is None else state + x
        spikes = (v >= self.v_threshold).float()
        return spikes, v - spikes * self.v_threshold


def _affine(node: Any) -> Any:
    """nirtorch's own leaves a random bias."""
    module = torch.nn.Linear(node.weight.shape[1], node.weight.shape[0])
    module.weight.data, module.bias.data = map(torch.from_numpy, (node.weight, node.bias))
    return module


def run(reader: str, module: Any, keys: list[str], x: torch.Tensor) -> dict[str, Any]:
    """Output and spikes at each step, [T, B, ...]."""
    steps, batch = x.shape[:2]
    sent: dict[str, list[torch.Tensor]] = {key: [] for key in keys}

    def keep(key: str) -> Any:
        return lambda _, given, result: sent[key].append(
            result[0] if isinstance(result, tuple) else result
        )

    for key in keys:
        getattr(module, key).register_forward_hook(keep(key))
    if reader == "sinabs":  # all steps at once
        result, _ = module(x.transpose(0, 1).flatten(0, 1))
        found = {"": result, **{key: values[0] for key, values in sent.items()}}
        return {
            k: v.reshape(batch, steps, *v.shape[1:]).transpose(0, 1).numpy()
            for k, v in found.items()
        }
    results, state = [], None
    for current in x:
        result, state = module(current, state)
        results.append(result)
    found = {"": results, **sent}
    return {key: torch.stack(values).numpy() for key, values in found.items()}


def answer(job: dict[str, Any]) -> None:
    """Do one job; an error is an answer."""
    reader, file, out = job["reader"], job["file"], Path(job["out"])
    x = torch.from_numpy(np.load(job["inputs"]))
    keys = [key for key, node in nir.read(file).nodes.items() if isinstance(node, nir.IF)]
    try:
        load = import_with_reset if job["reset"] else import_plainly
        found = run(reader, load(reader, file, len(x)), keys, x)
    except Exception as error:
        out.with_suffix(".error").write_text(f"{type(error).__name__}: {error}")
    else:
        np.savez(out, **found)


def main() -> None:
    with torch.no_grad():
        for job in json.loads(Path(sys.argv[1]).read_text()):
            answer(job)


if __name__ == "__main__":
    main()
