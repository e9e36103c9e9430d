"""Networks for sets, point clouds, graphs and text."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from coverage_audio import conv_bn_1d
from coverage_structure import mlp
from coverage_zoo import Architecture, handwritten
from torch import Tensor, nn


class PointNet(nn.Module):
    """PointNet, [B, 3, points]; with the transformation network, which multiplies by its output."""

    def __init__(self, transform: bool, segmentation: bool = False) -> None:
        super().__init__()
        self.transform, self.segmentation = transform, segmentation
        self.tnet = nn.Sequential(
            *(conv_bn_1d(3, 8, 1), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 9)),
        )
        self.local = conv_bn_1d(3, 8, 1)
        self.features = nn.Sequential(
            conv_bn_1d(8, 16, 1), nn.Conv1d(16, 32, 1), nn.BatchNorm1d(32)
        )
        self.classify = mlp(32, 16, 10, norm=True)
        self.label = nn.Sequential(conv_bn_1d(40, 16, 1), nn.Conv1d(16, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.transform:
            matrix = self.tnet(x).view(-1, 3, 3) + torch.eye(3)
            x = torch.bmm(x.transpose(2, 1), matrix).transpose(2, 1)
        local = self.local(x)
        y = torch.max(self.features(local), 2, keepdim=True)[0]
        y = y.view(-1, 32)
        if self.segmentation:
            whole = y.view(-1, 32, 1).repeat(1, 1, x.size(2))
            out: Tensor = self.label(torch.cat([whole, local], 1))
            return out
        scores: Tensor = self.classify(y)
        return scores


class DeepSets(nn.Module):
    """A sum over the elements of a set, [B, elements, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.whole = nn.Sequential(mlp(4, 16, 16), nn.ReLU()), mlp(16, 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.whole(self.each(x).sum(dim=1))
        return out


class GraphConvolution(nn.Module):
    """GCN on a fixed graph: the adjacency matrix is a buffer."""

    adjacency: Tensor

    def __init__(self, nodes: int = 10) -> None:
        super().__init__()
        edges = (torch.rand(nodes, nodes) < 0.3).float() + torch.eye(nodes)
        self.register_buffer("adjacency", edges / edges.sum(1, keepdim=True))
        self.first, self.second = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(torch.matmul(self.adjacency, self.first(x)))
        return torch.matmul(self.adjacency, self.second(x))


class TextCnn(nn.Module):
    """Convolutions of several widths over embedded words, each pooled over all of the text."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.convs = nn.ModuleList(nn.Conv1d(8, 8, width) for width in (2, 3, 4))
        self.out = nn.Linear(24, 2)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embedding(words).permute(0, 2, 1)  # [B, 8, words]
        pooled = [F.relu(conv(x)).max(dim=2).values for conv in self.convs]
        out: Tensor = self.out(torch.cat(pooled, dim=1))
        return out


def architectures() -> list[Architecture]:
    points = ((3, 32),)
    text = Architecture(name="plain/text-cnn", build=TextCnn, inputs=((12,),), classes=50)
    return [
        *handwritten(
            {
                "pointnet": (lambda: PointNet(False), points),
                "pointnet-segmentation": (lambda: PointNet(False, True), points),
                "pointnet-transform": (lambda: PointNet(True), points),
                "deep-sets": (DeepSets, ((6, 4),)),
                "graph-convolution": (GraphConvolution, ((10, 4),)),
            }
        ),
        text,
    ]
