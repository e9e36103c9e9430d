"""Messages for operators without an integrate-and-fire equivalent: what is allowed, what to do."""

from __future__ import annotations

from dataclasses import replace

from icsnn_deploy.conversion.frontend.builder import Unsupported
from icsnn_deploy.errors import Rejection

_PIECEWISE_LINEAR = (
    "activations that are continuous and piecewise linear (ReLU, LeakyReLU, PReLU, clips, "
    "Hardsigmoid, abs), a declared clip or QCFS activation"
)
APPROXIMATE = "Convert with --approximate (approximate=Approximation()), which fits it. Or "
"""Advice that a call which is refused although approximations were asked for does not get."""

_ACTIVATION = (_PIECEWISE_LINEAR, "Replace it by ReLU and retrain.")
_FITTED = (_PIECEWISE_LINEAR, f"{APPROXIMATE}replace it by ReLU and retrain.")
_LIKE_CLIPS = (
    _PIECEWISE_LINEAR,
    f"{APPROXIMATE}replace it by a clip of the same range, such as Hardtanh or Hardsigmoid, and "
    "retrain.",
)
_BY_HOST = (
    f"{_PIECEWISE_LINEAR}; as the last operation of the model, which the host computes",
    f"{APPROXIMATE}replace it by a clip of the same range, such as Hardtanh or Hardsigmoid, and "
    "retrain.",
)
_ROUNDED = (
    _PIECEWISE_LINEAR,
    "If it is part of an activation with quantization levels, declare that module: "
    "--activation CLASS:BOUND:LEVELS. Otherwise remove it and retrain.",
)
_COMPARED = (
    "comparisons >, >=, < and <=, in where(...) or a product with the tensor they come from",
    "Write it as a rectifier, or replace it and retrain.",
)
_OTHER_POOL = (
    "MaxPool, AvgPool, strided convolution",
    "Replace it by MaxPool2d, AvgPool2d or a strided convolution and retrain.",
)
_UNPOOL = (
    "Upsample, ConvTranspose, PixelShuffle",
    "Pool without indices, replace it by Upsample or ConvTranspose2d, and retrain.",
)
_OTHER_NORM = (
    "BatchNorm and InstanceNorm with running statistics",
    "Its statistics depend on each sample; replace it by batch normalization and retrain.",
)
_SOFTMAX = (
    "a softmax as the last operation of the model, which the host computes",
    "If only moves of values follow it, put it after them, so that it is the last one. Otherwise "
    "remove it and retrain.",
)
_RECURRENT = ("feed-forward layers", "Replace it by convolutions or linear layers and retrain.")
_ATTENTION = ("convolution, linear", "Attention multiplies activations; use a convolutional model.")
_PRODUCT = (
    "products with constants, and with masks of the same tensor",
    "Remove the product of activations and retrain.",
)
_MATRIX = (
    "products with one constant matrix: x @ W, F.linear, a 1x1 convolution",
    "If one operand is constant, write it as one of these. Otherwise remove it and retrain.",
)
_VALUE = ("a forward that does not look at values", "Remove what depends on single values.")
_CHOICE = (
    "the largest and the smallest value (max, amax, MaxPool), without indices; argmax as the last "
    "operation of the model, which the host computes",
    "Return the values that it reads as an output, and let the host choose.",
)
_WRITE = (
    "operators that move values without indices that depend on data (slices, torch.cat, F.pad)",
    "Build the tensor by torch.cat of slices, or multiply by a constant mask of 0 and 1.",
)
_CUBE = (
    "one or two spatial axes; Conv3d, BatchNorm3d and average pooling over three",
    "Use the 1d or 2d form.",
)
_DEVIATION = (
    "means and sums over axes of a sample, abs",
    "It is not piecewise linear; use x.abs().mean(...) for it, or batch normalization in place of "
    "a division by it, and retrain.",
)
_LOOKUP = (
    "inputs of numbers that layers compute with",
    "Look the vectors up on the host, and convert the part of the model that reads them.",
)
_SPECTRUM = (
    "real numbers",
    "Compute the spectrum on the host, and convert the part of the model that reads it.",
)
_TYPE = ("float32 and float64", "Remove the conversion, or do it on the host.")
_SIMPLE = (
    "convolution, linear, batch norm, piecewise-linear activations, max and average pooling, "
    "resizing, sums, means, products with constants, operators that only move values (reshape, "
    "permute, slice, cat, pad, ...)",
    "Rewrite the model with these, or move the operator out of the network.",
)

_GROUPS: tuple[tuple[str, tuple[str, str]], ...] = (
    (
        "gelu silu swish mish elu selu celu hardswish tanhshrink softplus softsign glu erf square",
        _FITTED,
    ),
    ("exp expm1 log log1p pow sqrt rsqrt reciprocal sin cos", _ACTIVATION),
    ("sigmoid tanh logsigmoid", _BY_HOST),
    ("atan", _LIKE_CLIPS),
    ("floor ceil round trunc fix frac mod remainder fmod floordiv floordivide", _ROUNDED),
    ("eq ne equal notequal isclose xor logicalxor bitwisexor heaviside", _COMPARED),
    ("softmax logsoftmax softmin softmax2d logsumexp", _SOFTMAX),
    (
        "layernorm groupnorm rmsnorm nativelayernorm nativegroupnorm localresponsenorm normalize "
        "crossmaplrn2d",
        _OTHER_NORM,
    ),
    ("lstm gru rnn lstmcell grucell rnncell rnntanh rnnrelu", _RECURRENT),
    ("multiheadattention scaleddotproductattention", _ATTENTION),
    ("bmm baddbmm einsum tensordot mv dot", _MATRIX),
    ("prod cumprod cdist cosinesimilarity bilinear outer", _PRODUCT),
    ("item tolist any all", _VALUE),
    ("argmax argmin topk sort argsort median kthvalue mode", _CHOICE),
    (
        "setitem fill copy indexput indexfill indexadd indexcopy scatter scatteradd maskedscatter "
        "maskedselect nonzero",
        _WRITE,
    ),
    (
        "convtranspose3d instancenorm3d maxpool3d adaptivemaxpool3d fractionalmaxpool3d "
        "reflectionpad3d replicationpad3d circularpad3d constantpad3d zeropad3d dropout3d",
        _CUBE,
    ),
    ("norm var std varmean stdmean vectornorm linalgvectornorm linalgnorm", _DEVIATION),
    ("embedding embeddingbag onehot", _LOOKUP),
    ("stft istft", _SPECTRUM),
    ("half bfloat16 long int short byte bool", _TYPE),
)
_KNOWN = {name: text for names, text in _GROUPS for name in names.split()}

_FAMILIES = {
    "fractionalmaxpool": _OTHER_POOL,
    "lppool": _OTHER_POOL,
    "maxunpool": _UNPOOL,
    "transformer": _ATTENTION,
    "fft": _SPECTRUM,
}


def unsupported(operator: str, got: str) -> Unsupported:
    """The error for an operator: what is allowed instead, and what to do."""
    key = operator.split(".")[-1].replace("_", "").lower()
    family = next((text for prefix, text in _FAMILIES.items() if key.startswith(prefix)), _SIMPLE)
    allowed, remedy = _KNOWN.get(key, family)
    return Unsupported(got=got, allowed=allowed, remedy=remedy)


def without_approximation(rejection: Rejection) -> Rejection:
    """The same without the advice to approximate."""
    advice = rejection.remedy.removeprefix(APPROXIMATE)
    return replace(rejection, remedy=advice[:1].upper() + advice[1:])


def untraceable(got: str) -> Unsupported:
    """The error for a module whose forward torch.fx cannot trace."""
    return Unsupported(
        got=got,
        allowed="a forward without control flow that depends on data",
        remedy="Rewrite it with plain operators, or declare it if it is a clip or QCFS activation.",
    )
