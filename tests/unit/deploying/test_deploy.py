"""icsnn deploy: what it writes for each target, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.copy_bundle import copy_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.deploying import deploy as deploying
from icsnn_deploy.deploying import referees
from icsnn_deploy.deploying.deploy import deploy
from icsnn_deploy.deploying.plans import PLANS, plan_for
from icsnn_deploy.errors import (
    BackendUnavailableError,
    BundleError,
    ExportError,
    GraphError,
    SimulationError,
    TargetError,
)
from icsnn_deploy.exporters import export_into
from icsnn_deploy.exporters.formats import FORMATS
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.readers.speck import SinabsConfiguration
from icsnn_deploy.targets import TARGETS
from tests.support.evaluating import build
from tests.support.graphs import residual_network, samples
from tests.support.speck_graphs import speck_network, spikes_for

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"
FOUND = SinabsConfiguration(version="3.1.3", cores=3, values=12, mapping=(0, 1, 2))


def bundle_of(path: Path, graph: Graph) -> Path:
    x = spikes_for(graph, 3, seed=1)
    create_bundle(path, network=graph, ann=None, samples=x, report={"recipe": "none"})
    return path


@pytest.fixture(autouse=True)
def with_sinabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referees, "compare_with_sinabs", lambda folder: [FOUND])


def test_every_target_has_a_plan_of_known_formats() -> None:
    assert list(PLANS) == list(TARGETS)
    for plan in PLANS.values():
        assert set(plan.formats) <= set(FORMATS)
        assert plan.not_proven
        assert plan.next_steps
    with pytest.raises(TargetError, match=r"no way to deploy to 'abacus'.*speck"):
        plan_for("abacus")


@pytest.mark.parametrize("target", TARGETS)
def test_one_page_leads_to_each_target_and_says_what_is_not_proven(target: str) -> None:
    command = re.compile(rf"^icsnn deploy build/mynet --target {target} ", re.MULTILINE)
    texts = [page.read_text() for page in HOW_TO.glob("*.md")]
    (found,) = (text for text in texts if command.search(text))
    assert "Not proven here: " in found


def test_spikes_to_speck(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b", speck_network("join", seed=1))
    done = CliRunner().invoke(
        app, ["deploy", str(bundle), "--target", "speck", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "README.md").read_text()
    assert "sinabs 3.1.3 writes the same configuration: 3 cores, 12 weights" in page
    assert "python network/network-speck/configure.py --check --validate" in page
    assert "No chip ran" in page
    assert (tmp_path / "out" / "network" / "network-speck" / "speck.json").is_file()
    assert not (tmp_path / "out" / "split").exists()
    steps = json.loads((tmp_path / "out" / "deploy.json").read_bytes())["steps"]
    assert [step["name"] for step in steps] == ["quantize", "check", "export", "sinabs", "events"]


def test_a_float_network_is_quantized_and_split_for_speck(tmp_path: Path) -> None:
    network = residual_network()
    opened = build(tmp_path / "b", network)
    with pytest.raises(TargetError, match=r"a float network; pass --calibration"):
        deploy(opened, "speck", tmp_path / "out", progress=None)
    found = deploy(opened, "speck", tmp_path / "out", samples(network, 32), progress=None)
    assert found.bundle == "split/chip"
    assert found.ok
    chip = open_bundle(tmp_path / "out" / "split" / "chip")
    chip.check_files()
    assert chip.network().input.is_timed
    assert "speck" in chip.exports
    names = [step.name for step in found.steps]
    assert names == ["quantize", "check", "split", "export", "sinabs", "events"]


@pytest.mark.parametrize("target", ["loihi1", "loihi2", "spinnaker2"])
def test_a_float_network_is_quantized_so_that_the_files_hold_it(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its channels have thresholds of their own, and initial potentials beyond int8."""
    missing = BackendUnavailableError("not here")
    monkeypatch.setattr(referees, "verify", Mock(side_effect=missing))
    network = residual_network()
    opened = build(tmp_path / "b", network)
    found = deploy(opened, target, tmp_path / "out", samples(network, 32), progress=None)
    exported = open_bundle(tmp_path / "out" / found.bundle)
    assert set(exported.exports) == set(PLANS[target].formats)
    exported.check_files()


def test_a_referee_that_is_missing_fails_or_differs_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(bundle_of(tmp_path / "b", speck_network("conv", seed=1)))
    for error, ok, ran in (
        (BackendUnavailableError("sinabs: run icsnn readers setup"), True, False),
        (ExportError("sinabs writes another configuration"), False, True),
        (GraphError("p0: hard reset, which it does not have"), True, False),
        (SimulationError("the worker was killed"), False, True),
    ):

        def fails(folder: Path, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(referees, "compare_with_sinabs", fails)
        found = deploy(bundle, "speck", tmp_path / "out", overwrite=True, progress=None)
        (step,) = (step for step in found.steps if step.name == "sinabs")
        assert (step.ok, step.ran) == (ok, ran)
        assert found.ok == ok
        assert str(error) in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("referee", ["verify", "EventDrivenSimulator"])
def test_no_referee_that_fails_takes_the_deployment_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, referee: str
) -> None:
    bundle = open_bundle(bundle_of(tmp_path / "b", speck_network("conv", seed=1)))
    target = {"verify": "generic", "EventDrivenSimulator": "speck"}[referee]
    monkeypatch.setattr(referees, referee, Mock(side_effect=SimulationError("fires 300 times")))
    found = deploy(bundle, target, tmp_path / "out", progress=None)
    failed = {step.name: step.outcome for step in found.steps if not step.ok}
    names = PLANS["generic"].backends if referee == "verify" else ("events",)
    assert failed == dict.fromkeys(names, "failed: fires 300 times")


def test_nothing_is_written_where_the_network_does_not_fit(tmp_path: Path) -> None:
    graph = speck_network("conv", seed=1)
    wide = graph.replace(
        *(
            type(node)(**{**vars(node), "v_threshold": np.full_like(node.v_threshold, 2**20)})
            for node in [graph.population("p0")]
        )
    )
    bundle = open_bundle(bundle_of(tmp_path / "b", wide))
    with pytest.raises(TargetError, match=r"does not fit speck.*\n.*p0: threshold width"):
        deploy(bundle, "speck", tmp_path / "out", progress=None)
    assert not (tmp_path / "out").exists()


def test_only_a_deployment_is_overwritten(tmp_path: Path) -> None:
    bundle = open_bundle(bundle_of(tmp_path / "b", speck_network("conv", seed=1)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(BundleError, match="exists already"):
        deploy(bundle, "speck", tmp_path / "out", progress=None)
    with pytest.raises(BundleError, match="not written by icsnn deploy"):
        deploy(bundle, "speck", tmp_path / "out", overwrite=True, progress=None)
    assert (tmp_path / "out" / "mine").exists()


def test_samples_that_are_missing_or_of_no_use_are_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = speck_network("conv", seed=1)
    with_samples = open_bundle(bundle_of(tmp_path / "b", graph))
    without = create_bundle(tmp_path / "n", network=graph, ann=None, samples=None, report={})
    monkeypatch.setattr(deploying, "copy_bundle", Mock(side_effect=AssertionError("too late")))
    with pytest.raises(BundleError, match=rf"{without.path}: holds no samples.*import --samples"):
        deploy(without, "generic", tmp_path / "out", progress=None)
    x = spikes_for(graph, 3, seed=1)
    with pytest.raises(TargetError, match=rf"{with_samples.path}: an integer network.*leave --cal"):
        deploy(with_samples, "generic", tmp_path / "out", x, progress=None)
    assert not (tmp_path / "out").exists()


def test_files_that_the_manifest_does_not_list_are_left_behind(tmp_path: Path) -> None:
    """Such as the object files of `make test` in an exported C program."""
    graph = speck_network("conv", seed=1, layers=1)
    bundle = export_into(open_bundle(bundle_of(tmp_path / "b", graph)), "c", progress=None)
    for mine in ("network-c/network.o", "notes.txt"):
        (bundle.path / mine).write_bytes(b"mine")
    copied = copy_bundle(bundle, tmp_path / "copy")
    copied.check_files()
    assert copied.manifest == bundle.manifest
    found = {p.relative_to(copied.path).as_posix() for p in copied.path.rglob("*") if p.is_file()}
    assert found == {*bundle.manifest.files, "manifest.json"}


def test_generic_runs_every_export(tmp_path: Path) -> None:
    """The object files of an earlier `make test` are not in the way."""
    bundle = open_bundle(bundle_of(tmp_path / "b", speck_network("pooled", seed=1)))
    bundle = export_into(bundle, "c", progress=None)
    (bundle.path / "network-c" / "network.o").write_bytes(b"")
    found = deploy(bundle, "generic", tmp_path / "out", progress=None)
    outcomes = {step.name: step.outcome for step in found.steps}
    for backend in PLANS["generic"].backends:
        assert outcomes[backend].startswith("0 of "), outcomes[backend]
    assert found.ok
