"""Speck: sinabs writes the configuration that we write, and maps layers to cores as we do."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.speck.program import first_difference
from icsnn_deploy.readers.environment import find_environment
from icsnn_deploy.readers.speck import compare_with_sinabs
from icsnn_deploy.targets.matching import match
from tests.support.speck_graphs import KINDS, speck_network

ROOT = Path(__file__).parents[2]
SEQUENTIAL = ("conv", "strided", "pooled", "linear")


def in_sinabs(*arguments: str) -> Any:
    script = ROOT / "tests" / "foreign" / "speck_mapping.py"
    done = subprocess.run(
        [find_environment("sinabs").python, script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_sinabs_writes_what_we_write_of_two_networks_of_each_kind(tmp_path: Path) -> None:
    folders = []
    for kind in KINDS:
        for seed in (1, 2):
            folders.append(tmp_path / f"{kind}-{seed}")
            export(speck_network(kind, seed), folders[-1], "speck")
    found = compare_with_sinabs(*folders)
    for folder, each in zip(folders, found, strict=True):
        own = json.loads((folder / "network.json").read_bytes())["layers"]
        assert each.cores == len(own)
        assert each.mapping == tuple(layer["core"] for layer in own), folder.name
    assert sum(each.values for each in found) > 10_000


def test_sinabs_own_network_of_the_same_layers_gives_the_same_configuration(
    tmp_path: Path,
) -> None:
    folders = []
    for kind in SEQUENTIAL:
        folders.append(tmp_path / kind)
        export(speck_network(kind, seed=3), folders[-1], "speck")
    found = in_sinabs(*(str(folder / "network.json") for folder in folders))
    for folder, cores in zip(folders, found, strict=True):
        expected = json.loads((folder / "speck.json").read_bytes())["cores"]
        for core in expected:
            for destination in core["destinations"]:
                assert destination.pop("feature_shift") == 0
        assert first_difference(expected, cores) is None, folder.name


def test_a_changed_configuration_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export(speck_network("conv", seed=1), folder, "speck")
    speck = json.loads((folder / "speck.json").read_bytes())
    speck["cores"][1]["weights"][0][0][0][0] = 99
    (folder / "speck.json").write_text(json.dumps(speck))
    with pytest.raises(ExportError, match=r"sinabs 3.1.3 writes another.*cores\[1\].weights\[0\]"):
        compare_with_sinabs(folder)


def test_mappings_of_300_random_sets_of_layers_agree(tmp_path: Path) -> None:
    rng = random.Random(1)
    sets = [
        [
            sorted(rng.sample(range(9), rng.choice((1, 1, 2, 3, 5, 9))))
            for _ in range(rng.randint(1, 9))
        ]
        for _ in range(300)
    ]
    file = tmp_path / "sets.json"
    file.write_text(json.dumps(sets))
    found = in_sinabs("--mappings", str(file))
    ours = [match(each) for each in sets]
    assert 50 < sum(matching.complete for matching in ours) < 290
    for each, matching, cores in zip(sets, ours, found, strict=True):
        assert matching.complete == (cores is not None), each
        if cores is not None:
            assert len(set(cores)) == len(cores)
            assert all(core in fits for core, fits in zip(cores, each, strict=True))
