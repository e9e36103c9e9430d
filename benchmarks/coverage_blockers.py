"""Which operators hold networks back, from the reasons of their refusals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_LABELS = tuple(
    (re.compile(pattern), label)
    for pattern, label in (
        (r"exactly one tensor that depends", "several outputs"),
        (r"takes the inputs", "several inputs"),
        (r"can't be traced|control flow", "a forward that can't be traced"),
        (r"batch axis|the batch", "batch axis changed"),
        (r"^Linear: an input|^linear: an input", "Linear on more than [B, F]"),
        (
            r"^MaxPool\w*: padding|^max_pool\w*: padding|may be negative",
            "MaxPool padding of signed values",
        ),
        (r"^MaxPool\w*: return_indices", "indices of a MaxPool"),
        (r"^(chunk|split|unbind|tensor_split|split_with_sizes)", "chunk, split or unbind"),
        (
            r"^(transpose|permute|swapaxes|movedim|ChannelShuffle|channel_shuffle|rearrange|T\b|mT\b)",
            "permute or transpose",
        ),
        (r"^(reshape|view|Unflatten|unflatten|flatten|squeeze|unsqueeze)", "reshape"),
        (r"^(Upsample|Upsampling\w*|interpolate|upsample)", "resizing"),
        (r"^ConvTranspose|^conv_transpose", "ConvTranspose"),
        (r"^(PixelShuffle|pixel_shuffle|PixelUnshuffle|pixel_unshuffle)", "PixelShuffle"),
        (r"^(LeakyReLU|leaky_relu)", "LeakyReLU"),
        (r"^(PReLU|prelu)", "PReLU"),
        (r"^(getitem|select|index)", "index that drops or gathers an axis"),
        (r"^(mean|sum)\b", "mean or sum over other axes"),
        (
            r"^(AdaptiveAvgPool|adaptive_avg|AdaptiveMaxPool|adaptive_max)",
            "adaptive pooling, uneven",
        ),
        (r"^(AvgPool|avg_pool)", "AvgPool with uncommon options"),
        (
            r"^(ReflectionPad|ReplicationPad|ConstantPad|CircularPad|pad\b)|padding_mode",
            "non-zero padding",
        ),
        (r"^(Conv2d|Conv1d)\b.*padd", "non-zero padding"),
        (r"^(mul|imul|multiply)\b", "product"),
        (r"^(matmul|bmm|einsum|scaled_dot|MultiheadAttention|baddbmm)", "matrix product"),
        (r"^(truediv|div|divide)\b", "quotient"),
        (r"^(Softmax|softmax|log_softmax|LogSoftmax)", "softmax"),
        (r"^(Sigmoid|sigmoid)", "sigmoid"),
        (r"^(Tanh|tanh)", "tanh"),
        (r"^(Hardsigmoid|hardsigmoid|HardSigmoid)", "Hardsigmoid"),
        (r"^(Hardswish|hardswish|HardSwish)", "Hardswish"),
        (r"^(SiLU|silu|Swish)", "SiLU"),
        (r"^(GELU|gelu|QuickGELU|GELUTanh)", "GELU"),
        (r"^(LayerNorm\w*|layer_norm|RMSNorm|RmsNorm\w*)", "LayerNorm or RMSNorm"),
        (r"^(GroupNorm\w*|group_norm)", "GroupNorm"),
        (r"^(InstanceNorm\w*|instance_norm)", "InstanceNorm"),
        (r"^(add|iadd|sub|isub|rsub)\b", "sum of different shapes"),
        (
            r"^(Conv3d|conv3d|BatchNorm3d|MaxPool3d|AvgPool3d|AdaptiveAvgPool3d)",
            "three spatial axes",
        ),
        (r"^(max|min|amax|amin|maximum|minimum)\b", "maximum or minimum"),
        (r"does not reproduce", "the trace does not reproduce the model"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Blocker:
    """An operator that networks are refused for.

    Attributes:
        label: of the operator.
        networks: that have it among their reasons.
        alone: that have no other reason.
    """

    label: str
    networks: tuple[str, ...]
    alone: tuple[str, ...]


def reasons(record: Mapping[str, Any]) -> frozenset[str]:
    """Labels of everything that a record's refusal names."""
    if record["status"] in ("crashed", "wrong", "imprecise", "limit"):
        return frozenset({f"({record['status']})"})
    if record["status"] != "refused":
        return frozenset()
    table = record.get("rejections") or [["", record["error"].splitlines()[0], "", ""]]
    return frozenset(label_of(got) for _, got, _, _ in table)


def label_of(got: str) -> str:
    """A label for what a rejection says was got; its first word where none is known."""
    for pattern, label in _LABELS:
        if pattern.search(got):
            return label
    return re.split(r"[:(,;]| of | with ", got)[0].strip()[:60] or got[:60]


def rank(records: Iterable[Mapping[str, Any]]) -> list[Blocker]:
    """Blockers of these records, those that hold most networks back first."""
    networks: dict[str, list[str]] = {}
    alone: dict[str, list[str]] = {}
    for record in records:
        found = reasons(record)
        for label in found:
            networks.setdefault(label, []).append(record["name"])
            if len(found) == 1:
                alone.setdefault(label, []).append(record["name"])
    count = Counter({label: len(names) for label, names in networks.items()})
    return [
        Blocker(label=label, networks=tuple(networks[label]), alone=tuple(alone.get(label, ())))
        for label, _ in sorted(count.items(), key=lambda item: (-item[1], item[0]))
    ]
