"""What portable and relay files hold, what is refused, and what is not believed when read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.portable import find_unportable as nir_limits
from icsnn_deploy.exporters.nir.portable.portable import to_portable
from icsnn_deploy.exporters.nir.write.file import to_nir, write
from icsnn_deploy.graph.nodes import (
    IF,
    AvgPool,
    ChannelAffine,
    Conv,
    Linear,
)
from tests.support.building import node_of
from tests.support.graphs import (
    conv,
    dyadic,
    residual_network,
    samples,
    sequential_network,
    with_hard_reset,
)
from tests.support.portable import header, network, population, same

RNG = np.random.default_rng(11)


LEGACY = {
    "Affine": {"weight", "bias", "metadata"},
    "Conv2d": {"input_shape", "weight", "stride", "padding", "dilation", "groups", "bias"},
    "Flatten": {"start_dim", "end_dim", "input_type", "metadata"},
    "IF": {"r", "v_threshold", "metadata"},
    "Input": {"shape"},
    "Output": {"shape"},
}
"""The data sets that nir 1.0.4 can read of each node; with any other it fails."""


@pytest.mark.parametrize("export_format", ["nir-portable", "nir-relay"])
def test_only_what_nir_1_0_4_reads(tmp_path: Path, export_format: str) -> None:
    for graph in (residual_network(), sequential_network()):
        export(graph, tmp_path / "x.nir", export_format)
        with h5py.File(tmp_path / "x.nir") as file:
            for node in file["node/nodes"].values():
                kind = node["type"][()].decode()
                assert set(node) - {"type"} <= LEGACY[kind], kind


@pytest.mark.parametrize("encoding", ["metadata", "relay"])
def test_two_writes_give_the_same_bytes(tmp_path: Path, encoding: Any) -> None:
    for name in ("a.nir", "b.nir"):
        write(residual_network(), tmp_path / name, "portable", encoding)
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
    assert nir.read(tmp_path / "a.nir", type_check=True)


def test_the_header_says_profile_and_encoding(tmp_path: Path) -> None:
    graph = residual_network()
    for name, profile, encoding in [
        ("nir", "spec", "metadata"),
        ("nir-portable", "portable", "metadata"),
        ("nir-relay", "portable", "relay"),
    ]:
        export(graph, tmp_path / name, name)
        said = header(tmp_path / name)
        assert (said["profile"], said["v_init_encoding"]) == (profile, encoding)
        assert said["graph_hash"] == graph.hash()
        assert any("initial potentials" in loss for loss in said["losses"]) == (
            encoding == "metadata"
        )


def test_float_networks_come_out_alike(tmp_path: Path) -> None:
    for graph in (residual_network(), sequential_network()):
        for encoding in ("nir-portable", "nir-relay"):
            export(graph, tmp_path / "x.nir", encoding)
            same(graph, tmp_path / "x.nir", samples(graph, 3))


def test_losses_of_a_float_network_are_said(tmp_path: Path) -> None:
    graph = sequential_network()
    thirds = replace(node_of(graph, "pool2", AvgPool), kernel=(1, 3), stride=(1, 1))
    head = replace(node_of(graph, "fc", Linear), weight=dyadic(RNG, 12, 24))
    write(graph.replace(thirds, head), tmp_path / "x.nir", "portable")
    losses = " ".join(header(tmp_path / "x.nir")["losses"])
    assert "pool2: the mean over 3" in losses
    assert "if1: folding its thresholds" in losses
    rewritten = " ".join(header(tmp_path / "x.nir")["rewritten"])
    for words in ("pool1: average pooling", "conv2: 2 groups -> dense", "if1: thresholds folded"):
        assert words in rewritten


def test_thresholds_powers_of_two_apart_fold_without_a_loss(tmp_path: Path) -> None:
    thresholds = np.array([3, 12], np.int32).reshape(2, 1, 1)
    layer = Conv(
        name="c",
        inputs=("x",),
        weight=RNG.integers(-3, 4, (2, 2, 3, 3)).astype(np.int8),
        bias=np.array([1, -1], np.int8),
        stride=(1, 1),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
    )
    graph = network(
        layer, population("p", "c", thresholds, [[[1.5]], [[2.5]]]), shape=(2, 4, 4), dtype="uint8"
    )
    form = to_portable(graph)
    assert form.losses == ()
    folded = form.graph.node("p")
    assert isinstance(folded, IF)
    assert np.unique(folded.v_threshold).tolist() == [12]
    assert folded.v_init.ravel().tolist() == [6, 2.5]
    np.testing.assert_array_equal(form.graph.node("c").arrays()["weight"][0], 4 * layer.weight[0])


def test_an_integer_v_init_moves_between_the_integers() -> None:
    weight = np.ones((2, 2, 1, 1), np.int8)
    layer = replace(conv("c", "x", RNG, (2, 2), (1, 1), padding=0), weight=weight)
    layer = replace(layer, bias=np.zeros(2, np.int8))
    threshold = np.full((1, 1, 1), 5, np.int8)
    graph = network(layer, population("p", "c", threshold, [[[2]]]), dtype="uint8")
    form = to_portable(graph).graph.node("p")
    assert isinstance(form, IF)
    assert form.v_init.ravel().tolist() == [2.5]
    real = network(layer, population("p", "c", threshold, [[[2]]]), dtype="float32")
    kept = to_portable(real).graph.node("p")
    assert isinstance(kept, IF)
    assert kept.v_init.ravel().tolist() == [2]


def test_the_main_path_comes_first(tmp_path: Path) -> None:
    graph = residual_network()
    block = replace(graph.node("block.add"), inputs=("block.shortcut", "block.conv2"))
    nodes = [block if node.name == block.name else node for node in graph.nodes]
    position = next(i for i, node in enumerate(nodes) if node.name == "block.shortcut")
    nodes.insert(3, nodes.pop(position))  # before block.conv1
    edges = to_nir(graph.with_nodes(nodes), "portable").edges
    assert [a for a, b in edges if b == "block_if2"] == ["block_conv2", "block_shortcut"]
    assert [b for a, b in edges if a == "stem_if"] == ["block_conv1", "block_shortcut"]


def test_everything_without_a_portable_form_is_told_at_once(tmp_path: Path) -> None:
    varied = np.arange(1, 33, dtype=np.int32).reshape(2, 4, 4)
    one = np.ones((1, 1, 1), np.int8)
    graph = network(
        ChannelAffine(name="s", inputs=("x",), scale=one, shift=varied),
        population("neurons", "s", varied, [[[0.5]]]),
        population("channels", "neurons", np.array([3, 5]).reshape(2, 1, 1), [[[0.5]]]),
        dtype="uint8",
    )
    with pytest.raises(ExportError) as caught:
        export(graph, tmp_path / "x.nir", "nir-portable")
    message = str(caught.value)
    for words in (
        "no portable NIR form",
        "differs in space",
        "thresholds of shape (2, 4, 4)",
        "2 thresholds, 3 to 5",
        "icsnn quantize --per-layer",
    ):
        assert words in message
    assert not list(tmp_path.iterdir())


def test_hard_reset_is_refused() -> None:
    with pytest.raises(ExportError, match="hard reset"):
        to_nir(with_hard_reset(residual_network()), "portable")


def test_a_dense_weight_beyond_sane_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nir_limits, "MAX_WEIGHTS", 63)
    with pytest.raises(ExportError, match="64 weights in dense form"):
        to_portable(
            network(
                AvgPool(
                    name="pool",
                    inputs=("x",),
                    kernel=(4, 4),
                    stride=(4, 4),
                    padding=((0, 0), (0, 0)),
                )
            )
        )
