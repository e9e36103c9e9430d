"""Small ONNX models in many legal spellings of the same layers, in onnx's text format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from icsnn_deploy.graph.neuron import Array

Constants = Mapping[str, Array]
_IMAGE = "float[N,3,8,10] x"


def values(*shape: int, seed: int = 0, scale: float = 0.4) -> Array:
    """Random float32 weights."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def integers(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def model(
    body: str,
    constants: Constants | None = None,
    *,
    opset: int = 13,
    inputs: str = _IMAGE,
    outputs: str = "float[N] y",
    **more: Array | np.generic,
) -> onnx.ModelProto:
    """A model of one graph.

    Args:
        body: the nodes in onnx's text format.
        constants: the initializers.
        opset: version of the operator set.
        inputs: with types and shapes.
        outputs: with types; their shapes are left out.
        more: further initializers.
    """
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    g ({inputs}) => ({outputs}) {{ {body} }}"""
    made = onnx.parser.parse_model(text)
    for output in made.graph.output:
        output.type.tensor_type.ClearField("shape")
    for name, array in {**(constants or {}), **more}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return made


CONV: Constants = {"w": values(4, 3, 3, 3), "b": values(4, seed=1), "v": values(5, 4, 3, 3, seed=2)}
DOUBLED = np.array([1, 1, 2, 2], np.float32)
_END = "y = Conv<pads=[1,1,1,1]>(r, v)"


def between(nodes: str, constants: Constants | None = None, **options: Any) -> onnx.ModelProto:
    """A convolution of x to c [N, 4, 8, 10], the nodes from c to r, and a convolution of r to y."""
    body = f"c = Conv<pads=[1,1,1,1]>(x, w, b) {nodes} {_END}"
    return model(body, {**CONV, **(constants or {})}, **options)


def flat(nodes: str, constants: Constants | None = None, **options: Any) -> onnx.ModelProto:
    """A vector x [N, 6], the nodes from x to y."""
    return model(nodes, constants, inputs="float[N,6] x", **options)


def in_nhwc(nodes: str, constants: Constants | None = None, **options: Any) -> onnx.ModelProto:
    """As `between`, but c and r are [N, 8, 10, 4]."""
    body = f"""c0 = Conv<pads=[1,1,1,1]>(x, w, b)
    c = Transpose<perm=[0,2,3,1]>(c0) {nodes} r0 = Transpose<perm=[0,3,1,2]>(r)
    y = Conv<pads=[1,1,1,1]>(r0, v)"""
    return model(body, {**CONV, **(constants or {})}, **options)


def _quantized_weights() -> onnx.ModelProto:
    scale, zero = np.array([0.01, 0.02, 0.03, 0.04], np.float32), np.array([0, 0, 0, 0], np.int8)
    levels = np.random.default_rng(5).integers(-90, 90, (4, 3, 3, 3)).astype(np.int8)
    return model(
        """d = DequantizeLinear<axis=0>(q, s, z) c = Conv(x, d) r = Relu(c)
        wq = QuantizeLinear(v, s0, z0) wd = DequantizeLinear(wq, s0, z0) y = Conv(r, wd)""",
        {"q": levels, "s": scale, "z": zero, "v": CONV["v"]},
        s0=np.float32(0.015),
        z0=np.int8(0),
    )


def _old_file() -> onnx.ModelProto:
    """Constants are listed among the inputs, as before IR version 4."""
    made = model("c = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(c)", CONV, opset=9)
    made.ir_version = 3
    for one in made.graph.initializer:
        kind = onnx.helper.make_tensor_value_info(one.name, one.data_type, list(one.dims))
        made.graph.input.append(kind)
    return made


def _strange_names() -> onnx.ModelProto:
    made = between("r = Relu(c)")
    for node, name in zip(made.graph.node, ["", "forward", "/a/a.b/Relu 1"], strict=False):
        node.name = name
    made.graph.input[0].name = made.graph.node[0].input[0] = "serving_default_x:0"
    made.graph.output[0].name = made.graph.node[-1].output[0] = "Identity:0"
    return made


def _stored_as(kind: type[np.generic]) -> onnx.ModelProto:
    made = flat("m = Gemm(x, w, b) y = Relu(m)", {"w": values(6, 4), "b": values(4)})
    for one in made.graph.initializer:
        one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype(kind), one.name))
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = number
    return made


_CONSTANT_KINDS = """two = Constant<value_float=2.0>()
half = Constant<value_floats=[0.5,1.5,-1.0,2.0]>()
four = Constant<value_ints=[1,4,1,1]>() k = Reshape(half, four) m = Mul(c, two) n = Mul(m, k)
r = Relu(n)"""

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "conv, auto_pad SAME_UPPER": lambda: model(
        'c = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w, b) y = Relu(c)', CONV
    ),
    "conv, auto_pad SAME_LOWER": lambda: model(
        'c = Conv<auto_pad="SAME_LOWER", strides=[3,2]>(x, w, b) y = Relu(c)', CONV
    ),
    "conv, auto_pad VALID": lambda: model('y = Conv<auto_pad="VALID">(x, w)', CONV),
    "conv, uneven pads": lambda: model("y = Conv<pads=[0,2,1,1]>(x, w, b)", CONV),
    "conv, groups and dilation": lambda: between(
        "d = Conv<group=2, dilations=[2,1], pads=[2,1,2,1]>(c, u) r = Relu(d)",
        {"u": values(4, 2, 3, 3)},
    ),
    "conv of a signal": lambda: model(
        "c = Conv<pads=[1,1], strides=[2]>(x, w) y = Relu(c)",
        inputs="float[N,3,9] x",
        w=values(4, 3, 3),
    ),
    "gemm, alpha and beta": lambda: flat(
        "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)", {"w": values(6, 4), "b": values(4)}
    ),
    "gemm, transB and a bias of two axes": lambda: flat(
        "y = Gemm<transB=1>(x, w, b)", {"w": values(4, 6), "b": values(1, 4)}
    ),
    "gemm, one number as bias": lambda: flat(
        "y = Gemm(x, w, b)", {"w": values(6, 4), "b": values(1)}
    ),
    "gemm without bias": lambda: flat("y = Gemm(x, w)", w=values(6, 4)),
    "matmul and add": lambda: flat(
        "m = MatMul(x, w) a = Add(b, m) y = Relu(a)", {"w": values(6, 4), "b": values(4)}
    ),
    "matmul of tokens": lambda: in_nhwc("m = MatMul(c, u) r = Relu(m)", u=values(4, 4)),
    "clip, bounds as inputs": lambda: between(
        "r = Clip(c, lo, hi)", lo=np.float32(-0.2), hi=np.float32(1)
    ),
    "clip, one bound": lambda: between('r = Clip(c, "", hi)', hi=np.float32(0.5)),
    "clip, bounds as attributes": lambda: between("r = Clip<min=0.0, max=6.0>(c)", opset=10),
    "reshape, -1 and 0": lambda: between(
        "f = Reshape(c, s) g = Relu(f) r = Reshape(g, t)",
        s=integers(0, -1, 2),
        t=integers(0, 4, 8, 10),
    ),
    "reshape to a computed shape": lambda: between(
        """h = Shape(c) n = Gather(h, zero) u = Unsqueeze(n, zeros) q = Concat<axis=0>(u, rest)
        f = Reshape(c, q) g = Relu(f) r = Reshape(g, t)""",
        zero=np.int64(0),
        zeros=integers(0),
        rest=integers(4, -1),
        t=integers(0, 4, 8, 10),
    ),
    "flatten, axis -3": lambda: model(
        "c = Conv(x, w, b) f = Flatten<axis=-3>(c) y = MatMul(f, u)", CONV, u=values(192, 5)
    ),
    "batch norm": lambda: between(
        "n = BatchNormalization<epsilon=0.01>(c, s, t, m, q) r = Relu(n)",
        {"s": values(4), "t": values(4, seed=3), "m": values(4, seed=4), "q": abs(values(4)) + 0.5},
        opset=9,
    ),
    "pad node": lambda: between(
        "p = Pad(c, pads, fill) q = Relu(p) r = Slice(q, a, e, ax)",
        pads=integers(0, 0, 1, 0, 0, 0, 0, 2),
        fill=np.float32(0.3),
        a=integers(1, 0),
        e=integers(9, 10),
        ax=integers(2, 3),
    ),
    "pad node, attributes, reflect": lambda: between(
        'p = Pad<mode="reflect", pads=[0,0,1,2,0,0,1,0]>(c) r = Relu(p)', opset=10
    ),
    "pad node, edge": lambda: between(
        'p = Pad<mode="edge">(c, pads) r = Relu(p)', pads=integers(0, 0, 1, 2, 0, 0, 1, 0)
    ),
    "pad node, axes": lambda: between(
        "p = Pad(c, pads, fill, axes) r = Relu(p)",
        opset=18,
        pads=integers(1, 2),
        fill=np.float32(0),
        axes=integers(-1),
    ),
    "nhwc, bias and batch norm as arithmetic": lambda: in_nhwc(
        "m = Mul(c, k) a = Add(m, t) r = Relu(a)", {"k": values(4), "t": values(1, 1, 1, 4, seed=7)}
    ),
    "nhwc, max pooling between transposes": lambda: in_nhwc(
        """t = Transpose<perm=[0,3,1,2]>(c) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)
        q = Transpose<perm=[0,2,3,1]>(p) r = Relu(q)"""
    ),
    "nhwc input": lambda: model(
        "t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, w, b) r = Relu(c) y = Conv(r, v)",
        CONV,
        inputs="float[N,8,10,3] x",
    ),
    "nhwc, flatten": lambda: model(
        """c = Conv(x, w, b) r = Relu(c) t = Transpose<perm=[0,2,3,1]>(r) f = Reshape(t, s)
        y = MatMul(f, u)""",
        CONV,
        s=integers(-1, 192),
        u=values(192, 5),
    ),
    "prelu per channel": lambda: between("r = PRelu(c, a)", a=values(4, 1, 1)),
    "prelu, one slope": lambda: between("r = PRelu(c, a)", a=values(1)),
    "prelu, channels last": lambda: in_nhwc("r = PRelu(c, a)", a=values(1, 1, 4)),
    "leaky relu": lambda: between("r = LeakyRelu<alpha=0.2>(c)"),
    "hard sigmoid": lambda: between("r = HardSigmoid<alpha=0.3, beta=0.4>(c)"),
    "relu as max with zero": lambda: between("r = Max(c, z)", z=np.float32(0)),
    "relu as where": lambda: between(
        "g = Greater(c, z) r = Where(g, c, z)", z=np.zeros((1,), np.float32)
    ),
    "thresholded relu at zero": lambda: between("r = ThresholdedRelu<alpha=0.0>(c)", opset=10),
    "soft shrink": lambda: between("r = Shrink<lambd=0.2, bias=0.2>(c)"),
    "abs and neg": lambda: between("a = Abs(c) n = Neg(a) s = Sub(n, c) r = Relu(s)"),
    "max, min and sum of several": lambda: between(
        """p = Relu(c) n = Neg(c) q = Relu(n) m = Max(c, p, q) l = Min(c, p) s = Sum(m, l, c)
        r = Relu(s)"""
    ),
    "mean of two": lambda: between("p = Relu(c) r = Mean(c, p)"),
    "division and powers of constants": lambda: between(
        "d = Div(c, k) e = Pow(k, two) f = Sqrt(e) g = Mul(d, f) r = Relu(g)",
        k=np.float32(1.7),
        two=np.float32(2),
    ),
    "split, equal parts": lambda: between(
        "s, t = Split<axis=1>(c) u = Relu(s) r = Concat<axis=1>(t, u)"
    ),
    "split, sizes as attribute": lambda: between(
        "s, t = Split<axis=-3, split=[1,3]>(c) u = Relu(s) r = Concat<axis=1>(u, t)", opset=11
    ),
    "split, sizes as input": lambda: between(
        "s, t = Split<axis=1>(c, k) u = Relu(t) r = Concat<axis=1>(s, u)", k=integers(3, 1)
    ),
    "split, number of parts": lambda: between(
        "s, t = Split<axis=3, num_outputs=2>(c) u = Relu(t) r = Concat<axis=3>(s, u)", opset=18
    ),
    "slice, attributes": lambda: between(
        "s = Slice<axes=[2,3], starts=[1,-7], ends=[100,-1]>(c) r = Relu(s)", opset=9
    ),
    "slice, steps": lambda: between(
        "s = Slice(c, a, e, ax, st) r = Relu(s)",
        a=integers(0, -1),
        e=integers(2**40, -(2**40)),
        ax=integers(2, 3),
        st=integers(2, -1),
    ),
    "gather channels": lambda: between(
        "s = Gather<axis=1>(c, i) r = Relu(s)", i=integers(3, -4, 1, 2)
    ),
    "gather one row": lambda: between(
        "s = Gather<axis=2>(c, i) u = Unsqueeze(s, two) r = Relu(u)",
        i=np.int64(-2),
        two=integers(2),
    ),
    "squeeze and unsqueeze, attributes": lambda: flat(
        """m = Gemm(x, w) u = Unsqueeze<axes=[1,-1]>(m) s = Squeeze<axes=[1]>(u)
        t = Squeeze<axes=[-1]>(s)
        r = Relu(t) y = Gemm(r, v)""",
        {"w": values(6, 4), "v": values(4, 3)},
        opset=11,
    ),
    "reduce mean, attributes": lambda: model(
        "c = Conv(x, w, b) r = Relu(c) m = ReduceMean<axes=[2,3], keepdims=0>(r) y = Gemm(m, u)",
        CONV,
        u=values(4, 3),
    ),
    "reduce mean, axes as input": lambda: model(
        "c = Conv(x, w, b) r = Relu(c) y = ReduceMean(r, a)", CONV, opset=18, a=integers(-1, -2)
    ),
    "reduce sum and max": lambda: model(
        """c = Conv(x, w, b) r = Relu(c) s = ReduceSum<keepdims=0>(r, a)
        m = ReduceMax<axes=[2,3], keepdims=0>(c) y = Add(s, m)""",
        CONV,
        a=integers(2, 3),
    ),
    "sum of sizes over no axes": lambda: between(
        "r = ReduceL1<noop_with_empty_axes=1>(c)", opset=18
    ),
    "norm over no axes": lambda: between("r = ReduceL2<noop_with_empty_axes=1>(c)", opset=18),
    "mean over no axes": lambda: between(
        "m = ReduceMean<noop_with_empty_axes=1>(c, a) r = Relu(m)",
        opset=18,
        a=np.zeros(0, np.int64),
    ),
    "global pools": lambda: model(
        """c = Conv(x, w, b) r = Relu(c) a = GlobalAveragePool(r) m = GlobalMaxPool(c)
        y = Concat<axis=1>(a, m)""",
        CONV,
    ),
    "max pool, uneven pads": lambda: between(
        "p = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[0,0,1,1]>(c) r = Relu(p)"
    ),
    "max pool, uneven pads at both ends": lambda: between(
        "p = MaxPool<kernel_shape=[3,2], strides=[1,1], pads=[1,0,0,1]>(c) r = Relu(p)"
    ),
    "max pool, auto_pad": lambda: between(
        'p = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_LOWER">(c) r = Relu(p)'
    ),
    "max pool, ceil_mode": lambda: between(
        "p = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(c) r = Relu(p)"
    ),
    "max pool of padded zeros": lambda: between(
        "l = LeakyRelu(c) p = Pad(l, pads) r = MaxPool<kernel_shape=[2,2]>(p)",
        pads=integers(0, 0, 0, 0, 0, 0, 1, 1),
    ),
    "max pool, pads above half the window": lambda: between(
        "p = MaxPool<kernel_shape=[3,3], pads=[2,2,2,2], strides=[2,2]>(c) r = Relu(p)"
    ),
    "max pool, a last window in the padding alone": lambda: between(
        """p = MaxPool<kernel_shape=[4,4], pads=[0,0,3,3], strides=[2,2], ceil_mode=1>(c)
        r = Relu(p)"""
    ),
    "average pool, pads above half the window": lambda: between(
        "q = Relu(c) r = AveragePool<kernel_shape=[3,3], pads=[2,2,2,2], strides=[2,2]>(q)"
    ),
    "average pool, a last window in the padding alone": lambda: between(
        """q = Relu(c) r = AveragePool<kernel_shape=[2,2], strides=[2,2], pads=[0,0,1,1],
        ceil_mode=1, count_include_pad=1>(q)"""
    ),
    "average pool, uneven pads": lambda: between(
        "q = Relu(c) r = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[0,0,1,1]>(q)"
    ),
    "average pool, padding counted": lambda: between(
        """q = Relu(c)
        r = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,1],
        count_include_pad=1>(q)"""
    ),
    "resize, nearest by scales": lambda: between(
        'q = Relu(c) r = Resize<mode="nearest">(q, "", s)', s=np.array([1, 1, 2, 3], np.float32)
    ),
    "resize, nearest to sizes": lambda: between(
        """q = Relu(c) r = Resize<mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor">(q, "", "", s)""",
        inputs="float[1,3,8,10] x",
        s=integers(1, 4, 12, 13),
    ),
    "resize, operator set 10": lambda: between(
        'q = Relu(c) r = Resize<mode="nearest">(q, s)',
        opset=10,
        s=DOUBLED,
    ),
    "upsample, operator set 9": lambda: between(
        'q = Relu(c) r = Upsample<mode="nearest">(q, s)',
        opset=9,
        s=DOUBLED,
    ),
    "resize, operator set 10, up by 3": lambda: between(
        'q = Relu(c) r = Resize<mode="nearest">(q, s)',
        s=np.array([1, 1, 3, 1.5], np.float32),
        opset=10,
    ),
    "resize, operator set 10, down": lambda: between(
        'q = Relu(c) r = Resize<mode="nearest">(q, s)',
        s=np.array([1, 1, 0.4, 0.3125], np.float32),
        opset=10,
    ),
    "slice backwards from before the first": lambda: between(
        "s = Slice(c, a, e, ax, st) r = Relu(s)",
        a=integers(-100),
        e=integers(-(2**62)),
        ax=integers(3),
        st=integers(-1),
    ),
    "sums of constants, exclusive and backwards": lambda: between(
        "s = CumSum<exclusive=1, reverse=1>(t, ax) r = Add(c, s)",
        t=values(4, 8, 10),
        ax=np.int64(1),
    ),
    "16 bits in the middle": lambda: between("h = Cast<to=10>(c) f = Cast<to=1>(h) r = Relu(f)"),
    "resize, linear": lambda: between('q = Relu(c) r = Resize<mode="linear">(q, "", s)', s=DOUBLED),
    "resize, linear, aligned corners": lambda: between(
        """q = Relu(c)
        r = Resize<mode="linear", coordinate_transformation_mode="align_corners">(q, "", "", s)""",
        inputs="float[1,3,8,10] x",
        s=integers(1, 4, 11, 13),
    ),
    "resize, linear, odd scales": lambda: between(
        'q = Relu(c) r = Resize<mode="linear">(q, "", s)', s=np.array([1, 1, 1.3, 1.55], np.float32)
    ),
    "resize, cubic": lambda: between('q = Relu(c) r = Resize<mode="cubic">(q, "", s)', s=DOUBLED),
    "resize, channels last": lambda: in_nhwc(
        'q = Relu(c) r = Resize<mode="linear">(q, "", s)', s=np.array([1, 2, 2, 1], np.float32)
    ),
    "transposed convolution": lambda: between(
        """q = Relu(c) t = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(q, u)
        r = Relu(t)""",
        u=values(4, 4, 3, 3, seed=9),
    ),
    "transposed convolution, output shape": lambda: between(
        "q = Relu(c) t = ConvTranspose<strides=[2,2], output_shape=[16,20]>(q, u) r = Relu(t)",
        u=values(4, 4, 3, 3, seed=9),
    ),
    "transposed convolution, auto_pad": lambda: between(
        'q = Relu(c) t = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(q, u) r = Relu(t)',
        u=values(4, 4, 3, 3, seed=9),
    ),
    "depth to space, DCR": lambda: model(
        "c = Conv(x, w, b) d = DepthToSpace<blocksize=2>(c) y = Relu(d)",
        {**CONV, "w": values(4, 3, 3, 3)},
    ),
    "depth to space, CRD, and back": lambda: model(
        """c = Conv<pads=[1,1,1,1]>(x, w, b) d = DepthToSpace<blocksize=2, mode="CRD">(c)
        r = Relu(d)        y = SpaceToDepth<blocksize=2>(r)""",
        CONV,
    ),
    "constants as nodes": lambda: between(_CONSTANT_KINDS),
    "weights computed from constants": lambda: flat(
        "t = Transpose<perm=[1,0]>(w) i = Identity(t) m = MatMul(x, i) y = Relu(m)", w=values(4, 6)
    ),
    "weights stored as integers": _quantized_weights,
    "softmax at the end": lambda: flat("m = Gemm(x, w) y = Softmax(m)", w=values(6, 4)),
    "softmax, operator set 11": lambda: flat(
        "m = Gemm(x, w) y = Softmax<axis=1>(m)", opset=11, w=values(6, 4)
    ),
    "sigmoid at the end": lambda: flat("m = Gemm(x, w) y = Sigmoid(m)", w=values(6, 1)),
    "dropout and its mask": lambda: between(
        "d, mask = Dropout(c, k) r = Relu(d)", k=np.float32(0.5)
    ),
    "dropout, operator set 7": lambda: between("d = Dropout<ratio=0.4>(c) r = Relu(d)", opset=7),
    "casts between real numbers": lambda: between(
        "d = Cast<to=1>(c) e = CastLike(d, b) r = Relu(e)", opset=15
    ),
    "expanded constant": lambda: between(
        "e = Expand(k, s) a = Add(c, e) r = Relu(a)", k=values(4, 1, 1), s=integers(4, 8, 10)
    ),
    "tiled": lambda: between("t = Tile(c, k) r = Relu(t)", k=integers(1, 1, 2, 1)),
    "computed constants": lambda: between(
        """z = ConstantOfShape(s) n = Range(zero, four, one) f = Cast<to=1>(n) g = Reshape(f, t)
        a = Add(c, g) o = Add(a, z) r = Relu(o)""",
        s=integers(4, 1, 1),
        zero=np.int64(0),
        four=np.int64(4),
        one=np.int64(1),
        t=integers(4, 1, 1),
    ),
    "argmax at the end": lambda: flat(
        "m = Gemm(x, w) y = ArgMax<axis=1, keepdims=0>(m)", outputs="int64[N] y", w=values(6, 4)
    ),
    "two inputs and two outputs": lambda: model(
        """c = Conv<pads=[1,1,1,1]>(x, w, b) s = Add(c, z) r = Relu(s) y = Conv(r, v)
        m = ReduceMean<axes=[2,3], keepdims=0>(r)""",
        CONV,
        inputs=f"{_IMAGE}, float[N,4,8,10] z",
        outputs="float[N] y, float[N] m",
    ),
    "a batch of one": lambda: model(
        "c = Conv(x, w, b) r = Relu(c) f = Reshape(r, s) y = Gemm(f, u)",
        CONV,
        inputs="float[1,3,8,10] x",
        s=integers(1, 192),
        u=values(192, 5),
    ),
    "constants among the inputs": _old_file,
    "strange names": _strange_names,
    "real numbers of 64 bits": lambda: _stored_as(np.float64),
    "real numbers of 16 bits": lambda: _stored_as(np.float16),
}
"""Models by what is special about each."""
