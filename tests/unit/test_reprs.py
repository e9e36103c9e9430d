"""What a person sees who types the name of an object: one line that says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.notebook import object_html
from icsnn_deploy.parity.verify import verify

_LONGEST = 300


def test_the_objects_of_the_api_describe_themselves_in_one_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 300, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4800, 3)).eval()
    x = np.random.default_rng(0).random((16, 2, 6, 6), dtype=np.float32)
    conversion = convert(model, x, Recipe(name="fast", time_steps=4))
    quantization = quantize(conversion, x)
    bundle = conversion.save(tmp_path / "bundle", x[:4])
    report = verify(bundle, ["torch"])
    texts = {
        "ANN": repr(conversion.ann),
        "T = 4": repr(conversion.network),
        "4,800 neurons": repr(conversion.network),
        "integer network": repr(quantization.network),
        "recipe fast": repr(conversion),
        "8 bits": repr(quantization),
        "bundle": repr(bundle),
        "torch pass": repr(report),
    }
    for part, text in texts.items():
        assert part in text
        assert "\n" not in text
        assert len(text) < _LONGEST + len(str(tmp_path))
    for shown in (conversion, conversion.ann, quantization, bundle, report):
        html = shown._repr_html_()
        assert html.startswith("<div>")
        assert "<td>" in html
        assert repr(shown).replace("<", "&lt;").partition(" ")[0] in html


def test_names_in_a_notebook_are_no_markup() -> None:
    html = object_html("<Graph>", ("a",), [("<script>",)] * 100, count=100)
    assert "<script>" not in html
    assert "and 40 more" in html
