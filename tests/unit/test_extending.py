"""docs/extending.md is true: what its code adds to a copy of the package works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.extending import (
    PAGE,
    ROOT,
    changes,
    copy_cache,
    copy_package,
    listed,
    run_in_copy,
)

MISSING = re.compile(r'^(\S+?):\d+: error: Argument 1 to "assert_never" .*type "([^"]+)"')

OPERATOR, KIND, NEURON = "A PyTorch operator", "A node kind", "A neuron"
EXPORTER, BACKEND, TARGET, RECIPE = "An exporter", "A backend", "A target", "A recipe"
ALLOWED = {
    OPERATOR: {1, 2},
    NEURON: range(13),
    EXPORTER: {2},
    BACKEND: {2},
    TARGET: {2},
    RECIPE: {1, 2},
}
"""How many files of the package each addition may touch; mypy decides for a node kind."""

SUPPORT = "from tests.support.graphs import *\nfrom tests.support.evaluating import build\n"
CHECKS = {
    OPERATOR: """
import torch
from torch import nn
from icsnn_deploy import Recipe, UnsupportedOperatorError, convert
from icsnn_deploy.backends.reference import run_ann
torch.manual_seed(0)
class Summed(nn.Module):
    def __init__(self, cumulate):
        super().__init__()
        self.cumulate = cumulate
        self.conv = nn.Conv2d(3, 5, 2)
        self.rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(125, 3))
    def forward(self, x):
        return self.rest(self.conv(self.cumulate(x)))
model = Summed(lambda x: x.cumsum(2)).eval()
x = torch.rand(6, 3, 6, 6)
found = convert(model, x.numpy(), Recipe(name="fast", time_steps=4))
function = Summed(lambda x: torch.cumsum(x, dim=-2)).eval()
function.load_state_dict(model.state_dict())
expected = model(x).detach().numpy()
for each in (model, function, torch.export.export(model, (x,))):
    ann = convert(each, x.numpy(), Recipe(name="fast", time_steps=4)).ann
    np.testing.assert_allclose(run_ann(ann, x.numpy()), expected, atol=1e-5)
for refused in (lambda x: x.cumsum(1), lambda x: x.cumsum(0)):
    try:
        convert(Summed(refused).eval(), x.numpy(), Recipe(name="fast", time_steps=4))
    except UnsupportedOperatorError as error:
        assert "a spatial axis" in str(error), error
    else:
        raise AssertionError("cumsum over channels or samples")
assert len(found.network.nodes_of(IF)) == 1
""",
    KIND: """
from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate
from icsnn_deploy.graph.file import graph_bytes, read_graph
from icsnn_deploy.graph.nodes import ChannelOrder
order = ChannelOrder(name="order", inputs=("input",), order=(2, 0, 1))
x = np.arange(12.0).reshape(2, 3, 2)
np.testing.assert_array_equal(evaluate(order, x), x[:, [2, 0, 1]])
head = Linear(name="head", inputs=("if",), weight=np.eye(3), bias=np.zeros(3))
one = np.ones(1, np.float32)
graph = Graph(nodes=(Input(name="input", shape=(3,)), order,
    IF(name="if", inputs=("order",), v_threshold=one, v_init=0 * one), head,
    Output(name="output", inputs=("head",))), time_steps=4)
Path("g").write_bytes(graph_bytes(graph))
assert read_graph(Path("g")).hash() == graph.hash()
logits = ReferenceSimulator(graph).run(np.array([[0.0, 0.5, 1.0]], np.float32)).logits
np.testing.assert_array_equal(logits, [[1.0, 0.0, 0.5]])
""",
    NEURON: """
from icsnn_deploy import ExportError, LatticeError, certify, export, verify
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.graph.nodes import LowerBoundedIF
from dataclasses import replace
network = residual_network()
nodes = [
    LowerBoundedIF(name=n.name, inputs=n.inputs, v_threshold=n.v_threshold, v_init=n.v_init,
        v_min=0 * n.v_init - np.float32(0.25 + OFF_LATTICE)) if isinstance(n, IF) else n
    for n in network.nodes
]
bounded = network.with_nodes(nodes)
x = samples(bounded, 6)
free, held = (ReferenceSimulator(g).run(x).spikes for g in (network, bounded))
assert any((free[name] != held[name]).any() for name in free)
bundle = create_bundle(Path("b"), network=bounded, ann=None, samples=x, report={})
assert bundle.network().hash() == bounded.hash()
report = verify(bundle, ["torch", "torch-float64"])
assert report.verdict == "pass" and all(c.spike_mismatches == 0 for c in report.comparisons)
whole = np.eye(2, dtype=np.int8)
integer = Graph(nodes=(
    Input(name="input", shape=(2,), dtype="int8"),
    Linear(name="fc", inputs=("input",), weight=whole, bias=np.zeros(2, np.int32)),
    LowerBoundedIF(name="if", inputs=("fc",), v_threshold=np.array([3], np.int32),
        v_init=np.array([0.5]), v_min=np.array([-1.5])),
    Linear(name="head", inputs=("if",), weight=whole, bias=np.zeros(2, np.int32)),
    Output(name="output", inputs=("head",))), time_steps=9)
analog = integer.replace(replace(integer.input, dtype="float32"))
assert integer.is_integer and not analog.is_integer
x = np.array([[1, 2], [-3, 1]], np.int8)
held, floating = (ReferenceSimulator(g).run(x).spikes["if"] for g in (integer, analog))
np.testing.assert_array_equal(held, floating)
for refusal, attempt in (
    (ExportError, lambda: export(bounded, Path("x"), "onnx")),
    (ExportError, lambda: export(bounded, Path("x"), "nir")),
    (ExportError, lambda: export(bounded, Path("x"), "nir-portable")),
    (LatticeError, lambda: certify(integer)),
):
    try:
        attempt()
    except refusal as error:
        assert "lower_bounded_if" in str(error), error
    else:
        raise AssertionError(refusal)
""",
    EXPORTER: """
from icsnn_deploy import ExportError, export, export_into
from icsnn_deploy.exporters.json_text import read
for network in (residual_network(), with_hard_reset(sequential_network())):
    export(network, Path("one"), "json")
    export(read(Path("one")), Path("two"), "json")
    assert read(Path("one")).hash() == network.hash()
    assert Path("one").read_bytes() == Path("two").read_bytes()
bundle = export_into(build(Path("b"), residual_network()), "json")
assert read(bundle.export("json")).hash() == bundle.graph_hash
for damaged in ("", "[]", '{"nodes": 3}', Path("one").read_text().replace("float32", "object")):
    Path("one").write_text(damaged)
    try:
        read(Path("one"))
    except ExportError:
        continue
    raise AssertionError(damaged)
""",
    BACKEND: """
from icsnn_deploy import Record, Tolerance, open_backend, verify
from tests.parity.test_records import NETWORK, assert_gives_logits_t, assert_gives_what_is_asked
for network in (NETWORK, sequential_network(), with_hard_reset(residual_network(time_steps=1))):
    bundle = build(Path(f"b{network.hash()}"), network, ann=False)
    report = verify(bundle, ["layerwise"], tolerance=Tolerance(exact=True))
    assert report.verdict == "pass", report
simulator = open_backend(build(Path("b"), NETWORK), "layerwise")
assert_gives_what_is_asked(simulator)
assert_gives_logits_t(simulator)
""",
    TARGET: """
from icsnn_deploy import check, find_target
from icsnn_deploy.targets import TARGETS
assert all(find_target(name).name == name for name in TARGETS)
found = check(residual_network(), find_target("small-chip"))
assert not found.ok and "cores" in {misfit.what for misfit in found.misfits}, found.misfits
""",
    RECIPE: """
import torch
from torch import nn
from icsnn_deploy import Recipe, convert
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
x = torch.rand(8, 1, 6, 6).numpy()
first, second = (convert(model, x, Recipe(name="layer-mse", time_steps=4)) for _ in range(2))
assert first.network.hash() == second.network.hash()
assert first.report.chosen.method == "MSE per layer, v_init half"
(population,) = first.network.nodes_of(IF)
np.testing.assert_array_equal(population.v_init, population.v_threshold / 2)
""",
}
"""What must hold of a package with the addition of each section."""


@pytest.mark.parametrize("title", ALLOWED)
def test_an_addition_touches_as_many_files_as_promised(title: str) -> None:
    touched = {change.file for change in changes(title)}
    files = listed(title)
    assert touched <= set(files)
    assert len(touched) in ALLOWED[title]
    if title in (EXPORTER, BACKEND, TARGET):
        assert touched == set(files)
    if title == NEURON:
        assert len(files) in ALLOWED[title]


@pytest.mark.parametrize("title", ALLOWED)
def test_the_table_at_the_top_counts_the_files(title: str) -> None:
    anchor = title.lower().replace(" ", "-")
    match = re.search(rf"^\| \[[^]]+\]\(#{anchor}\) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert match is not None
    numbers = {int(number) for number in re.findall(r"\d+", match[1])}
    assert numbers == ({12} if title == NEURON else ALLOWED[title])


@pytest.mark.slow
@pytest.mark.parametrize("title", CHECKS)
def test_what_a_section_adds_works(title: str, tmp_path: Path) -> None:
    copy_package(tmp_path)
    for change in changes(title):
        change.apply(tmp_path)
    here = f"import icsnn_deploy\nassert icsnn_deploy.__file__.startswith({str(tmp_path)!r})\n"
    preamble = here + "import numpy as np\nfrom pathlib import Path\n" + SUPPORT
    result = run_in_copy(["-c", preamble + CHECKS[title]], tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_mypy_lists_the_files_that_a_node_kind_and_a_neuron_need(tmp_path: Path) -> None:
    """All other additions are whole; the new classes first lack all their cases."""
    copy_package(tmp_path)
    cases = []
    for title in CHECKS:
        for change in changes(title):
            if title in (KIND, NEURON) and listed(title)[change.file] == "yes":
                cases.append(change)
            else:
                change.apply(tmp_path)
    copy_cache(tmp_path)
    kinds, neurons = (
        {file for file, by_mypy in listed(title).items() if by_mypy == "yes"}
        for title in (KIND, NEURON)
    )
    assert files_without_a_case(tmp_path) == {"ChannelOrder": kinds, "LowerBoundedIF": neurons}
    for change in cases:
        change.apply(tmp_path)
    assert {change.file for change in cases} == neurons
    kinds.remove("icsnn_deploy/backends/reference.py")  # the case that the page shows
    assert files_without_a_case(tmp_path) == {"ChannelOrder": kinds}


def files_without_a_case(root: Path) -> dict[str, set[str]]:
    """What mypy prints, as node kind -> files; any error of another sort is a failure."""
    result = run_in_copy(["-m", "mypy", "icsnn_deploy"], root)
    found: dict[str, set[str]] = {}
    for line in result.stdout.splitlines():
        if ": error: " in line:
            match = MISSING.match(line)
            assert match is not None, line
            file = str((root / match[1]).resolve().relative_to(root.resolve()))
            for kind in match[2].split(" | "):
                found.setdefault(kind, set()).add(file)
    return found


@pytest.mark.slow
def test_all_additions_together_pass_the_rules_of_the_project(tmp_path: Path) -> None:
    """Ruff, the order of imports, and the list of folders in the distribution."""
    copy_package(tmp_path)
    files = set()
    for title in CHECKS:
        for change in changes(title):
            change.apply(tmp_path)
            files.add(change.file)
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "unit" / "test_imports.py", tmp_path / "tests" / "unit")
    rules = "one_way or circle or apart or packages_of_others or distribution"
    for command in (
        ["ruff", "check", *sorted(files)],
        ["ruff", "format", "--diff", *sorted(files)],
        ["pytest", "-q", "tests/unit/test_imports.py", "-k", rules],
    ):
        result = run_in_copy(["-m", *command], tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
