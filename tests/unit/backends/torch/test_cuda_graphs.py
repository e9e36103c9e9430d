"""What a CUDA graph needs of a run, shown without a GPU; that it gives the same is in test_cuda."""

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from icsnn_deploy.backends.torch import cuda_graphs as torch_cuda
from icsnn_deploy.backends.torch.cuda_graphs import CapturedRuns
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.graph.graph import Graph
from tests.support.devices import OneDevice
from tests.support.graphs import if_graphs, residual_network, samples


def assert_capturable(graph: Graph) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        simulator = TorchSimulator(graph, device="cuda", memory=1 << 28)
        x = simulator.ops.tensor(samples(graph, 3))
        simulator.observe(x)  # parameters go to the device the first time
        with OneDevice():
            logits = simulator.observe(x)
    assert logits.device.type == "cuda"


@pytest.mark.slow
@settings(max_examples=20, deadline=None)  # the first one loads what fakes tensors
@given(graph=if_graphs())
def test_a_run_waits_for_nothing_and_stays_on_the_device(graph: Graph) -> None:
    assert_capturable(graph)


@pytest.mark.slow
def test_the_checks_see_a_transfer_and_a_wait() -> None:
    with FakeTensorMode():
        x = torch.ones(3, device="cuda")
        with pytest.raises(AssertionError, match="touches cpu"), OneDevice():
            x.cpu()
        with pytest.raises(DataDependentOutputException), OneDevice():
            bool(x.sum() > 0)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes captured, in order; a capture runs as it is."""
    shapes = []

    class Stand:
        def __init__(self, run: torch_cuda.RunBatch, example: Tensor) -> None:
            shapes.append(example.shape)
            self.run = run

        def __call__(self, x: Tensor) -> Tensor:
            return self.run(x)

    monkeypatch.setattr(torch_cuda, "_CapturedRun", Stand)
    return shapes


def test_a_shape_is_captured_when_it_comes_again(captured: list[torch.Size]) -> None:
    runs = CapturedRuns(lambda x: 2 * x)
    for size in (4, 4, 3, 4, 4, 3, 3, 4):
        assert torch.equal(runs(torch.ones(size)), torch.full((size,), 2.0))
    assert captured == [(4,), (3,)]


def test_two_captures_are_kept(captured: list[torch.Size]) -> None:
    runs = CapturedRuns(lambda x: x)
    for size in (4, 4, 3, 3, 2, 2, 3, 4, 4):
        runs(torch.ones(size))
    assert captured == [(4,), (3,), (2,), (4,)]


def test_the_processor_has_none() -> None:
    with pytest.raises(BackendUnavailableError, match="'cpu': a CUDA device is needed"):
        TorchSimulator(residual_network(), cuda_graphs=True)
