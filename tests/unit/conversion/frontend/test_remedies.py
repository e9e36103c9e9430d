"""What a refusal allows and advises is true: it converts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy import Recipe, convert
from icsnn_deploy.conversion.frontend import remedies
from icsnn_deploy.conversion.frontend.rules.table import _LOWERINGS
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import ConversionError, UnsupportedOperatorError
from tests.support.traced import Body, Form, check, images
from tests.unit.conversion.frontend.test_trace_rejections import rejections


def test_no_operator_that_converts_has_a_remedy() -> None:
    rules = {name.split(".")[-1].replace("_", "") for name in _LOWERINGS}
    assert not rules & set(remedies._KNOWN)
    assert not [name for name in rules if name.startswith(tuple(remedies._FAMILIES))]


REFUSED: dict[str, tuple[Form, str, str]] = {
    "sigmoid": (lambda m, x: m.conv(x.sigmoid()), "which the host computes", "Hardsigmoid"),
    "softmax": (lambda m, x: m.conv(x.softmax(1)), "which the host computes", "put it after them"),
    "floor": (lambda m, x: m.conv(x.floor()), "QCFS", "--activation CLASS:BOUND:LEVELS"),
    "round": (lambda m, x: m.conv(x.round()), "QCFS", "--activation CLASS:BOUND:LEVELS"),
    "mod": (lambda m, x: m.conv(x % 1), "QCFS", "--activation CLASS:BOUND:LEVELS"),
    "std": (lambda m, x: x.std(1), "means and sums", "x.abs().mean"),
    "norm": (lambda m, x: x.norm(dim=1), "means and sums", "x.abs().mean"),
    "bmm": (
        lambda m, x: torch.bmm(x[:, 0], x[:, 1]),
        "1x1 convolution",
        "If one operand is constant",
    ),
    "argmax": (
        lambda m, x: m.conv(x.argmax(1, keepdim=True).float().expand(-1, 3, -1, -1)),
        "as the last operation",
        "let the host choose",
    ),
    "topk": (lambda m, x: x.topk(2, 1)[0], "max, amax", "let the host choose"),
    "prod": (lambda m, x: x.prod(1), "products with constants", "Remove the product"),
    "half": (lambda m, x: m.conv(x).half(), "float32", "Remove the conversion"),
    "stft": (
        lambda m, x: torch.stft(
            x[:, 0].flatten(1), 8, window=torch.ones(8), return_complex=True
        ).abs(),
        "real numbers",
        "spectrum on the host",
    ),
    "max_unpool2d": (
        lambda m, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), (2, 2)),
        "ConvTranspose",
        "without indices",
    ),
    "max_pool3d": (
        lambda m, x: F.max_pool3d(x, (2, 1, 1)),
        "one or two spatial axes",
        "1d or 2d",
    ),
    "scatter": (
        lambda m, x: x.scatter(1, torch.zeros(2, 1, 6, 6, dtype=torch.long), 1.0),
        "torch.cat",
        "constant mask of 0 and 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_allowed_and_what_to_do(name: str) -> None:
    form, allowed, remedy = REFUSED[name]
    found = rejections(Body(form).eval(), images(2, 3, 6, 6))[-1]
    assert found.node == name
    assert allowed in found.allowed
    assert remedy in found.remedy


MASK = torch.ones(6, 6).tril()

ADVISED: dict[str, Form] = {
    "sigmoid before moves": lambda m, x: m.conv(x).mean((2, 3))[:, :1].sigmoid().squeeze(1),
    "sigmoid after moves": lambda m, x: m.conv(x).mean((2, 3))[:, :1].squeeze(1).sigmoid(),
    "softmax after moves": lambda m, x: m.conv(x).flatten(2).permute(0, 2, 1).softmax(2),
    "hardsigmoid": lambda m, x: m.conv(F.hardsigmoid(x)),
    "mean of magnitudes": lambda m, x: m.conv(x).abs().mean((2, 3)),
    "parts in place of writing": lambda m, x: torch.cat([x[:, :1], m.conv(x)[:, 1:]], 1),
    "mask of 0 and 1": lambda m, x: m.conv(x) * MASK.to(x.dtype),
    "largest of two": lambda m, x: torch.maximum(m.conv(x), m.conv2(x)),
    "largest over an axis": lambda m, x: m.conv(x).amax((2, 3)),
    "largest over channels": lambda m, x: m.conv(x).max(1)[0],
    "product with a matrix": lambda m, x: m.conv(x).mean((2, 3)) @ m.linear.weight.t(),
    "upsampling": lambda m, x: m.conv(F.interpolate(F.max_pool2d(x, 2), scale_factor=2)),
    "permuted": lambda m, x: m.linear(m.conv(x).permute(0, 2, 3, 1)),
    "stacked": lambda m, x: torch.stack([m.conv(x), m.conv2(x)], 1).sum(1),
    "one of an axis": lambda m, x: m.conv(x)[:, 0],
    "summed": lambda m, x: m.conv(x).sum((1, 2)),
    "masked": lambda m, x: x * (x > 0),
    "average of a volume": lambda m, x: nn.AvgPool3d(2)(m.conv(x)[:, None].repeat(1, 2, 1, 1, 1)),
}


@pytest.mark.parametrize("name", ADVISED)
def test_what_is_advised_converts(name: str) -> None:
    model, x = Body(ADVISED[name]).eval(), images(2, 3, 6, 6)
    if "sigmoid " in name or "softmax " in name:
        trace(model, x)  # compares with the model, with the host's operation
    else:
        check(model, x)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_squeeze_that_drops_the_batch_names_flatten(batch: int) -> None:
    model = Body(lambda m, x: m.conv(x).mean((2, 3), keepdim=True).squeeze()).eval()
    with pytest.raises(ConversionError, match=r"\.squeeze\(\) drops.*flatten\(1\)"):
        trace(model, images(batch, 3, 6, 6))


def test_a_squeeze_in_a_program_of_one_sample_names_flatten() -> None:
    model = Body(lambda m, x: m.conv(x).mean((2, 3), keepdim=True).squeeze()).eval()
    program = torch.export.export(model, (images(1, 3, 6, 6),))
    with pytest.raises(UnsupportedOperatorError) as caught:
        convert(program, images(4, 3, 6, 6).numpy(), Recipe(name="fast", time_steps=2))
    found = caught.value.rejections[0]
    assert found.node == "squeeze"
    assert "flatten(1)" in found.remedy


def test_an_index_that_depends_on_the_input_is_refused() -> None:
    model = Body(lambda m, x: x.gather(1, x.argmax(1, keepdim=True))).eval()
    found = rejections(model, images(2, 3, 6, 6))
    assert [one.node for one in found] == ["argmax", "gather"]
    assert "indices or sizes that depend on the input" in found[1].got


def test_a_write_to_a_part_of_a_tensor_names_cat() -> None:
    def forward(m: Body, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = m.conv(x)
        y[:, 0] = 0
        return y

    found = rejections(Body(forward).eval(), images(2, 3, 6, 6))
    assert "torch.cat of slices" in found[0].remedy


def test_a_volume_without_a_batch_axis_is_refused() -> None:
    for pool in (lambda m, x: F.avg_pool3d(x, 2), lambda m, x: F.adaptive_avg_pool3d(x, 1)):
        (found,) = rejections(Body(pool).eval(), images(2, 3, 4, 4))
        assert found.allowed == "[B, C, D, H, W]"


def test_a_fake_quantized_layer_says_what_it_is() -> None:
    fake = torch.ao.quantization.FakeQuantize()  # type: ignore[no-untyped-call]
    model = nn.Sequential(nn.Conv2d(3, 3, 1), fake).eval()
    with pytest.raises(
        ConversionError, match=r"1 \(FakeQuantize\): fake quantization.*Switch it off"
    ):
        trace(model, images(2, 3, 4, 4))
