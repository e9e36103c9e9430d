"""More outputs on an exported model, in memory, to see what happens inside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from icsnn_deploy.exporters.onnx_read import parse


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A tensor inside the model to be handed out: spikes ("s") as uint8, potentials ("u")."""

    tensor: str
    role: str

    @property
    def output(self) -> str:
        return f"{self.tensor}/tap" if self.role == "s" else self.tensor


def with_taps(data: bytes, taps: Iterable[Tap]) -> bytes:
    """The serialized model with an output for each tap."""
    from onnx import TensorProto, helper

    model = parse(data)
    for tap in sorted(taps, key=lambda tap: tap.tensor):
        if tap.role == "s":
            # float32 would take four times the memory for all steps together.
            cast = helper.make_node("Cast", [tap.tensor], [tap.output], to=TensorProto.UINT8)
            model.graph.node.append(cast)
        element = TensorProto.UINT8 if tap.role == "s" else TensorProto.FLOAT
        model.graph.output.append(helper.make_tensor_value_info(tap.output, element, None))
    return bytes(model.SerializeToString())
