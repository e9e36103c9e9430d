"""Which operators of a model are neither linear nor piecewise linear, found while it runs.

Every aten operator that depends on the input is recorded. Operators whose result is not used do not
count, nor do those at the very end of the model, which a host can compute from the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from coverage_build import leaves
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

SMOOTH = {
    "sigmoid": "sigmoid log_sigmoid_forward",
    "tanh": "tanh",
    "SiLU": "silu",
    "GELU": "gelu",
    "Hardswish": "hardswish",
    "Mish": "mish",
    "ELU, SELU or CELU": "elu celu selu",
    "softplus": "softplus",
    "softmax": "_softmax _log_softmax logsumexp _safe_softmax",
    "exp, log or a power": "exp exp2 expm1 log log2 log10 log1p pow sqrt rsqrt reciprocal erf",
    "sine or cosine": "sin cos atan2 atan",
    "LayerNorm": "native_layer_norm _fused_rms_norm",
    "GroupNorm": "native_group_norm",
    "standard deviation or 2-norm": "var var_mean std std_mean linalg_vector_norm norm",
    "GLU": "glu",
    "attention": "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math "
    "_native_multi_head_attention _transformer_encoder_layer_fwd scaled_dot_product_attention",
    "recurrent layer": "mkldnn_rnn_layer lstm gru rnn_tanh rnn_relu _thnn_fused_lstm_cell",
    "Hardshrink": "hardshrink",
    "steps (floor, round, sign)": "floor ceil round trunc sign fmod remainder frac bucketize",
    "choice by data (argmax, sort, top-k)": "argmax argmin sort topk kthvalue median nonzero "
    "unique2 nms masked_select histc",
    "unpooling by indices": "max_unpool2d max_unpool3d",
    "sampling by data": "grid_sampler_2d grid_sampler_3d deform_conv2d roi_align",
    "lookup of an integer input": "embedding _embedding_bag one_hot",
    "value of data in control flow": "_local_scalar_dense is_nonzero equal",
    "Fourier transform": "_fft_r2c _fft_c2c _fft_c2r",
}
_LABEL = {operator: label for label, names in SMOOTH.items() for operator in names.split()}

_PRODUCT = "product of two tensors"
_QUOTIENT = "division by data"
_CHOICE = "comparison or mask by data"
_BATCH_STATISTICS = "normalization by statistics of the sample"
_COMPARISONS = frozenset({"gt", "ge", "lt", "le", "eq", "ne"})
_MOVING = (
    "view _unsafe_view reshape permute transpose t clone _to_copy alias detach squeeze unsqueeze "
    "expand slice select cat stack copy copy_ contiguous unbind split split_with_sizes narrow "
    "as_strided _reshape_alias lift_fresh"
)
_MOVEMENTS = frozenset(_MOVING.split())
_MULTIPLYING = "mul bmm mm addmm baddbmm dot mv convolution addcmul matmul addbmm"
_BILINEAR = frozenset(_MULTIPLYING.split())


@dataclass(frozen=True, kw_only=True)
class Call:
    """One operator that depends on the input: its label where it is smooth, and its memory."""

    operator: str
    label: str
    sources: frozenset[int]
    results: frozenset[int]


class _Log(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records calls; a tensor is known by its storage, so that views and in-place calls count."""

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.kept = list(inputs)  # alive, so that no storage is used twice
        self.tainted = {_storage(tensor) for tensor in self.kept}
        self.masks: dict[int, frozenset[int]] = {}  # of comparisons: what was compared

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        operands = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        sources = [_storage(t) for t in operands]
        if not self.tainted & set(sources):
            return result
        results = [t for t in pytree.tree_leaves(result) if isinstance(t, Tensor)]
        operator = func.overloadpacket.__name__
        name = operator if operator in _MOVEMENTS else operator.rstrip("_")
        data = frozenset(self.tainted & set(sources))
        produced = frozenset(_storage(t) for t in results)
        label = self._label(name, args, sources)
        self.calls.append(Call(operator=name, label=label, sources=data, results=produced))
        self.kept += results
        self.tainted |= produced
        if name in _COMPARISONS:
            self.masks |= dict.fromkeys(produced, data)
        elif name in _MOVEMENTS and len(data) == 1 and data <= set(self.masks):
            self.masks |= dict.fromkeys(produced, self.masks[min(data)])
        return result

    def _label(self, name: str, args: Sequence[Any], sources: Sequence[int]) -> str:
        """Why the call is not piecewise linear, or an empty string."""
        data = [source for source in sources if source in self.tainted]
        masks = [source for source in data if source in self.masks]
        if name in ("linalg_vector_norm", "norm") and len(args) > 1 and args[1] in (1, 1.0):
            return ""
        if name in _LABEL:
            return _LABEL[name]
        if name in (
            "native_batch_norm",
            "_native_batch_norm_legit",
            "_native_batch_norm_legit_functional",
        ):
            return _BATCH_STATISTICS if name.startswith("_") or args[5] else ""
        if name in ("where", "masked_fill", "mul") and masks:
            compared = frozenset().union(*(self.masks[mask] for mask in masks))
            rest = {source for source in data if source not in masks}
            return "" if rest <= compared else _CHOICE
        if name in _BILINEAR and self._two_factors(name, args):
            return _PRODUCT
        if name == "div" and isinstance(args[1], Tensor) and _storage(args[1]) in self.tainted:
            return _QUOTIENT
        if name in ("index", "gather", "index_select", "scatter", "index_put") and self._by_data(
            args
        ):
            return _CHOICE
        return ""

    def _two_factors(self, name: str, args: Sequence[Any]) -> bool:
        # The first operand of these is added, not multiplied.
        factors = args[1:3] if name in ("addmm", "baddbmm", "addcmul", "addbmm") else args[:2]
        return all(isinstance(f, Tensor) and _storage(f) in self.tainted for f in factors)

    def _by_data(self, args: Sequence[Any]) -> bool:
        indices = [t for t in pytree.tree_leaves(args[1:]) if isinstance(t, Tensor)]
        return any(not t.is_floating_point() and _storage(t) in self.tainted for t in indices)


def operators_of(model: nn.Module, inputs: Sequence[Tensor]) -> tuple[list[str], list[str]]:
    """Operators of a run of the model that depend on its input.

    Args:
        model: in eval mode.
        inputs: [B, *shape] each.

    Returns:
        labels of those that are neither linear nor piecewise linear, and aten's names of all.
    """
    log = _Log(inputs)
    with torch.no_grad(), log:
        result = model(*inputs)
    outputs = {_storage(tensor) for tensor in leaves(result)}
    return sorted(_counted(log.calls, outputs)), sorted({call.operator for call in log.calls})


def _counted(calls: Sequence[Call], outputs: set[int]) -> set[str]:
    """Labels of the calls whose result is used, and not only moved to the output."""
    live = set(outputs)  # storages that are read later
    inner = set[int]()  # storages that are computed with later, not only moved
    labels = set()
    for call in reversed(calls):
        if not call.results & live and call.results:
            continue
        last = not call.results & inner and call.results
        if call.label and not last:
            labels.add(call.label)
        live |= call.sources
        if not (last and call.operator in _MOVEMENTS):
            inner |= call.sources
    return labels


def _storage(tensor: Tensor) -> int:
    cdata: int = tensor.untyped_storage()._cdata
    return cdata
