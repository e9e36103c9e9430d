"""Recordings compared spike for spike: what is counted, where it first differs, and the verdict."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Input, Linear, Output
from icsnn_deploy.parity.compare import compare, merge
from icsnn_deploy.parity.judge import Comparison, Tolerance
from icsnn_deploy.parity.report import ParityReport

STEPS, IMAGES, WIDTH = 4, 3, 5
LAYERS = ("first", "second")
EXACT = Tolerance(exact=True)
ANYTHING = Tolerance(margin=np.inf, logits=np.inf)


def network() -> Graph:
    """Two populations of five neurons, one after the other, with a threshold of their own each."""
    rng = np.random.default_rng(0)
    thresholds = np.array([1.0, 2.0, 0.5, 4.0, 1.0], np.float32)

    def linear(name: str, source: str, width: int) -> Linear:
        weight = rng.normal(size=(width, WIDTH)).astype(np.float32)
        return Linear(name=name, inputs=(source,), weight=weight, bias=np.zeros(width, np.float32))

    def population(name: str, source: str) -> IF:
        v_init = np.full(WIDTH, 0.25, np.float32)
        return IF(name=name, inputs=(source,), v_threshold=thresholds, v_init=v_init)

    nodes = (
        Input(name="input", shape=(WIDTH,)),
        linear("a", "input", WIDTH),
        population("first", "a"),
        linear("b", "first", WIDTH),
        population("second", "b"),
        linear("c", "second", 3),
        Output(name="output", inputs=("c",)),
    )
    return Graph(nodes=nodes, time_steps=STEPS)


GRAPH = network()
THRESHOLDS = np.array([1.0, 2.0, 0.5, 4.0, 1.0])


def recording(backend: str = "reference", images: int = IMAGES) -> Recording:
    """No spike at all; u of a neuron is its threshold less 0.01, 0.02, 0.03, 0.04, 0.05 of it."""
    shape = (STEPS, images, WIDTH)
    margins = np.array([0.01, 0.02, 0.03, 0.04, 0.05])
    u = np.broadcast_to(THRESHOLDS * (1 - margins), shape)
    logits = np.tile(np.array([1.0, 4.0, 2.0]), (images, 1))
    return Recording(
        backend=backend,
        logits=logits,
        spikes={name: np.zeros(shape, np.uint8) for name in LAYERS},
        potentials=dict.fromkeys(LAYERS, u),
    )


def flipped(base: Recording, *places: tuple[str, int, int, int]) -> Recording:
    """The recording with spikes flipped at (layer, step 1..T, image, neuron)."""
    spikes = {name: s.copy() for name, s in base.spikes.items()}
    for layer, step, image, neuron in places:
        spikes[layer][step - 1, image, neuron] ^= 1
    return replace(base, backend="other", spikes=spikes)


def with_logits(base: Recording, logits: Array) -> Recording:
    return replace(base, backend="other", logits=logits)


def test_equal_recordings() -> None:
    found = compare(recording(), recording("other"), GRAPH)
    assert found.verdict == "pass"
    assert found.reason == "every spike equal"
    assert found.backend == "other"
    assert found.images == IMAGES
    assert found.spikes_compared == 2 * STEPS * IMAGES * WIDTH
    assert (found.spike_mismatches, found.images_affected) == (0, 0)
    assert found.first_divergence is None
    assert found.worst_relative_margin is None
    assert found.max_abs_logit_difference == 0
    assert found.top1_agreement == 1
    assert compare(recording(), recording("other"), GRAPH, tolerance=EXACT).verdict == "pass"


def test_a_network_is_equal_to_itself() -> None:
    inputs = np.random.default_rng(1).normal(size=(4, WIDTH)).astype(np.float32)
    record = Record(potentials=frozenset(LAYERS))
    found = ReferenceSimulator(GRAPH).run(inputs, record)
    assert sum(int(s.sum()) for s in found.spikes.values()) > 0
    assert compare(found, found, GRAPH, tolerance=EXACT).verdict == "pass"


def test_one_flipped_spike() -> None:
    other = flipped(recording(), ("first", 2, 1, 3))
    found = compare(recording(), other, GRAPH, first_image=100)
    assert found.verdict == "fail"
    assert (found.spike_mismatches, found.images_affected) == (1, 1)
    assert found.spike_counts == {"first": (0, 1), "second": (0, 0)}
    first = found.first_divergence
    assert first is not None
    assert (first.image, first.layer, first.step) == (101, "first", 2)
    assert (first.neuron, first.neurons) == ((3,), 1)
    assert first.v_threshold == 4
    assert first.u_reference == pytest.approx(4 * 0.96)
    assert first.u_other == pytest.approx(4 * 0.96)
    assert first.margin == pytest.approx(-4 * 0.04)
    assert first.relative_margin == pytest.approx(0.04)
    assert "image 101, first, step 2, neuron (3,)" in str(first)
    assert str(first) in found.reason


def test_the_earliest_step_comes_first_even_in_a_later_layer() -> None:
    other = flipped(recording(), ("first", 4, 0, 0), ("second", 3, 0, 1))
    first = compare(recording(), other, GRAPH).first_divergence
    assert first is not None
    assert (first.layer, first.step) == ("second", 3)


def test_within_a_step_the_first_layer_in_topological_order_comes_first() -> None:
    other = flipped(recording(), ("second", 3, 0, 4), ("first", 3, 0, 1))
    other = replace(other, spikes={name: other.spikes[name] for name in reversed(LAYERS)})
    first = compare(recording(), other, GRAPH).first_divergence
    assert first is not None
    assert (first.layer, first.step, first.neuron) == ("first", 3, (1,))


def test_of_several_neurons_the_one_farthest_from_its_threshold_counts() -> None:
    """Farthest relative to its own threshold: neuron 3 is farther in absolute terms."""
    other = flipped(recording(), *[("first", 1, 0, neuron) for neuron in (0, 3, 4)])
    first = compare(recording(), other, GRAPH).first_divergence
    assert first is not None
    assert (first.neuron, first.neurons) == ((4,), 3)
    assert first.relative_margin == pytest.approx(0.05)


def test_a_cascade_is_reported_not_hidden() -> None:
    tie = ("first", 1, 2, 0)
    later = [("second", step, 2, neuron) for step in (2, 3, 4) for neuron in range(WIDTH)]
    found = compare(
        recording(), flipped(recording(), tie, *later), GRAPH, tolerance=Tolerance(margin=0.02)
    )
    assert found.verdict == "pass"
    assert found.spike_mismatches == 1 + 15
    assert found.images_affected == 1
    assert found.worst_relative_margin == pytest.approx(0.01)
    assert "16 spikes differ on 1 images" in found.reason


@pytest.mark.parametrize(("margin", "verdict"), [(0.039, "fail"), (0.041, "pass")])
def test_margin_against_the_tolerance(margin: float, verdict: str) -> None:
    other = flipped(recording(), ("first", 2, 1, 3))
    found = compare(recording(), other, GRAPH, tolerance=Tolerance(margin=margin))
    assert found.verdict == verdict


def test_one_wide_image_among_ties_fails() -> None:
    other = flipped(recording(), ("first", 1, 0, 0), ("first", 1, 1, 4))
    found = compare(recording(), other, GRAPH, tolerance=Tolerance(margin=0.02))
    assert found.verdict == "fail"
    assert found.worst_relative_margin == pytest.approx(0.05)
    assert "1 of 2 diverging images" in found.reason
    assert "image 1" in found.reason


def test_unknown_margin_fails() -> None:
    silent = replace(recording(), potentials={})
    other = flipped(silent, ("first", 2, 1, 3))
    found = compare(silent, other, GRAPH, tolerance=ANYTHING)
    assert found.verdict == "fail"
    assert "margin is not known" in found.reason
    assert found.first_divergence is not None
    assert found.first_divergence.margin is None
    assert "potentials not recorded" in str(found.first_divergence)


def test_a_margin_that_is_not_a_number_fails() -> None:
    u = np.full((STEPS, IMAGES, WIDTH), np.nan)
    broken = replace(recording(), potentials=dict.fromkeys(LAYERS, u))
    other = flipped(broken, ("first", 2, 1, 3))
    assert compare(broken, other, GRAPH, tolerance=ANYTHING).verdict == "fail"


def test_potentials_are_asked_for_as_told() -> None:
    asked: list[tuple[str, int, str]] = []

    def side(name: str, u: float) -> Array:
        return np.full((STEPS, WIDTH), u)

    def ours(image: int, layer: str) -> Array:
        asked.append(("reference", image, layer))
        return side(layer, 1.0)

    def theirs(image: int, layer: str) -> Array:
        asked.append(("other", image, layer))
        return side(layer, 0.999)

    other = flipped(recording(), ("second", 2, 0, 0), ("first", 1, 2, 0))
    found = compare(recording(), other, GRAPH, reference_potentials=ours, other_potentials=theirs)
    assert asked == [("reference", 0, "second"), ("reference", 2, "first"), ("other", 0, "second")]
    assert [d.u_reference for d in found.divergences] == [1, 1]
    assert [d.u_other for d in found.divergences] == [0.999, None]


def test_exact_fails_on_any_mismatch_however_close() -> None:
    at_threshold = np.broadcast_to(THRESHOLDS, (STEPS, IMAGES, WIDTH))
    base = replace(recording(), potentials=dict.fromkeys(LAYERS, at_threshold))
    other = flipped(base, ("second", 4, 2, 4))
    assert compare(base, other, GRAPH).verdict == "pass"
    found = compare(base, other, GRAPH, tolerance=EXACT)
    assert found.verdict == "fail"
    assert "1 spikes differ" in found.reason


def test_exact_fails_on_any_logit_difference() -> None:
    """The least that float32 can tell apart."""
    base = recording()
    logits = base.logits.astype(np.float32)
    logits[1, 1] = np.nextafter(logits[1, 1], np.float32(9))
    other = with_logits(base, logits)
    assert compare(base, other, GRAPH).verdict == "pass"
    found = compare(base, other, GRAPH, tolerance=EXACT)
    assert (found.verdict, found.logit_mismatches) == ("fail", 1)


@pytest.mark.parametrize(("difference", "verdict"), [(0.9e-4, "pass"), (1.1e-4, "fail")])
def test_logits_that_differ_where_all_spikes_agree(difference: float, verdict: str) -> None:
    """Relative to the largest logit, which is 4."""
    base = recording()
    found = compare(base, with_logits(base, base.logits + 4 * difference), GRAPH)
    assert found.logit_mismatches == base.logits.size
    assert found.verdict == verdict
    assert found.max_abs_logit_difference == pytest.approx(4 * difference)
    assert ("where all spikes agree" in found.reason) == (verdict == "fail")


def test_logits_of_a_diverging_image_are_judged_by_its_margin_alone() -> None:
    base = recording()
    other = flipped(base, ("first", 1, 0, 0))
    logits = base.logits.copy()
    logits[0] = [9, 0, 0]
    other = replace(other, logits=logits)
    found = compare(base, other, GRAPH, tolerance=Tolerance(margin=0.02))
    assert found.verdict == "pass"
    assert found.max_abs_logit_difference == 8
    assert found.top1_agreement == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tolerance", [Tolerance(), EXACT])
def test_logits_that_are_no_numbers_fail(value: float, tolerance: Tolerance) -> None:
    base = recording()
    logits = base.logits.copy()
    logits[2, 0] = value
    for ours, theirs in [(base, with_logits(base, logits)), (replace(base, logits=logits), base)]:
        found = compare(ours, theirs, GRAPH, tolerance=tolerance)
        assert found.verdict == "fail"
        assert found.max_abs_logit_difference == np.inf
        assert found.to_json()["max_abs_logit_difference"] is None


def test_fewer_layers_in_the_other_are_enough() -> None:
    other = replace(recording("chip"), spikes={"second": recording().spikes["second"]})
    found = compare(recording(), other, GRAPH)
    assert found.verdict == "pass"
    assert found.spikes_compared == STEPS * IMAGES * WIDTH
    assert list(found.spike_counts) == ["second"]


def test_logits_alone_do_not_claim_equal_spikes() -> None:
    other = replace(recording("chip"), spikes={})
    for tolerance in (Tolerance(), EXACT):
        found = compare(recording(), other, GRAPH, tolerance=tolerance)
        assert (found.verdict, found.spikes_compared) == ("pass", 0)
        assert "spike equal" not in found.reason
        assert "every spike" not in found.reason
    assert compare(recording(), with_logits(other, other.logits + 1), GRAPH).verdict == "fail"


def test_an_unknown_layer() -> None:
    spikes = {"thrid": recording().spikes["first"]}
    with pytest.raises(DataError, match=r"'thrid'.*first, second"):
        compare(recording(), replace(recording("chip"), spikes=spikes), GRAPH)


def test_a_layer_that_is_no_population() -> None:
    spikes = {"a": recording().spikes["first"]}
    with pytest.raises(DataError, match="chip: records 'a'"):
        compare(recording(), replace(recording("chip"), spikes=spikes), GRAPH)


def test_spikes_of_another_shape() -> None:
    spikes = {"second": np.zeros((STEPS, IMAGES, WIDTH + 1), np.uint8)}
    with pytest.raises(
        DataError, match=r"chip: spikes of second have shape \(4, 3, 6\).*\(4, 3, 5\)"
    ):
        compare(recording(), replace(recording("chip"), spikes=spikes), GRAPH)


def test_logits_of_another_shape() -> None:
    with pytest.raises(DataError, match=r"chip: logits of shape \(3, 2\); \(3, 3\) is needed"):
        compare(recording(), replace(recording("chip"), logits=np.zeros((IMAGES, 2))), GRAPH)


def test_a_reference_without_the_layer() -> None:
    reference = replace(recording(), spikes={"first": recording().spikes["first"]})
    with pytest.raises(DataError, match="'second'"):
        compare(reference, recording("chip"), GRAPH)


def test_no_images() -> None:
    with pytest.raises(DataError, match="no images"):
        compare(recording(images=0), recording("chip", images=0), GRAPH)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_merged_chunks_are_the_whole(data: st.DataObject) -> None:
    """How the images were cut must not show in the figures, the reason or the verdict."""
    images = data.draw(st.integers(1, 6), label="images")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    base = recording(images=images)
    base = replace(base, logits=rng.normal(size=base.logits.shape) * rng.choice([1e-3, 1, 1e3]))
    base = replace(base, logits=base.logits * 10.0 ** rng.integers(-4, 4, (images, 1)))
    place = st.tuples(
        st.sampled_from(LAYERS),
        st.integers(1, STEPS),
        st.integers(0, images - 1),
        st.integers(0, WIDTH - 1),
    )
    places = data.draw(st.lists(place, max_size=6, unique=True), label="flips")
    other = flipped(base, *places)
    noise = rng.choice([0, 1e-5, 1e-3]) * rng.normal(size=base.logits.shape)
    other = replace(other, logits=base.logits + noise)
    tolerance = data.draw(
        st.sampled_from([EXACT, Tolerance(), Tolerance(margin=0.03), ANYTHING]), label="tolerance"
    )
    size = data.draw(st.integers(1, images), label="chunk")
    tolerance = tolerance.on(GRAPH)
    whole = compare(base, other, GRAPH, tolerance=tolerance)
    parts = [
        compare(
            cut(base, start, size),
            cut(other, start, size),
            GRAPH,
            tolerance=tolerance,
            first_image=start,
        )
        for start in range(0, images, size)
    ]
    assert described(merge(parts, tolerance)) == described(whole)


def cut(whole: Recording, start: int, size: int) -> Recording:
    part = slice(start, start + size)
    return replace(
        whole,
        logits=whole.logits[part],
        spikes={name: s[:, part] for name, s in whole.spikes.items()},
        potentials={name: u[:, part] for name, u in whole.potentials.items()},
    )


def described(found: Comparison) -> dict[str, object]:
    """All figures, but for the other side's u, which is asked for once a chunk."""
    bare = [replace(d, u_other=None) for d in found.divergences]
    return {**vars(found), "divergences": bare, "reason": found.reason.split("neuron")[0]}


FIELDS = {
    "backend",
    "verdict",
    "images",
    "spikes_compared",
    "spike_mismatches",
    "images_affected",
    "first_divergence",
    "max_abs_logit_difference",
    "top1_agreement",
    "class_agreement",
    # beside the contract
    "logit_mismatches",
    "worst_relative_margin",
    "spike_counts",
    "reason",
}


def test_report_as_json() -> None:
    other = flipped(recording(), ("first", 2, 1, 3))
    comparisons = (compare(recording(), other, GRAPH), compare(recording(), recording(), GRAPH))
    report = ParityReport(comparisons=comparisons, graph_hash="abc")
    values = report.to_json()
    assert set(values) == {"verdict", "graph_hash", "comparisons"}
    labelled = replace(report, ann_accuracy=0.5, snn_accuracy=0.25).to_json()
    assert set(labelled) == {*values, "ann_accuracy", "snn_accuracy"}
    assert (labelled["ann_accuracy"], labelled["snn_accuracy"]) == (0.5, 0.25)
    assert [set(c) for c in values["comparisons"]] == [FIELDS, FIELDS]
    assert set(values["comparisons"][0]["first_divergence"]) == {
        *("image", "layer", "step", "neuron", "neurons"),
        *("v_threshold", "u_reference", "u_other", "margin"),
    }
    assert values["comparisons"][1]["first_divergence"] is None
    # a NumPy number in it would raise, and so would NaN
    text = json.dumps(labelled, allow_nan=False)
    assert json.loads(text)["comparisons"][0]["first_divergence"]["neuron"] == [3]


def test_verdict_of_a_report() -> None:
    good = compare(recording(), recording("good"), GRAPH)
    bad = compare(recording(), flipped(recording(), ("first", 2, 1, 3)), GRAPH)
    assert ParityReport(comparisons=(good,), graph_hash="").verdict == "pass"
    assert ParityReport(comparisons=(good, bad), graph_hash="").verdict == "fail"
    assert ParityReport(comparisons=(), graph_hash="").verdict == "fail"
    summary = ParityReport(comparisons=(good, bad), graph_hash="").summary().splitlines()
    assert [line.split(" (")[0] for line in summary] == ["good: pass", "other: fail"]
