"""The backend c: it runs the exported files, in threads, and says what is missing."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends import open_backend
from icsnn_deploy.backends.c_program import CSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.errors import BackendUnavailableError, BundleError, ExportError
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.native.build import load_library
from icsnn_deploy.parity.verify import verify
from tests.support.evaluating import build
from tests.support.graphs import residual_network, with_hard_reset
from tests.support.integer_graphs import on_lattice

NETWORK = on_lattice(residual_network())


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return export_into(build(tmp_path / "b", NETWORK, ann=False), "c")


def inputs(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    shape = (count, *NETWORK.input.shape)
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)


def test_verify_runs_the_exported_files(bundle: Bundle) -> None:
    report = verify(bundle, ["c"], inputs(5))
    assert report.verdict == "pass"
    assert report.comparisons[0].backend == "c"


def test_files_that_the_exporter_did_not_write_are_not_run(bundle: Bundle) -> None:
    path = bundle.export("c") / "network.c"
    path.write_text(path.read_text().replace("s->step = 0", "s->step = 1"))
    with pytest.raises(BundleError, match=r"network\.c: .*the manifest says"):
        open_backend(open_bundle(bundle.path), "c")
    with pytest.raises(ExportError, match=r"network\.c: not what this version"):
        CSimulator(NETWORK, path.parent)
    path.unlink()
    with pytest.raises(ExportError, match="can't be read"):
        CSimulator(NETWORK, path.parent)


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_gives_the_same(bundle: Bundle, threads: int) -> None:
    names = frozenset(node.name for node in NETWORK.nodes_of(Population))
    record = Record(counts=True, first_spikes=True, logits_t=True, potentials=names)
    expected = ReferenceSimulator(NETWORK).run(inputs(7), record)
    got = CSimulator(NETWORK, bundle.export("c"), threads=threads).run(inputs(7), record)
    np.testing.assert_array_equal(got.logits, expected.logits)
    assert got.logits_t is not None
    assert expected.logits_t is not None
    np.testing.assert_array_equal(got.logits_t, expected.logits_t)
    for name in names:
        np.testing.assert_array_equal(got.spikes[name], expected.spikes[name])
        np.testing.assert_array_equal(got.counts[name], expected.counts[name])
        np.testing.assert_array_equal(got.first_spikes[name], expected.first_spikes[name])
        np.testing.assert_array_equal(got.potentials[name], expected.potentials[name])


def test_spikes_of_any_integer_type_are_read_as_spikes() -> None:
    node = replace(NETWORK.input, dtype="int16", encoding="rate")
    network = NETWORK.replace(node)
    shape = (network.steps, 5, *node.shape)
    spikes = np.random.default_rng(0).integers(0, 2, shape).astype(np.int16)
    record = Record(counts=True)
    expected = ReferenceSimulator(network).run(spikes, record)
    got = CSimulator(network).run(spikes, record)
    np.testing.assert_array_equal(got.logits, expected.logits)
    for name, counts in expected.counts.items():
        np.testing.assert_array_equal(got.counts[name], counts)


def test_with_hard_reset_potentials_before_the_reset_are_not_known(tmp_path: Path) -> None:
    network = on_lattice(with_hard_reset(residual_network()))
    bundle = export_into(build(tmp_path / "b", network, ann=False), "c")
    record = Record(potentials=frozenset({"stem.if"}))
    assert open_backend(bundle, "c").run(inputs(1), record).potentials == {}


def test_the_program_of_another_network_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ExportError, match="Export the program again"):
        CSimulator(on_lattice(residual_network(seed=3)), bundle.export("c"))


def test_without_a_compiler_the_error_names_what_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendUnavailableError, match="apt-get install gcc"):
        open_backend(bundle, "c")


def test_a_compiler_that_fails_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ICSNN_KERNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "false")
    with pytest.raises(BackendUnavailableError, match="false can't compile"):
        open_backend(bundle, "c")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/nonexistent/cc", "CC='/nonexistent/cc' names no program; unset it"),
        ('gcc "', "names no program; unset it"),
        ("false", "can't compile .*: it ended with 1 and said nothing"),
    ],
)
def test_a_compiler_that_is_none_is_named_with_a_remedy(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    message: str,
) -> None:
    monkeypatch.setenv("ICSNN_KERNEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", command)
    with pytest.raises(BackendUnavailableError, match=message):
        open_backend(bundle, "c")
    load_library.cache_clear()
    assert load_library("population") is None  # PyTorch is used instead


def test_a_cache_that_cannot_be_written_is_done_without(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICSNN_KERNEL_CACHE", "/proc/none")
    assert verify(bundle, ["c"], inputs(2)).verdict == "pass"


def test_an_empty_batch_has_empty_logits(bundle: Bundle) -> None:
    assert open_backend(bundle, "c").run(inputs(0)).logits.shape == (0, 10)


def test_its_headers_can_be_used_from_cpp(bundle: Bundle, tmp_path: Path) -> None:
    if shutil.which("g++") is None or shutil.which("gcc") is None:
        pytest.skip("no C++ compiler")
    code = bundle.export("c")
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "inspect.h"\n'
        "static icsnn_state state;\n"
        "int main() { icsnn_init(&state); return (int)icsnn_spike_count(&state, 0, 0); }\n"
    )
    objects = []
    for name in ("network", "weights", "inspect"):
        objects.append(str(tmp_path / f"{name}.o"))
        source = str(code / f"{name}.c")
        subprocess.run(["gcc", "-std=c99", "-c", source, "-o", objects[-1]], check=True)
    program = str(tmp_path / "program")
    subprocess.run(["g++", f"-I{code}", str(main), *objects, "-o", program], check=True)
    subprocess.run([program], check=True)
