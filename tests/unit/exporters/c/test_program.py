"""The exported C program compiles strictly, passes its own test and states its memory exactly."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.backends.c_program import CSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.c.memory import memory_of
from icsnn_deploy.exporters.c.names import identifiers
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.exporters.c.parameters import parameters_of
from icsnn_deploy.exporters.c.plan import plan_program
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Output
from tests.support.c_programs import (
    STRICT,
    build,
    compiler,
    compilers,
    program,
    run_golden_test,
)
from tests.support.graphs import residual_network, sequential_network, with_hard_reset
from tests.support.integer_graphs import on_lattice, on_spikes

RESIDUAL = on_lattice(residual_network())
NETWORKS = {
    "residual": RESIDUAL,
    "sequential": on_lattice(sequential_network()),
    "hard reset": on_lattice(with_hard_reset(residual_network())),
    "events": on_spikes(RESIDUAL),
    "32 bits": on_lattice(residual_network(time_steps=16), 16),
}


def wide_network(features: int) -> Graph:
    """Two Linear layers with this many neurons between them."""
    rng = np.random.default_rng(0)
    return Graph(
        nodes=(
            Input(name="x", shape=(4,), dtype="int8"),
            Linear(
                name="fc1",
                inputs=("x",),
                weight=rng.integers(-9, 10, (features, 4)).astype(np.int8),
                bias=np.zeros(features, np.int8),
            ),
            IF(
                name="if1",
                inputs=("fc1",),
                v_threshold=np.ones(1, np.int8),
                v_init=np.full(1, 0.5, np.float32),
            ),
            Linear(
                name="fc2",
                inputs=("if1",),
                weight=rng.integers(-9, 10, (3, features)).astype(np.int8),
                bias=np.ones(3, np.int8),
            ),
            Output(name="y", inputs=("fc2",)),
        ),
        time_steps=3,
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("cc", compilers())
def test_it_compiles_without_a_warning_and_passes_its_test(
    tmp_path: Path, name: str, cc: str
) -> None:
    folder = program(NETWORKS[name], tmp_path / "c")
    for flags in (["-O0"], ["-O3"], ["-Os"], ["-O3", "-DICSNN_HOST"]):
        build(folder, (*STRICT, *flags), cc)
        done = run_golden_test(folder)
        assert done.returncode == 0, done.stdout
        assert re.fullmatch(r"2 samples, \d+ steps, \d layers, \d+ spikes: equal\n", done.stdout)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("macro", ["-DNONE", "-DICSNN_HOST"])
def test_sanitizers_find_nothing(tmp_path: Path, name: str, macro: str) -> None:
    folder = program(NETWORKS[name], tmp_path / "c", golden=1)
    sanitized = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", macro)
    build(folder, sanitized)
    done = run_golden_test(folder)
    assert (done.returncode, done.stderr) == (0, "")


def pooled_network(time_steps: int) -> Graph:
    """Convolutions and sums of windows between them, also in front of a Linear."""
    rng = np.random.default_rng(1)

    def conv(name: str, source: str, channels: tuple[int, int]) -> Conv:
        return Conv(
            name=name,
            inputs=(source,),
            weight=rng.integers(-9, 10, (channels[1], channels[0], 3, 3)).astype(np.int8),
            bias=rng.integers(-9, 10, channels[1]).astype(np.int8),
            stride=(1, 1),
            padding=((1, 1), (1, 1)),
            dilation=(1, 1),
        )

    def fire(name: str, source: str) -> IF:
        threshold, v_init = np.full((1, 1, 1), 40, np.int8), np.full((1, 1, 1), 0.5, np.float32)
        return IF(name=name, inputs=(source,), v_threshold=threshold, v_init=v_init)

    def pool(name: str, source: str, window: tuple[int, int]) -> Conv:
        return Conv(
            name=name,
            inputs=(source,),
            weight=np.ones((64, 1, *window), np.int8),
            bias=np.zeros(64, np.int8),
            stride=window,
            padding=((0, 0), (0, 0)),
            dilation=(1, 1),
            groups=64,
        )

    linear = rng.integers(-9, 10, (3, 64)).astype(np.int8)
    return Graph(
        nodes=(
            Input(name="x", shape=(2, 8, 4), dtype="int8"),
            conv("conv1", "x", (2, 64)),
            fire("if1", "conv1"),
            pool("pool1", "if1", (4, 2)),
            conv("conv2", "pool1", (64, 64)),
            fire("if2", "conv2"),
            pool("pool2", "if2", (2, 2)),
            Flatten(name="flat", inputs=("pool2",)),
            Linear(name="fc", inputs=("flat",), weight=linear, bias=np.ones(3, np.int8)),
            Output(name="y", inputs=("fc",)),
        ),
        time_steps=time_steps,
    )


@pytest.mark.parametrize("blocks", [False, True])
def test_sums_of_windows_are_read_as_spikes(
    tmp_path: Path, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks:
        monkeypatch.setattr("icsnn_deploy.exporters.c.connections.MOST_CACHED", 0)
    graph = pooled_network(11)  # no multiple of the steps that are run together
    folder = program(graph, tmp_path / "c")
    code = (folder / "network.c").read_text()
    assert ("conv_blocks64_windows4x2_w8" in code) == blocks
    assert ("conv_rows_windows4x2_w8" in code) != blocks
    assert "layer_pool" not in code  # no sum of its own
    for flags in ("-DNONE", "-DICSNN_HOST", "-DICSNN_TOGETHER=3"):
        sanitized = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
        build(folder, (*STRICT, *sanitized, flags))
        done = run_golden_test(folder)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    x = np.random.default_rng(2).integers(-128, 128, (3, 2, 8, 4)).astype(np.int8)
    expected = ReferenceSimulator(graph).run(x, Record(logits_t=True))
    got = CSimulator(graph, folder, threads=1).run(x, Record(logits_t=True))
    for name, spikes in expected.spikes.items():
        assert spikes.any()
        np.testing.assert_array_equal(got.spikes[name], spikes)
    np.testing.assert_array_equal(got.logits_t, expected.logits_t)


@pytest.mark.parametrize("features", [255, 256, 257, 300])
def test_channel_numbers_and_counts_get_the_bytes_they_need(tmp_path: Path, features: int) -> None:
    folder = program(wide_network(features), tmp_path / "c")
    header = (folder / "network.h").read_text()
    assert f"uint{8 if features <= 256 else 16}_t icsnn_channel" in header
    assert f"uint{8 if features <= 255 else 16}_t icsnn_count" in header
    build(folder, ("-O2", "-DICSNN_HOST"))
    assert run_golden_test(folder).returncode == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_ram_and_flash_are_those_announced(tmp_path: Path, name: str) -> None:
    graph = NETWORKS[name]
    folder = program(graph, tmp_path / "c")
    memory = memory_of(graph)
    names = [each.name for each in parameters_of(plan_program(graph))]
    sizes = " + ".join(f"sizeof {each}" for each in names)
    (folder / "test_main.c").write_text(
        '#include "network.h"\n#include "weights.h"\n#include <stdio.h>\n'
        f'int main(void) {{ printf("%zu %zu", sizeof(icsnn_state), {sizes}); return 0; }}\n'
    )
    build(folder)
    assert run_golden_test(folder).stdout.split() == [str(memory.ram), str(memory.flash)]
    build(folder, ("-O1", f"-DICSNN_TOGETHER={memory.steps_together}"))
    assert run_golden_test(folder).stdout.split()[0] == str(memory.ram_together)
    assert sum(layer.flash for layer in memory.layers) == memory.flash
    assert memory.ram - 4 < sum(layer.ram for layer in memory.layers) <= memory.ram
    assert (
        f"| **all** | **{memory.ram:,}** | **{memory.flash:,}** |"
        in (folder / "README.md").read_text()
    )


def test_the_code_is_small_enough_to_read(tmp_path: Path) -> None:
    folder = program(RESIDUAL, tmp_path / "c")
    for path in (*folder.glob("*.[ch]"), folder / "Makefile", folder / "CMakeLists.txt"):
        longest = max(map(len, path.read_text().splitlines()))
        assert longest <= 120, path.name
    code = (folder / "network.c").read_text()
    assert not re.search(r"malloc|calloc|float|double|printf|\bgoto\b", code)
    assert re.findall(r"#include <(.*)>", code) == ["string.h"]
    assert (
        "static void layer_block_if1(icsnn_state *s, int32_t steps)" in code
    )  # block.if1 in the model
    states = re.findall(r"^static (?!const|inline|void|int32_t|icsnn_channel).*", code, re.M)
    assert states == []  # no variables beside constants


def test_the_program_needs_only_memset(tmp_path: Path) -> None:
    folder = program(RESIDUAL, tmp_path / "c")
    command = [compiler(), "-Os", "-c", "network.c", "-o", "network.o"]
    subprocess.run(command, cwd=folder, check=True)
    listed = subprocess.run(["nm", "-u", "network.o"], cwd=folder, capture_output=True, text=True)
    needed = {line.split()[-1] for line in listed.stdout.splitlines()}
    weights = {each.name for each in parameters_of(plan_program(RESIDUAL))}
    assert needed - weights <= {"memset", "memcpy", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (program(RESIDUAL, tmp_path / name) for name in ("one", "two"))
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in two.iterdir()
    }


def test_make_test_runs_the_golden_samples(tmp_path: Path) -> None:
    folder = program(RESIDUAL, tmp_path / "c")
    done = subprocess.run(
        ["make", "--no-print-directory", "test"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": equal\n")


MUTATED = ("weight", "threshold", "v_init", "bias")


@pytest.mark.parametrize("field", MUTATED)
def test_one_changed_parameter_is_found_by_the_golden_test(tmp_path: Path, field: str) -> None:
    folder = program(RESIDUAL, tmp_path / "c")
    weights = (folder / "weights.c").read_text()
    pattern = re.compile(rf"(stem_if|stem_conv)_{field}\[\d+\] = {{\n *(-?\d+)")
    found = pattern.search(weights)
    assert found is not None
    changed = str(int(found[2]) + 1)
    start, end = found.span(2)
    (folder / "weights.c").write_text(weights[:start] + changed + weights[end:])
    build(folder)
    done = run_golden_test(folder)
    assert done.returncode == 1
    assert "stem.if: potentials differ" in done.stdout


def test_two_networks_with_prefixes_fit_one_program(tmp_path: Path) -> None:
    for name, graph in (("one", RESIDUAL), ("two", pooled_network(3))):
        export(graph, tmp_path / name, "c", COptions(prefix=name))
        build(tmp_path / name, STRICT)
        assert run_golden_test(tmp_path / name).returncode == 0
        CSimulator(graph, tmp_path / name)  # the files are those of the network
    (tmp_path / "main.c").write_text(
        '#include "one/network.h"\n#include "two/network.h"\n'
        "static one_state one;\nstatic two_state two;\n"
        "int main(void) { one_init(&one); two_init(&two); return ONE_STEPS == TWO_STEPS; }\n"
    )
    sources = [tmp_path / "main.c"]
    sources += [tmp_path / n / f"{f}.c" for n in ("one", "two") for f in ("network", "weights")]
    command = [compiler(), "-std=c99", *map(str, sources), "-o", str(tmp_path / "both")]
    subprocess.run(command, check=True)
    assert subprocess.run([str(tmp_path / "both")]).returncode == 0


def test_a_float_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="make one with icsnn quantize"):
        export(residual_network(), tmp_path / "c", "c")
    assert list(tmp_path.iterdir()) == []


def test_limits_name_what_is_over_and_write_nothing(tmp_path: Path) -> None:
    options = COptions(ram_limit=100, flash_limit=10**6)
    with pytest.raises(ExportError, match=r"ram: [\d,]+ bytes, 100 are allowed; the largest"):
        export(RESIDUAL, tmp_path / "c", "c", options)
    with pytest.raises(ExportError, match=r"flash: [\d,]+ bytes, 10 are allowed"):
        export(RESIDUAL, tmp_path / "c", "c", COptions(flash_limit=10))
    assert list(tmp_path.iterdir()) == []
    memory = memory_of(RESIDUAL)
    fits = COptions(ram_limit=memory.ram, flash_limit=memory.flash)
    export(RESIDUAL, tmp_path / "c", "c", fits)


@pytest.mark.parametrize(
    "options", [{"ram_limit": 0}, {"flash_limit": -1}, {"golden": 0}, {"prefix": "9"}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ExportError):
        COptions(**options)


def test_names_become_identifiers_of_their_own() -> None:
    assert identifiers(["layer1.0.conv", "layer1_0.conv", "1", "ä", "int"]) == {
        "layer1.0.conv": "layer1_0_conv",
        "layer1_0.conv": "layer1_0_conv_2",
        "1": "n1",
        "ä": "node",
        "int": "int",
    }
