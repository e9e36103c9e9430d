"""Damaged and odd ONNX models: changed fields of the message, and changed bytes of the file."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto

_ODD_INTEGERS = (0, 1, -1, 2, 3, 7, 255, 4096, 65_537, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63))
_ODD_FLOATS = (0.0, -1.0, 1e30, -1e30, float("inf"), float("nan"), 1e-45)
_ODD_NAMES = (
    "",
    "x",
    "y",
    "c",
    "../../etc/passwd",
    "a" * 5000,
    "new\nline",
    "\x1b[31m",
    "训练",
    "w",
)
_KINDS = ("Relu", "Conv", "If", "Loop", "LSTM", "TopK", "Reshape", "Softmax", "Gemm", "", "Nothing")
_DOMAINS = ("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "\x00")


def mutated(model: onnx.ModelProto, seed: int) -> bytes:
    """The bytes of the model after one to three changes; the same for the same seed."""
    rng = random.Random(seed)
    changed = copy.deepcopy(model)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_CHANGES)(changed, rng)
    data = changed.SerializeToString()
    return _bytes_changed(data, rng) if rng.random() < 0.3 else data


def _bytes_changed(data: bytes, rng: random.Random) -> bytes:
    altered = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        place = rng.randrange(len(altered))
        how = rng.randrange(4)
        if how == 0:
            altered[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            altered[place] = rng.randrange(256)
        elif how == 2:
            del altered[place : place + rng.choice((1, 4, 100))]
        else:
            altered[place:place] = altered[: rng.choice((1, 8, 64))]
        if not altered:
            return b"\x00"
    return bytes(altered)


def _node(model: onnx.ModelProto, rng: random.Random) -> Any:
    return rng.choice(model.graph.node) if model.graph.node else onnx.NodeProto()


def _attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    if not node.attribute:
        return
    one = rng.choice(node.attribute)
    if one.type == AttributeProto.INTS and one.ints:
        one.ints[rng.randrange(len(one.ints))] = rng.choice(_ODD_INTEGERS)
    elif one.type == AttributeProto.INT:
        one.i = rng.choice(_ODD_INTEGERS)
    elif one.type == AttributeProto.FLOAT:
        one.f = rng.choice(_ODD_FLOATS)
    elif one.type == AttributeProto.STRING:
        one.s = rng.choice((b"", b"SAME_UPPER", b"\xff\xfe", b"linear", b"reflect"))


def _attribute_list(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    for one in node.attribute:
        if one.type == AttributeProto.INTS:
            del one.ints[rng.randrange(len(one.ints) + 1) :]
            if rng.random() < 0.5:
                one.ints.extend([rng.choice(_ODD_INTEGERS)] * rng.choice((1, 2, 40)))


def _attribute_kind(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    if node.attribute:
        rng.choice(node.attribute).type = rng.randrange(15)


def _new_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    names = ("axis", "axes", "pads", "strides", "group", "keepdims", "auto_pad", "to", "mode")
    value: Any = rng.choice(
        (rng.choice(_ODD_INTEGERS), [rng.choice(_ODD_INTEGERS)] * 3, "SAME_UPPER")
    )
    _node(model, rng).attribute.append(onnx.helper.make_attribute(rng.choice(names), value))


def _kind(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).op_type = rng.choice(_KINDS)


def _domain(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).domain = rng.choice(_DOMAINS)


def _edge(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    names = rng.choice((node.input, node.output))
    if names:
        names[rng.randrange(len(names))] = rng.choice(_ODD_NAMES)


def _more_inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).input.extend([rng.choice(("x", "w", "b", ""))] * rng.choice((1, 3)))


def _fewer_inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    node = _node(model, rng)
    del node.input[rng.randrange(len(node.input) + 1) :]


def _order(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _name(model: onnx.ModelProto, rng: random.Random) -> None:
    _node(model, rng).name = rng.choice(_ODD_NAMES)


def _stored(model: onnx.ModelProto, rng: random.Random) -> TensorProto | None:
    return rng.choice(model.graph.initializer) if model.graph.initializer else None


def _shape(model: onnx.ModelProto, rng: random.Random) -> None:
    one = _stored(model, rng)
    if one is not None and one.dims:
        one.dims[rng.randrange(len(one.dims))] = rng.choice(_ODD_INTEGERS)


def _axes(model: onnx.ModelProto, rng: random.Random) -> None:
    one = _stored(model, rng)
    if one is not None:
        one.dims.extend([1] * rng.choice((1, 30)))


def _type(model: onnx.ModelProto, rng: random.Random) -> None:
    one = _stored(model, rng)
    if one is not None:
        one.data_type = rng.randrange(26)


def _numbers(model: onnx.ModelProto, rng: random.Random) -> None:
    one = _stored(model, rng)
    if one is not None and one.raw_data:
        data = bytearray(one.raw_data)
        start = rng.randrange(0, len(data), 4)
        data[start : start + 4] = rng.choice(
            (b"\xff" * 4, b"\x00\x00\x80\x7f", b"\x00" * 4, b"\x01\x02")
        )
        one.raw_data = bytes(data)


def _external(model: onnx.ModelProto, rng: random.Random) -> None:
    one = _stored(model, rng)
    if one is None:
        return
    one.data_location = TensorProto.EXTERNAL
    for key, values in {
        "location": ("w.bin", "../w.bin", "/etc/passwd", "", ".", "a\x00b", "/dev/zero"),
        "offset": ("0", "-1", "9" * 30, "one"),
        "length": ("108", "0", "-5", str(2**40)),
    }.items():
        one.external_data.add(key=key, value=rng.choice(values))


def _input(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.input:
        return
    kind = rng.choice(model.graph.input).type.tensor_type
    if rng.random() < 0.3:
        kind.elem_type = rng.randrange(24)
    elif kind.shape.dim:
        rng.choice(kind.shape.dim).dim_value = rng.choice(_ODD_INTEGERS)


def _output(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.3:
        del model.graph.output[:]
    elif model.graph.output:
        rng.choice(model.graph.output).name = rng.choice((*_ODD_NAMES, "r"))


def _opset(model: onnx.ModelProto, rng: random.Random) -> None:
    model.opset_import[0].version = rng.choice((0, 1, 6, 7, 9, 11, 13, 18, 25, 26, 2**31, -1))
    if rng.random() < 0.3:
        model.opset_import.add(domain=rng.choice(_DOMAINS), version=13)


def _subgraph(model: onnx.ModelProto, rng: random.Random) -> None:
    body = onnx.GraphProto(name="body")
    body.node.extend(model.graph.node)
    _node(model, rng).attribute.append(onnx.helper.make_attribute("body", body))


def _drop(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = rng.choice((model.graph.node, model.graph.initializer, model.graph.input))
    if nodes:
        del nodes[rng.randrange(len(nodes))]


_CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    *(_attribute, _attribute, _attribute, _attribute_list, _attribute_kind, _new_attribute),
    *(_kind, _domain, _edge, _edge, _more_inputs, _fewer_inputs, _order, _name),
    *(_shape, _shape, _axes, _type, _numbers, _numbers, _external),
    *(_input, _output, _opset, _subgraph, _drop),
)
