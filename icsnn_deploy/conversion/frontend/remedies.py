"""Messages for operators without an integrate-and-fire equivalent: what is allowed, what to do."""

from __future__ import annotations

from icsnn_deploy.conversion.frontend.builder import Unsupported

_PIECEWISE_LINEAR = (
    "activations that are continuous and piecewise linear (ReLU, LeakyReLU, PReLU, clips, "
    "Hardsigmoid, abs), a declared clip or QCFS activation"
)
_ACTIVATION = (_PIECEWISE_LINEAR, "Replace it by ReLU and retrain.")
_LIKE_CLIPS = (
    _PIECEWISE_LINEAR,
    "Replace it by a clip of the same range, such as Hardtanh or Hardsigmoid, and retrain.",
)
_ROUNDED = (
    _PIECEWISE_LINEAR,
    "If it is part of an activation with quantization levels, declare that module: "
    "--activation CLASS:BOUND:LEVELS. Otherwise remove it and retrain.",
)
_EQUALITY = (
    "comparisons >, >=, < and <=, in where(...) or a product with the tensor they come from",
    "Write it as a rectifier, or replace it and retrain.",
)
_OTHER_POOL = (
    "MaxPool, AvgPool, strided convolution",
    "Replace it by MaxPool2d, AvgPool2d or a strided convolution and retrain.",
)
_OTHER_NORM = (
    "BatchNorm1d, BatchNorm2d",
    "Its statistics depend on each sample; replace it by batch normalization and retrain.",
)
_SOFTMAX = ("logits as the output", "Remove it: it does not change which class is largest.")
_RECURRENT = ("feed-forward layers", "Replace it by convolutions or linear layers and retrain.")
_ATTENTION = ("convolution, linear", "Attention multiplies activations; use a convolutional model.")
_JOIN = (
    "addition of tensors of one shape, torch.cat along the channels",
    "Use a sum, or concatenate along dim=1.",
)
_PERMUTE = ("flattening to [B, features]", "Keep the channels-first order, without transposing.")
_TRANSPOSED = ("Conv1d, Conv2d", "Replace it by a convolution.")
_RESIZE = ("AvgPool, strided convolution", "Remove the resizing, or do it before the network.")
_VALUE = ("a forward that does not look at values", "Remove what depends on single values.")
_INDEX = ("slices start:stop:step", "Use slices that keep every axis.")
_CUBE = ("one or two spatial axes", "Use the 1d or 2d form.")
_REDUCE = ("mean over the spatial axes", "Use x.mean([2, 3]) and retrain or rescale.")
_EXTREME = (
    "MaxPool, torch.maximum of two tensors",
    "Write the largest over space as F.adaptive_max_pool2d(x, 1), the larger of two tensors as "
    "torch.maximum(a, b).",
)
_SIMPLE = (
    "convolution, linear, batch norm, piecewise-linear activations, max and average pooling, "
    "flatten, addition, "
    "concatenation of channels, scaling by constants, slicing, zero padding",
    "Rewrite the model with these, or move the operator out of the network.",
)

_GROUPS: tuple[tuple[str, tuple[str, str]], ...] = (
    (
        "gelu silu swish mish elu selu celu hardswish tanhshrink softplus logsigmoid glu exp erf "
        "square pow sqrt",
        _ACTIVATION,
    ),
    ("sigmoid tanh softsign", _LIKE_CLIPS),
    ("floor ceil round trunc fix frac", _ROUNDED),
    ("eq ne equal notequal isclose xor logicalxor bitwisexor", _EQUALITY),
    ("softmax logsoftmax softmin softmax2d", _SOFTMAX),
    (
        "layernorm groupnorm rmsnorm nativelayernorm nativegroupnorm localresponsenorm normalize",
        _OTHER_NORM,
    ),
    ("lstm gru rnn lstmcell grucell rnncell rnntanh rnnrelu", _RECURRENT),
    ("multiheadattention scaleddotproductattention bmm einsum", _ATTENTION),
    ("stack hstack vstack dstack", _JOIN),
    ("permute transpose t swapaxes movedim pixelshuffle channelshuffle", _PERMUTE),
    ("item tolist argmax argmin topk sort any all", _VALUE),
    ("select indexselect index gather setitem unbind", _INDEX),
    (
        "conv3d batchnorm3d avgpool3d adaptiveavgpool3d maxpool3d adaptivemaxpool3d",
        _CUBE,
    ),
    ("sum norm var std", _REDUCE),
    ("max min amax amin", _EXTREME),
)
_KNOWN = {name: text for names, text in _GROUPS for name in names.split()}

_FAMILIES = {
    "fractionalmaxpool": _OTHER_POOL,
    "lppool": _OTHER_POOL,
    "upsample": _RESIZE,
    "instancenorm": _OTHER_NORM,
    "maxunpool": _RESIZE,
    "interpolate": _RESIZE,
    "convtranspose": _TRANSPOSED,
    "transformer": _ATTENTION,
}


def unsupported(operator: str, got: str) -> Unsupported:
    """The error for an operator: what is allowed instead, and what to do."""
    key = operator.split(".")[-1].replace("_", "").lower()
    family = next((text for prefix, text in _FAMILIES.items() if key.startswith(prefix)), _SIMPLE)
    allowed, remedy = _KNOWN.get(key, family)
    return Unsupported(got=got, allowed=allowed, remedy=remedy)


def untraceable(got: str) -> Unsupported:
    """The error for a module whose forward torch.fx cannot trace."""
    return Unsupported(
        got=got,
        allowed="a forward without control flow that depends on data",
        remedy="Rewrite it with plain operators, or declare it if it is a clip or QCFS activation.",
    )
