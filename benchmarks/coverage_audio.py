"""Networks for audio, keyword spotting, time series and biosignals."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from coverage_classifiers import conv_bn, head
from coverage_zoo import Architecture, handwritten
from torch import Tensor, nn


def conv_bn_1d(
    c_in: int, c_out: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution that keeps the length at stride 1, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv1d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(c_out), nn.ReLU())


class M5(nn.Module):
    """M5 of "Very deep convolutional neural networks for raw waveforms".

    The pooling is over all that is left, and the result is permuted before the last layer.
    """

    def __init__(self, width: int = 8, log_softmax: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, width, 80, stride=16)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3)
        self.bn2 = nn.BatchNorm1d(width)
        self.conv3 = nn.Conv1d(width, 2 * width, 3)
        self.bn3 = nn.BatchNorm1d(2 * width)
        self.pool = nn.MaxPool1d(4)
        self.fc1 = nn.Linear(2 * width, 10)
        self.log_softmax = log_softmax

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.pool(F.relu(self.bn2(self.conv2(x))))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.avg_pool1d(x, x.shape[-1])
        x = self.fc1(x.permute(0, 2, 1))  # [B, 1, classes]
        return F.log_softmax(x, dim=2) if self.log_softmax else x


def ds_cnn() -> nn.Module:
    """DS-CNN of "Hello Edge"."""
    first = nn.Sequential(nn.Conv2d(1, 16, (10, 4), (2, 2), (5, 1)), nn.BatchNorm2d(16), nn.ReLU())
    blocks = [nn.Sequential(conv_bn(16, 16, 3, groups=16), conv_bn(16, 16, 1)) for _ in range(4)]
    return nn.Sequential(first, *blocks, nn.Dropout(0.2), head(16, 12))


class SpeechResidual(nn.Module):
    """res8 and res15 of "Deep residual learning for small-footprint keyword spotting"."""

    def __init__(self, layers: int, pool: bool, dilated: bool, width: int = 12) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.pool: nn.Module = nn.AvgPool2d((4, 3)) if pool else nn.Identity()
        rates = [2 ** (i // 3) if dilated else 1 for i in range(layers)]
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False) for rate in rates
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, affine=False) for _ in rates)
        self.output = nn.Linear(width, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv0(x)))
        old = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = F.relu(conv(x))
            if i % 2:
                y = y + old
                old = y
            x = norm(y)
        x = x.view(x.size(0), x.size(1), -1)  # [B, C, H * W]
        out: Tensor = self.output(torch.mean(x, 2))
        return out


class TemporalBlock(nn.Module):
    """Block of a temporal convolutional network: causal by padding and chopping."""

    def __init__(self, c_in: int, c_out: int, dilation: int) -> None:
        super().__init__()
        self.chop = 2 * dilation
        norm = nn.utils.parametrizations.weight_norm
        self.conv1 = norm(nn.Conv1d(c_in, c_out, 3, padding=self.chop, dilation=dilation))
        self.conv2 = norm(nn.Conv1d(c_out, c_out, 3, padding=self.chop, dilation=dilation))
        self.down = nn.Conv1d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x)[:, :, : -self.chop].contiguous())
        y = F.relu(self.conv2(y)[:, :, : -self.chop].contiguous())
        return F.relu(y + self.down(x))


class Tcn(nn.Module):
    """TCN that classifies by the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(TemporalBlock(8 if i else 4, 8, 2**i) for i in range(3)))
        self.linear = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.blocks(x)[:, :, -1])
        return out


class TcResidual(nn.Module):
    """Block of TC-ResNet."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn_1d(c_in, c_out, 9, 2),
            nn.Conv1d(c_out, c_out, 9, padding=4, bias=False),
            nn.BatchNorm1d(c_out),
        )
        self.short = conv_bn_1d(c_in, c_out, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


class InceptionTime(nn.Module):
    """Module of InceptionTime, with its bottleneck and pooling branch."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(c_in, 8, 1, bias=False)
        self.convs = nn.ModuleList(nn.Conv1d(8, 4, k, padding=k // 2) for k in (9, 19, 39))
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(c_in, 4, 1))
        self.norm = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.bottleneck(x)
        parts = [conv(narrow) for conv in self.convs] + [self.pooled(x)]
        return F.relu(self.norm(torch.cat(parts, 1)))


def fcn_series() -> nn.Module:
    """FCN of "Time series classification from scratch"."""
    body = [conv_bn_1d(2, 16, 7), conv_bn_1d(16, 32, 5), conv_bn_1d(32, 16, 3)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 5))


def ecg_cnn() -> nn.Module:
    """Plain stack with max poolings, as used for heartbeats."""
    body = [conv_bn_1d(1, 8, 5), nn.MaxPool1d(2), conv_bn_1d(8, 16, 5), nn.MaxPool1d(5, 2)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(16 * 29, 16), nn.ReLU(), nn.Linear(16, 5))


def matchbox() -> nn.Module:
    """Time-channel separable convolutions of MatchboxNet and QuartzNet."""
    blocks = [
        nn.Sequential(conv_bn_1d(16, 16, k, groups=16), conv_bn_1d(16, 16, 1)) for k in (13, 15, 17)
    ]
    last = [nn.Conv1d(16, 10, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    return nn.Sequential(conv_bn_1d(8, 16, 11, 2), *blocks, *last)


def wav2letter() -> nn.Module:
    """Clipped rectifiers, a score per step."""
    body = [nn.Conv1d(8, 16, 11, 2, 5), nn.Hardtanh(0, 20), nn.Conv1d(16, 16, 7, padding=3)]
    return nn.Sequential(*body, nn.Hardtanh(0, 20, inplace=True), nn.Conv1d(16, 10, 1))


def eegnet(act: type[nn.Module]) -> nn.Module:
    """EEGNet."""
    time = [nn.Conv2d(1, 4, (1, 16), padding="same", bias=False), nn.BatchNorm2d(4)]
    space = [nn.Conv2d(4, 8, (8, 1), groups=4, bias=False), nn.BatchNorm2d(8), act()]
    separable = [nn.Conv2d(8, 8, (1, 9), padding=(0, 4), groups=8), nn.Conv2d(8, 8, 1)]
    last = [nn.BatchNorm2d(8), act(), nn.AvgPool2d((1, 4)), nn.Flatten(), nn.Linear(32, 4)]
    return nn.Sequential(*time, *space, nn.AvgPool2d((1, 4)), nn.Dropout(), *separable, *last)


class Recurrent(nn.Module):
    """A recurrent layer that is read at its last step."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.rnn = kind(8, 16, batch_first=True)
        self.linear = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.rnn(x.transpose(1, 2))
        out: Tensor = self.linear(steps[:, -1])
        return out


class LastStep(nn.Module):
    """Dilated causal convolutions by padding on the left, residual, read at the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(8, 8, 2, dilation=2**i) for i in range(4))
        self.first = nn.Conv1d(2, 8, 1)
        self.last = nn.Conv1d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for i, conv in enumerate(self.convs):
            x = x + F.relu(conv(F.pad(x, (2**i, 0))))
        out: Tensor = self.last(F.relu(x))[..., -1]
        return out


def architectures() -> list[Architecture]:
    series, words, spectrum = ((2, 64),), ((8, 64),), ((1, 49, 10),)
    tc = [TcResidual(16, 16), TcResidual(16, 24)]
    return handwritten(
        {
            "m5": (M5, ((1, 4000),)),
            "m5-logits": (lambda: M5(log_softmax=False), ((1, 4000),)),
            "ds-cnn": (ds_cnn, spectrum),
            "res8": (lambda: SpeechResidual(6, True, False), ((1, 48, 12),)),
            "res15": (lambda: SpeechResidual(13, False, True, 6), ((1, 30, 12),)),
            "tc-resnet8": (
                lambda: nn.Sequential(
                    nn.Conv1d(8, 16, 3, padding=1, bias=False),
                    *tc,
                    nn.AdaptiveAvgPool1d(1),
                    nn.Flatten(),
                    nn.Linear(24, 10),
                ),
                words,
            ),
            "tcn": (Tcn, ((4, 32),)),
            "causal-residual": (LastStep, series),
            "inception-time": (
                lambda: nn.Sequential(
                    InceptionTime(2),
                    InceptionTime(16),
                    nn.AdaptiveAvgPool1d(1),
                    nn.Flatten(),
                    nn.Linear(16, 5),
                ),
                series,
            ),
            "fcn-time-series": (fcn_series, series),
            "ecg-cnn": (ecg_cnn, ((1, 125),)),
            "matchboxnet": (matchbox, words),
            "wav2letter": (wav2letter, words),
            "eegnet-elu": (lambda: eegnet(nn.ELU), ((1, 8, 64),)),
            "eegnet-relu": (lambda: eegnet(nn.ReLU), ((1, 8, 64),)),
            "lstm": (lambda: Recurrent(nn.LSTM), words),
            "gru": (lambda: Recurrent(nn.GRU), words),
        }
    )
