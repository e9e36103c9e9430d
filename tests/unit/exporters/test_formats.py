"""The table of export formats: options belong to their format, everything named is there."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

import pytest

from icsnn_deploy.errors import ExportError, LossyExportError
from icsnn_deploy.exporters import FORMATS, GENERAL, ExportOptions, Format, export, export_into
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.exporters.formats import plan_exports
from icsnn_deploy.exporters.nir.formats import VARIANTS, NirOptions
from icsnn_deploy.exporters.onnx.contract import OnnxOptions
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.graph.graph import Graph
from tests.support.evaluating import build
from tests.support.graphs import residual_network


@pytest.mark.parametrize("name", FORMATS)
def test_every_entry_names_options_with_defaults(name: str) -> None:
    kind = FORMATS[name].options_type()
    expected = {
        "onnx": OnnxOptions,
        "onnx-step": OnnxOptions,
        "netx": None,
        "golden": None,
        "speck": None,
        "spinnaker2": None,
        "c": COptions,
        "systemverilog": VectorOptions,
        "testvectors": VectorOptions,
    }
    assert kind is expected.get(name, NirOptions)
    assert kind is None or kind() == kind()


def test_files_have_names_of_their_own() -> None:
    assert len({entry.file for entry in FORMATS.values()}) == len(FORMATS)
    assert GENERAL == ("nir", "onnx", "onnx-step")
    assert set(VARIANTS) == {n for n, e in FORMATS.items() if e.options_type() is NirOptions}


@pytest.mark.parametrize(
    ("name", "options", "takers"),
    [
        ("nir", OnnxOptions(), "OnnxOptions belongs to onnx or onnx-step, not to nir"),
        ("netx", OnnxOptions(), "OnnxOptions belongs to onnx or onnx-step, not to netx"),
        ("onnx", NirOptions(), "NirOptions belongs to nir or nir-portable or nir-relay, not to on"),
        ("onnx", ExportOptions(), "ExportOptions belongs to no format"),
    ],
)
def test_options_of_another_format_are_refused(
    tmp_path: Path, name: str, options: ExportOptions, takers: str
) -> None:
    with pytest.raises(ExportError, match=takers):
        export(residual_network(), tmp_path / "x", name, options)
    assert list(tmp_path.iterdir()) == []


def test_formats_of_one_family_share_their_options(tmp_path: Path) -> None:
    bundle = build(tmp_path / "b", residual_network())
    options = [OnnxOptions(layout="scan", raw_spikes=True), NirOptions(v_init_encoding="relay")]
    bundle = export_into(bundle, "nir", "onnx", "onnx-step", options=options)
    assert set(bundle.exports) == {"nir-relay", "onnx", "onnx-step"}
    assert read(bundle.export("onnx")).metadata.layout == "scan"
    assert read(bundle.export("onnx-step")).metadata.layout == "step"


def test_two_objects_of_one_class_are_refused() -> None:
    given = (OnnxOptions(), OnnxOptions(layout="scan"))
    with pytest.raises(ExportError, match="two objects of OnnxOptions"):
        plan_exports(("onnx", "onnx-step"), given)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (NirOptions(), "nir"),
        (NirOptions(profile="spec"), "nir"),
        (NirOptions(profile="portable"), "nir-portable"),
        (NirOptions(for_reader="norse"), "nir-portable"),
        (NirOptions(v_init_encoding="relay"), "nir-relay"),
        (NirOptions(profile="portable", v_init_encoding="relay", for_reader="norse"), "nir-relay"),
    ],
)
def test_nir_options_select_a_format(options: NirOptions, name: str) -> None:
    (task,) = plan_exports(("nir",), (options,))
    assert (task.name, task.entry) == (name, FORMATS[name])
    for other in ("nir-portable", "nir-relay"):
        assert plan_exports((other,), (options,))[0].name == other


def test_a_nir_file_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ExportError, match="no NIR with profile spec and v_init_encoding relay"):
        plan_exports(("nir",), (NirOptions(profile="spec", v_init_encoding="relay"),))


# A format of another origin


@dataclass(frozen=True, kw_only=True)
class ToyOptions(ExportOptions):
    greeting: str = "hello"


def toy_write(graph: Graph, path: Path, options: ToyOptions) -> None:
    path.write_text(f"{options.greeting} {graph.hash()}")


def toy_losses(graph: Graph) -> tuple[str, ...]:
    return ("everything",)


def test_a_format_is_an_entry_and_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("icsnn_deploy.exporters.toy")
    module.__dict__.update(write=toy_write, losses=toy_losses, ToyOptions=ToyOptions)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    place = "exporters.toy"
    entry = Format(
        file="network.toy",
        writer=f"{place}:write",
        about="a toy",
        options=f"{place}:ToyOptions",
        losses=f"{place}:losses",
    )
    monkeypatch.setitem(FORMATS, "toy", entry)
    graph, path = residual_network(), tmp_path / "x"
    with pytest.raises(LossyExportError, match=r"(?s)toy loses meaning.*everything"):
        export(graph, path, "toy")
    export(graph, path, "toy", lossy=True)
    assert path.read_text() == f"hello {graph.hash()}"
    export(graph, path, "toy", ToyOptions(greeting="hi"), lossy=True)
    assert path.read_text() == f"hi {graph.hash()}"
    assert [field.name for field in fields(ToyOptions)] == ["greeting"]
