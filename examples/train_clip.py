"""Fine-tune a trained ReLU network with activations that have a bound, as RNL, OPI and QCFS do.

python examples/train_clip.py --model examples/cifar_models.py:resnet20 --weights resnet20.pt \
       --images train.npz:images --labels train.npz:labels --mean 0.485,0.456,0.406 \
       --std 0.229,0.224,0.225 --activation qcfs --levels 8 --epochs 10 --out resnet20_qcfs.pt
icsnn convert examples/train_clip.py:resnet20_qcfs --weights resnet20_qcfs.pt \
      --activation QCFS:bound:levels --recipe opi --calibration ... --time-steps 4 --out build/qcfs

Every rectifier of the model, a module or a function, becomes

    clip    clip(x, 0, bound)                                  (RNL, Ding et al. 2021; OPI, Bu et
                                                               al. 2022)
    qcfs    bound / L * clip(floor(x L / bound + 1/2), 0, L)   (QCFS, Bu et al. 2022)

with a trained bound for each layer. Without --labels the network learns the outputs that the
original gives (distillation). A model of your own needs a callable that makes it with such
activations, `return with_bounds(my_model(), QCFS)`, beside `resnet20_qcfs` below; number of levels
and bounds are in the checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import operator
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import Normalization, load_images, load_labels

_QUANTILE = 0.999  # of the activations of the first batch: where training starts
_BATCH = 64
_MOST_VALUES = 1_000_000  # torch.quantile takes 2^24 at most


class _Floor(torch.autograd.Function):
    """floor, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Clip(nn.Module):
    """clip(x, 0, bound) with a trained bound."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        return torch.minimum(x.clamp(min=0), self.bound)


class QCFS(nn.Module):
    """Quantization, clip, floor and shift: L levels up to a trained bound."""

    levels: Tensor

    def __init__(self, levels: int = 8) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.tensor(8.0))
        self.register_buffer("levels", torch.tensor(float(levels)))

    def forward(self, x: Tensor) -> Tensor:
        level: Tensor = _Floor.apply((x / self.bound).clamp(0, 1) * self.levels + 0.5)
        return level * (self.bound / self.levels)


def with_bounds(model: nn.Module, make: Callable[[], nn.Module]) -> fx.GraphModule:
    """The model with `make()` in place of every rectifier; parameters keep their names."""
    traced = fx.symbolic_trace(model)
    functions = (F.relu, torch.relu, torch.relu_, F.relu_)
    found = 0
    for node in list(traced.graph.nodes):
        module = operator.attrgetter(str(node.target))(traced) if node.op == "call_module" else None
        if not (
            isinstance(module, nn.ReLU)
            or (node.op == "call_function" and node.target in functions)
            or (node.op == "call_method" and node.target in ("relu", "relu_"))
        ):
            continue
        name = f"bounded_{found}"
        traced.add_module(name, make())
        with traced.graph.inserting_before(node):
            node.replace_all_uses_with(traced.graph.call_module(name, (node.args[0],)))
        traced.graph.erase_node(node)
        found += 1
    if not found:
        raise SystemExit(f"{type(model).__name__}: no ReLU found; there is nothing to bound")
    traced.recompile()
    return traced


@torch.no_grad()
def start_bounds(model: nn.Module, images: Tensor) -> None:
    """Set every bound to the 0.999 quantile of the activations of some images."""

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].clamp(min=0).flatten()
        stride = -(-len(values) // _MOST_VALUES)
        bound = module.bound
        assert isinstance(bound, Tensor)
        bound.copy_(torch.quantile(values[::stride], _QUANTILE).clamp(min=1e-3))

    bounded = [module for module in model.modules() if isinstance(module, (Clip, QCFS))]
    hooks = [module.register_forward_pre_hook(measure) for module in bounded]
    model.eval()(images)
    for hook in hooks:
        hook.remove()


def batches(count: int, size: int, epochs: int, seed: int) -> Iterator[tuple[int, Any]]:
    """(epoch, indices) of every batch, each epoch in an order of its own."""
    for epoch in range(epochs):
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for start in range(0, count - size + 1, size):
            yield epoch, np.sort(order[start : start + size])


def train(model: nn.Module, teacher: nn.Module, options: argparse.Namespace) -> None:
    """Stochastic gradient descent with momentum, one half cosine over all epochs."""
    normalization = Normalization(mean=options.mean, std=options.std)
    images = load_images(options.images, normalization)[: options.limit]  # uint8 [N, C, H, W]
    labels = load_labels(options.labels, len(images)) if options.labels else None
    size = min(options.batch_size, len(images))
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (options.mean, options.std))

    def taken(pixels: Any) -> Tensor:
        scaled = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
        return ((scaled - mean) / std).to(options.device)

    start_bounds(model, taken(images[:size]))
    augmentation = Augmentation.suited_to(tuple(images.shape[1:]))
    generator = np.random.default_rng(options.seed)
    optimizer = torch.optim.SGD(
        model.parameters(), options.rate, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    steps = options.epochs * (len(images) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    begun, last = time.monotonic(), 0
    losses: list[float] = []
    for epoch, rows in batches(len(images), size, options.epochs, options.seed):
        if epoch != last:
            print(f"epoch {last + 1}: loss {np.mean(losses):.4f}", flush=True)
            losses, last = [], epoch
        x = taken(augmentation.vary(np.asarray(images[rows]), generator))
        logits = model.train()(x)
        if labels is None:
            with torch.no_grad():
                wanted = teacher(x).log_softmax(dim=1)
            loss = F.kl_div(
                logits.log_softmax(dim=1), wanted, log_target=True, reduction="batchmean"
            )
        else:
            loss = F.cross_entropy(logits, torch.from_numpy(labels[rows]).to(options.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    print(
        f"epoch {last + 1}: loss {np.mean(losses):.4f}; {time.monotonic() - begun:.0f} s",
        flush=True,
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="path/to/file.py:callable")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", required=True, help="FILE.npz:array, uint8 [N, H, W, C]")
    parser.add_argument("--labels", help="FILE.npz:array; without, the original's outputs")
    parser.add_argument("--mean", type=_floats, required=True)
    parser.add_argument("--std", type=_floats, required=True)
    parser.add_argument("--activation", choices=("clip", "qcfs"), default="qcfs")
    parser.add_argument("--levels", type=int, default=8, help="of qcfs")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=_BATCH)
    parser.add_argument("--limit", type=int, help="use the first images only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    torch.manual_seed(options.seed)
    teacher = load_model(options.model, options.weights)
    if not isinstance(teacher, nn.Module):
        raise SystemExit(f"{options.model}: an exported program; a model of Python code is needed")
    model = with_bounds(
        copy.deepcopy(teacher), Clip if options.activation == "clip" else _qcfs(options.levels)
    )
    train(model.to(options.device), teacher.to(options.device), options)
    torch.save(model.state_dict(), options.out)
    print(
        f"wrote {options.out}; convert it with --recipe opi and --activation "
        + ("Clip:bound" if options.activation == "clip" else "QCFS:bound:levels")
    )


def _qcfs(levels: int) -> Callable[[], nn.Module]:
    return lambda: QCFS(levels)


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _cifar(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        import cifar_models
    finally:
        sys.path.pop(0)
    return with_bounds(getattr(cifar_models, name)(), make)


def resnet20_qcfs() -> nn.Module:
    """ResNet20 with QCFS, for the checkpoint that this file writes."""
    return _cifar("resnet20", QCFS)


def resnet20_clip() -> nn.Module:
    """ResNet20 with a clip."""
    return _cifar("resnet20", Clip)


def vgg16_half_qcfs() -> nn.Module:
    """VGG16 at half its width with QCFS."""
    return _cifar("vgg16_half", QCFS)


def vgg16_half_clip() -> nn.Module:
    """VGG16 at half its width with a clip."""
    return _cifar("vgg16_half", Clip)


if __name__ == "__main__":
    main(sys.argv[1:])
