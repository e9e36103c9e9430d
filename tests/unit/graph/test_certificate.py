"""The certificate: bounds by hand, the edge of float32, and what lies beyond it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.certificate import certify, require_certificate, signed_bits
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    ChannelAffine,
    Conv,
    Encoding,
    Input,
    Linear,
    Node,
    Output,
)
from icsnn_deploy.parity.compare import compare
from icsnn_deploy.parity.judge import Tolerance


def chain(
    weight: list[int], bias: int, v_threshold: int, *, time_steps: int, encoding: Encoding
) -> Graph:
    """Inputs -> one population of one neuron -> its spikes as the readout."""
    nodes: list[Node] = [
        Input(name="input", shape=(len(weight),), dtype="uint8", encoding=encoding),
        Linear(
            name="fc",
            inputs=("input",),
            weight=np.array([weight], np.int32),
            bias=np.array([bias], np.int32),
        ),
        IF(
            name="if",
            inputs=("fc",),
            v_threshold=np.array([v_threshold], np.int32),
            v_init=np.array([0.5], np.float32),
        ),
        Output(name="output", inputs=("if",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=time_steps)


def test_bounds_of_a_spike_driven_population_by_hand() -> None:
    graph = chain([3, -5, 2], 1, 4, time_steps=3, encoding="events")
    bound, readout = certify(graph).bounds
    assert bound.current == (-4, 6)  # -5 + 1 .. 3 + 2 + 1
    assert bound.partial_sum == 6
    # Upward: 0.5, u 6.5, v 4, u 10, v 6, u 12, v 8. Downward: 0.5, -3.5, -7.5, -11.5.
    assert bound.potential == 12
    assert bound.exact_below == 12 + 6
    assert bound.bits == signed_bits(-12, 12) == 5
    assert not bound.steady
    assert readout.current == (0, 1)
    assert readout.potential == 3


def test_a_steady_current_needs_only_the_neighborhood_of_the_threshold() -> None:
    graph = chain([3, -5], 0, 100, time_steps=1000, encoding="direct")
    bound = certify(graph).bounds[0]
    assert bound.steady
    assert bound.current == (-5 * 255, 3 * 255)
    assert bound.potential > 1_000_000  # it drifts far away
    assert bound.exact_below == 201 + 5 * 255  # v_init + 2 v_threshold, and the current
    assert certify(graph).float32


def test_one_weight_more_breaks_the_certificate_at_the_bound() -> None:
    """partial sums w, potential 2 w + 1 of two steps: 3 w + 1 must stay below 2^23."""
    widest = (2**23 - 2) // 3
    at_the_bound = chain([widest], 0, 2**30, time_steps=2, encoding="events")
    assert certify(at_the_bound).bounds[0].exact_below == 3 * widest + 1
    assert certify(at_the_bound).float32
    linear = at_the_bound.node("fc")
    assert isinstance(linear, Linear)
    beyond = at_the_bound.replace(replace(linear, weight=linear.weight + 1))
    assert not certify(beyond).float32
    with pytest.raises(LatticeError, match=r"if: reaches 8,388,610, float32 is exact below"):
        require_certificate(beyond)


def test_beyond_the_bound_backends_do_differ() -> None:
    """float32 loses the two single units that arrive while the potential is at -2^25."""
    graph = chain([2**25, -(2**25), 1], 0, 2, time_steps=4, encoding="events")
    assert not certify(graph).float32
    spikes = np.zeros((4, 1, 3), np.uint8)  # down, +1, +1, up again
    spikes[0, 0, 1] = spikes[1, 0, 2] = spikes[2, 0, 2] = spikes[3, 0, 0] = 1
    exact = ReferenceSimulator(graph).run(spikes).spikes["if"]
    single = TorchSimulator(graph).run(spikes).spikes["if"]
    assert exact.ravel().tolist() == [0, 0, 0, 1]
    assert single.ravel().tolist() == [0, 0, 0, 0]


def test_narrow_formats() -> None:
    small = certify(chain([100, -256], 0, 50, time_steps=4, encoding="direct"))
    assert small.tf32
    assert small.bfloat16
    assert small.int32
    wide = certify(chain([257], 0, 50, time_steps=4, encoding="direct"))
    assert wide.tf32
    assert not wide.bfloat16
    assert not certify(chain([2049], 0, 50, time_steps=4, encoding="direct")).tf32
    assert not certify(chain([-(2**28)], 0, 1, time_steps=64, encoding="events")).int32


def test_the_tightest_layer_and_json() -> None:
    certificate = certify(chain([3, -5, 2], 1, 4, time_steps=3, encoding="events"))
    assert certificate.tightest.layer == "if"
    values = certificate.to_json()
    assert values["tightest"] == "if"
    assert values["float32"] is True
    assert values["weight_bits"] == {"fc": 4}
    assert values["headroom_bits"] == pytest.approx(np.log2(2**23 / 18), abs=0.01)


def test_a_float_network_has_no_certificate() -> None:
    graph = chain([1], 0, 1, time_steps=1, encoding="events")
    linear = graph.node("fc")
    assert isinstance(linear, Linear)
    floats = graph.replace(replace(linear, bias=np.array([0.5])))
    with pytest.raises(LatticeError, match="only integer networks"):
        certify(floats)


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-128, 127, 8), (-129, 0, 9)]
)
def test_register_widths(low: int, high: int, bits: int) -> None:
    assert signed_bits(low, high) == bits


def spikes_into(*nodes: Node, shape: tuple[int, ...], time_steps: int = 1) -> Graph:
    """Spike input through nodes without memory to the readout."""
    source = Input(name="input", shape=shape, dtype="uint8", encoding="events")
    output = Output(name="output", inputs=(nodes[-1].name,))
    return Graph(nodes=(source, *nodes, output), time_steps=time_steps)


def shifted(name: str, source: str, shift: int) -> ChannelAffine:
    return ChannelAffine(
        name=name, inputs=(source,), scale=np.ones(1, np.int32), shift=np.array([shift], np.int32)
    )


def test_a_shift_that_float32_does_not_hold() -> None:
    """The value after it is small, but 2^24 + 1 itself would be rounded."""
    near = shifted("up", "input", 10_000_000), shifted("down", "up", -(2**24) - 1)
    graph = spikes_into(*near, shape=(1,))
    x = np.ones((1, 1, 1), np.uint8)
    single, exact = TorchSimulator(graph).run(x).logits, ReferenceSimulator(graph).run(x).logits
    assert single != exact
    assert not certify(graph).float32


def test_a_scale_that_a_runtime_moves_into_the_weights() -> None:
    """ONNX Runtime does; the scale then meets partial sums that the bias takes back."""
    conv = Conv(
        name="conv",
        inputs=("input",),
        weight=np.full((1, 8, 3, 3), 100, np.int8),
        bias=np.array([-3600], np.int32),
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
    )
    one = np.ones((1, 1, 1), np.int32)
    for factor, certified in [(2**24 // 7200, True), (2**24 // 7200 + 1, False)]:
        scale = ChannelAffine(name="scale", inputs=("conv",), scale=factor * one, shift=0 * one)
        certificate = certify(spikes_into(conv, scale, shape=(8, 6, 6)))
        assert certificate.bounds[-1].current == (-3600 * factor, 3600 * factor)
        assert certificate.float32 == certified


def test_bounds_beyond_64_bits_do_not_wrap_around() -> None:
    weight = np.array([[2**62] * 4 + [1]])  # the first four sum up to 2^64
    linear = Linear(name="fc", inputs=("input",), weight=weight, bias=np.zeros(1, np.int32))
    assert not certify(spikes_into(linear, shape=(5,))).float32
    layers = [replace(linear, weight=np.full((1, 1), 2**62)) for _ in range(20)]
    names = ["input", *(f"fc{n}" for n in range(20))]
    deep = [replace(layer, name=names[n + 1], inputs=(names[n],)) for n, layer in enumerate(layers)]
    certificate = certify(spikes_into(*deep, shape=(1,)))
    assert not certificate.float32
    assert not certificate.int32


def test_narrow_formats_of_a_readout_that_runs_on_sums_of_spikes() -> None:
    linear = Linear(
        name="fc", inputs=("input",), weight=np.ones((1, 1), np.int8), bias=np.zeros(1, np.int8)
    )
    for time_steps, bfloat16, tf32 in [(256, True, True), (257, False, True), (2049, False, False)]:
        certificate = certify(spikes_into(linear, shape=(1,), time_steps=time_steps))
        assert (certificate.bfloat16, certificate.tf32) == (bfloat16, tf32)


def test_a_steady_connection_beside_the_spikes_runs_on_no_sums() -> None:
    """255 of a pixel fit TF32; 255 times 100 steps would not, but nobody multiplies that."""
    graph = chain([1, 1], 0, 50, time_steps=100, encoding="direct")
    skip = Linear(
        name="skip",
        inputs=("input",),
        weight=np.ones((1, 2), np.int8),
        bias=np.zeros(1, np.int8),
    )
    joined = [
        skip,
        Add(name="add", inputs=("if", "skip")),
        Output(name="output", inputs=("add",)),
    ]
    assert certify(graph.with_nodes([*graph.nodes[:-1], *joined])).tf32


def test_certified_logits_that_float32_rounds_compare_equal() -> None:
    """Sums near 2^24 are exact in float32; a third of one may miss by half a unit of the sum."""
    weight = np.arange(5_592_300, 5_592_400, dtype=np.int32).reshape(-1, 1)
    linear = Linear(name="fc", inputs=("input",), weight=weight, bias=np.zeros(100, np.int8))
    graph = spikes_into(linear, shape=(1,), time_steps=3)
    assert certify(graph).float32
    x = np.array([1, 1, 0], np.uint8).reshape(3, 1, 1)
    exact, single = ReferenceSimulator(graph).run(x), TorchSimulator(graph).run(x)
    assert compare(exact, single, graph, tolerance=Tolerance(exact=True)).verdict == "pass"
    wrong = replace(single, logits=np.nextafter(single.logits, np.float32(np.inf)))
    assert compare(exact, wrong, graph, tolerance=Tolerance(exact=True)).verdict == "fail"
