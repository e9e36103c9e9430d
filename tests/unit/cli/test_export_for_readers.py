"""icsnn export for the NIR readers of other projects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from tests.support.graphs import residual_ann, residual_network, samples


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    graph = residual_network(time_steps=3)
    create_bundle(
        tmp_path / "b", network=graph, ann=residual_ann(), samples=samples(graph, 2), report={}
    )
    return str(tmp_path / "b")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("options", "name", "file"),
    [
        ((), "nir", "network.nir"),
        (("--profile", "spec"), "nir", "network.nir"),
        (("--profile", "portable"), "nir-portable", "network-portable.nir"),
        (("--for", "sinabs"), "nir-portable", "network-portable.nir"),
        (("--v-init-encoding", "relay"), "nir-relay", "network-relay.nir"),
        (("--v-init-encoding", "relay", "--for", "norse"), "nir-relay", "network-relay.nir"),
    ],
)
def test_profile_and_encoding_name_a_format(
    bundle: str, options: tuple[str, ...], name: str, file: str
) -> None:
    result = run("export", bundle, "--format", "nir", "--format", "onnx", *options, "--json")
    assert result.exit_code == 0, result.stderr
    exports = json.loads(result.stdout)["exports"]
    assert set(exports) == {name, "onnx"}
    assert exports[name]["file"] == f"{bundle}/{file}"
    assert ("needs" in exports[name]) == ("--for" in options)
    assert "needs" not in exports["onnx"]
    assert open_bundle(Path(bundle)).export(name).name == file


def test_for_a_reader_its_needs_are_printed(bundle: str) -> None:
    printed = run("export", bundle, "--format", "nir", "--for", "snntorch").stdout
    for words in (
        "nir-portable: ",
        "snnTorch 1.0.0: ",
        "reset: each Leaky: beta = 1",
        "potentials: each Leaky: mem = v_init",
        "time: dt = 1, 3 steps",
        f"icsnn_deploy.readers.snntorch.load('{bundle}/network-portable.nir')",
    ):
        assert words in printed
    shown = run("inspect", bundle).stdout
    assert "nir-portable (network-portable.nir)" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "nir", "--for", "brian"), "no NIR reader 'brian' is known"),
        (
            ("--format", "onnx", "--for", "norse"),
            "go with --format nir or nir-portable",
        ),
        (("--format", "nir", "--profile", "wide"), "'wide' is not one of"),
        (
            ("--format", "nir", "--profile", "spec", "--v-init-encoding", "relay"),
            "no NIR with profile spec and v_init_encoding relay; there are spec with metadata",
        ),
        (
            ("--format", "nir", "--profile", "spec", "--for", "norse"),
            "take nir-portable or nir-relay, not nir",
        ),
    ],
)
def test_options_that_do_not_go_together(
    bundle: str, options: tuple[str, ...], message: str
) -> None:
    before = sorted(path.name for path in Path(bundle).iterdir())
    result = run("export", bundle, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert sorted(path.name for path in Path(bundle).iterdir()) == before


@pytest.mark.parametrize("backend", ["nir-portable", "nir-relay"])
def test_what_was_written_is_verified(bundle: str, backend: str) -> None:
    refused = run("verify", bundle, "--backend", backend)
    assert f"run: icsnn export {bundle} --format {backend}" in refused.stderr
    assert run("export", bundle, "--format", backend).exit_code == 0
    assert run("verify", bundle, "--backend", backend).exit_code == 0
