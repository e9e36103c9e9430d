"""A small CNN for scikit-learn's digits, and the ways in which its trained weights reach a file.

    python -m tests.support.digits_cnn FOLDER     train it, and write all files but Keras's

tests/support/keras_models.py rebuilds it in Keras from the weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from icsnn_deploy.graph.neuron import Array

WEIGHTS = "digits_cnn.npz"


class DigitsCnn(nn.Module):
    """[B, 1, 8, 8] -> [B, 10]: strided convolution, batch norm, max pooling, global average."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8, eps=1e-3)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.conv3 = nn.Conv2d(12, 12, 3)
        self.head = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        result: torch.Tensor = self.head(torch.relu(self.conv3(x)).flatten(1))
        return result


def digits() -> tuple[Array, Array]:
    """Images float32 [N, 1, 8, 8] in 0..1, and their classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[:, None] / 16).astype(np.float32), data.target


def trained() -> DigitsCnn:
    """The network after 15 epochs on all but the last 300 digits."""
    torch.manual_seed(0)
    images, labels = (torch.from_numpy(values[:-300]) for values in digits())
    model = DigitsCnn()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(15):
        for chosen in torch.split(torch.randperm(len(images)), 64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def with_weights(path: Path) -> DigitsCnn:
    """The network with the weights of a file that `main` wrote."""
    model = DigitsCnn()
    with np.load(path) as stored:
        state = {name: torch.from_numpy(stored[name]) for name in stored.files}
    model.load_state_dict(state, strict=False)
    return model.eval()


def main(folder: Path) -> None:
    model, example = trained(), torch.zeros(2, 1, 8, 8)
    state = {name: value.numpy() for name, value in model.state_dict().items() if value.dim()}
    np.savez(folder / WEIGHTS, **state)
    free = {"x": {0: "batch"}}
    torch.onnx.export(
        model,
        (example,),
        folder / "digits_torchscript.onnx",
        dynamo=False,
        input_names=["x"],
        dynamic_axes=free,
    )
    torch.onnx.export(
        model,
        (example,),
        folder / "digits_dynamo.onnx",
        dynamo=True,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
