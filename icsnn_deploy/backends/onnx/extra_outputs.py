"""Add outputs to an exported model, in memory, to record its spikes and potentials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icsnn_deploy.exporters.onnx.contract import tensor_name
from icsnn_deploy.exporters.onnx.metadata import OnnxMetadata
from icsnn_deploy.exporters.onnx.read import parse

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A tensor inside the model that becomes an output: spikes ("s") as uint8, potentials ("u")."""

    tensor: str
    role: str
    scanned: bool = False  # inside a Scan's body: the output is stacked over time

    @property
    def output(self) -> str:
        return f"{self.tensor}/tap" if self.role == "s" or self.scanned else self.tensor


def taps_of(metadata: OnnxMetadata, population: str, role: str) -> list[Tap]:
    """The taps that hold a population's spikes or potentials: one in all, or one per step."""
    layout = metadata.layout
    if layout == "step":
        return [Tap(tensor=tensor_name(population, role), role=role)]
    if layout == "scan" and role == "u":
        return [Tap(tensor=tensor_name(population, role, "t"), role=role, scanned=True)]
    if layout in ("folded", "scan") and role == "s":
        return [Tap(tensor=tensor_name(population, role), role=role)]
    steps = range(1, metadata.time_steps + 1)
    return [Tap(tensor=tensor_name(population, role, step), role=role) for step in steps]


def with_taps(data: bytes, taps: Iterable[Tap]) -> bytes:
    """The serialized model with an output for each tap."""
    from onnx import TensorProto, helper

    model = parse(data)
    for tap in sorted(taps, key=lambda tap: tap.tensor):
        if tap.scanned:
            _add_scan_output(model, tap)
        elif tap.role == "s":
            # float32 would take four times the memory for all steps together.
            cast = helper.make_node("Cast", [tap.tensor], [tap.output], to=TensorProto.UINT8)
            model.graph.node.append(cast)
        element = TensorProto.UINT8 if tap.role == "s" else TensorProto.FLOAT
        model.graph.output.append(helper.make_tensor_value_info(tap.output, element, None))
    return bytes(model.SerializeToString())


def _add_scan_output(model: onnx.ModelProto, tap: Tap) -> None:
    """Add a scan output for a tensor to the Scan whose body computes it."""
    from onnx import TensorProto, helper

    for node in model.graph.node:
        body = node.attribute[0].g if node.op_type == "Scan" else None
        if body is not None and any(tap.tensor in inner.output for inner in body.node):
            body.output.append(helper.make_tensor_value_info(tap.tensor, TensorProto.FLOAT, None))
            node.output.append(tap.output)
