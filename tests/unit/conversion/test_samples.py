"""The samples that a conversion takes: pixels or numbers, by name or not, from any source."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from torch import nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import ConversionError, DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.sources.selection import mixed_order
from tests.support.converting import images, model_logits
from tests.support.traced import small_model

NORMALIZATION = Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def pixels(count: int = 12) -> Array:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 6, 6)).astype(np.uint8)


@pytest.mark.parametrize("padding", [0, 1])
def test_pixels_with_a_normalization_equal_normalized_floats(padding: int) -> None:
    model, x = small_model(padding=padding), pixels()
    floats = NORMALIZATION.apply(x)
    from_pixels = to_ann_graph(model, x, NORMALIZATION)
    from_floats = to_ann_graph(model, floats)
    assert from_pixels.input.dtype == "uint8"
    assert from_floats.input.dtype == "float32"
    wanted = model_logits(model, floats)
    np.testing.assert_allclose(run_ann(from_floats, floats), wanted, atol=1e-5)
    np.testing.assert_allclose(run_ann(from_pixels, x), wanted, atol=1e-5)
    # Padded zeros are zeros of the normalized image: then the first node has to stay.
    assert ("normalization" in from_pixels) == (padding > 0)


def test_pixels_and_floats_make_networks_that_agree() -> None:
    x = pixels()
    recipe = Recipe(name="diehl", time_steps=8)
    one = convert(small_model(), x, recipe, normalization=NORMALIZATION).network
    other = convert(small_model(), NORMALIZATION.apply(x), recipe).network
    left, right = one.nodes_of(IF), other.nodes_of(IF)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a.v_threshold, b.v_threshold, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int64"])
def test_integers_without_a_normalization_are_refused(dtype: str) -> None:
    with pytest.raises(DataError, match=f"of type {dtype}: floats as the model takes them"):
        convert(small_model(), pixels().astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("float32", r"values 0 to 255; .* floats must be in 0\.\.1"),
        ("float64", r"values 0 to 255; .* floats must be in 0\.\.1"),
        ("int16", "a normalization needs uint8"),
    ],
)
def test_a_normalization_needs_pixels(dtype: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(small_model(), pixels().astype(dtype), normalization=NORMALIZATION)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_in_0_to_1_with_a_normalization_are_the_pixels_they_come_from(kind: type) -> None:
    whole = pixels()
    recipe = Recipe(name="opi", time_steps=2)
    floats: Array = (whole / 255).astype(kind)
    one = convert(small_model(), whole, recipe, normalization=NORMALIZATION)
    other = convert(small_model(), floats, recipe, normalization=NORMALIZATION)
    assert one.network.hash() == other.network.hash()
    assert other.network.input.dtype == "uint8"


class Rows:
    """A data set of items, without a base class."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        return self.rows[number]


@pytest.mark.parametrize("form", ["pair", "dicts", "data set"])
def test_samples_of_every_form_convert_to_the_same_network(form: str) -> None:
    x = NORMALIZATION.apply(pixels())
    y = np.arange(len(x))
    given: Any
    if form == "pair":
        given = (x, y)
    elif form == "dicts":
        given = [{"image": x[i : i + 3], "label": y[i : i + 3]} for i in range(0, len(x), 3)]
    else:  # its items are read in a mixed order
        order = mixed_order(len(x))
        given = Rows([(x[order.index(i)], i) for i in range(len(x))])
    recipe = Recipe(name="opi", time_steps=2)
    found = convert(small_model(), given, recipe, input_key="image" if form == "dicts" else None)
    assert found.network.hash() == convert(small_model(), x, recipe).network.hash()


def test_a_normalization_of_other_channels_is_refused() -> None:
    gray = Normalization(mean=(0.5,), std=(0.5,))
    with pytest.raises(DataError, match="images of 3 channels, but 1 values of mean and std"):
        convert(small_model(), pixels(), normalization=gray)


@pytest.mark.parametrize(
    "model",
    [small_model, nn.ReLU, small_model().state_dict(), None],
    ids=["f", "class", "dict", "-"],
)
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(
        ConversionError, match=r"a model of type \w+: an nn.Module with its weights"
    ):
        convert(model, images())


def test_the_name_of_a_recipe_is_no_recipe() -> None:
    with pytest.raises(ConversionError, match=r"a recipe of type str: Recipe\(name="):
        convert(small_model(), images(), cast(Any, "auto"))


# Inputs by name


def test_one_input_may_be_given_by_its_name() -> None:
    recipe = Recipe(name="diehl", time_steps=4)
    named = convert(small_model(), {"input": images()}, recipe)
    assert named.network.hash() == convert(small_model(), images(), recipe).network.hash()
    assert named.report.calibration_samples == 12


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"x": images()}, r"forward takes the inputs input, .*required argument: 'input'"),
        ({"input": images(), "y": images(3)}, "{'input': 12, 'y': 3} samples"),
        ({"input": images()[:0]}, "N >= 1 are needed"),
        ({"input": pixels()}, "type uint8 and shape .* for the input 'input': floats"),
    ],
)
def test_named_inputs_that_do_not_fit_are_refused(named: dict[str, Array], message: str) -> None:
    with pytest.raises((ConversionError, DataError), match=message):
        convert(small_model(), named, Recipe(name="diehl"))


def test_named_inputs_take_no_normalization() -> None:
    with pytest.raises(DataError, match="inputs input with a normalization: give"):
        convert(small_model(), {"input": pixels()}, normalization=NORMALIZATION)


def test_values_that_are_not_finite_are_refused() -> None:
    x = images()
    x[5, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        convert(small_model(), x, Recipe(name="diehl"))


def test_a_model_without_a_rectifier_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 4)).eval()
    with pytest.raises(ConversionError, match="the model has no ReLU"):
        convert(model, images(), Recipe(name="diehl"))
