"""The file of a modelled cost: read as it was written, and nothing else is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.cost_record import check_cost_path, costs_of, read_cost, write_cost
from tests.support.costs import some_cost
from tests.support.evaluating import build

COST = some_cost("0" * 64)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return build(tmp_path / "bundle")


def test_a_cost_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_cost(COST, tmp_path / "cost.json")
    assert read_cost(tmp_path / "cost.json") == COST
    written = json.loads((tmp_path / "cost.json").read_text())
    assert written == json.loads(json.dumps(COST.to_json()))
    assert "not a measurement" in written["source"]


def of_placement(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["placements"][0].update(changes)

    return change


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        del content[name]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("format"), "no icsnn-cost file of version 1"),
        (lambda c: c.update(version=2), "no icsnn-cost file of version 1"),
        (without("images"), "images"),
        (lambda c: c.update(more=1), "unknown field 'more'"),
        (lambda c: c.update(placements=[]), "no placement"),
        (of_placement(seconds=float("nan")), "negative or infinite"),
        (of_placement(joules=-1.0), "negative or infinite"),
        (of_placement(cores="8"), "ChipCost.placements.cores"),
        (of_placement(energy={"synapse": 1.0}), "energy"),
    ],
)
def test_what_no_cost_has_is_refused_with_the_command(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = json.loads(json.dumps(COST.to_json()))
    change(content)
    path = tmp_path / "cost.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as raised:
        read_cost(path)
    assert f"icsnn cost BUNDLE --out {path}" in str(raised.value)


def test_a_file_that_is_no_json_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cost.json").write_text("{")
    for name in ("cost.json", "none.json"):
        with pytest.raises(DataError, match="icsnn cost BUNDLE"):
            read_cost(tmp_path / name)


def test_a_cost_belongs_to_the_bundle_with_its_network(tmp_path: Path, bundle: Bundle) -> None:
    own = some_cost(bundle.graph_hash)
    write_cost(own, tmp_path / "own.json")
    write_cost(COST, tmp_path / "other.json")
    assert costs_of([bundle], []) == {}
    assert costs_of([bundle], [tmp_path / "own.json"]) == {bundle.graph_hash: own}
    with pytest.raises(DataError, match=r"cost of network 0000.*icsnn cost .*bundle --out"):
        costs_of([bundle], [tmp_path / "other.json"])
    write_cost(replace(own, images=3), tmp_path / "again.json")
    with pytest.raises(DataError, match="second cost"):
        costs_of([bundle], [tmp_path / "own.json", tmp_path / "again.json"])


def test_a_place_that_can_not_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    check_cost_path(tmp_path / "cost.json")
    for path in (tmp_path, tmp_path / "none" / "cost.json"):
        with pytest.raises(DataError, match="in a folder that exists"):
            check_cost_path(path)
