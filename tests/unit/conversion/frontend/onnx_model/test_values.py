"""What operators of ONNX models compute, in many sizes, against ONNX Runtime."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.graph.neuron import Array
from tests.support.onnx_models import model

SIZES = (1, 3, 5, 7, 10, 13)
FACTORS = [0.1, 0.6, 0.7, 1.1, 1.4, 1.6, 2.1, 2.6, 3.1, 1 / 3, 2 / 3, 1.1890492387733698]
COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def results(made: onnx.ModelProto, x: Array, folder: Path) -> tuple[Array, Array]:
    """The output of a model as it is read, and of ONNX Runtime."""
    path = folder / "model.onnx"
    onnx.save(made, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = onnxruntime.InferenceSession(path, options).run(None, {"x": x})
    return read_onnx(path)(torch.from_numpy(x)).numpy(), expected


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_places_of_a_nearest_resize_are_rounded_as_the_runtime_rounds_them(
    coordinates: str, rounding: str, tmp_path: Path
) -> None:
    """Several axes in one model, each with a size and a factor of its own."""
    attributes = f'mode="nearest", nearest_mode="{rounding}"'
    attributes += f', coordinate_transformation_mode="{coordinates}"'
    for size in SIZES:
        factors = [factor for factor in FACTORS if factor * size >= 1]
        for factor, other in itertools.pairwise([*factors, 1.0]):
            x = np.random.default_rng(0).normal(size=(1, 1, size, size)).astype(np.float32)
            made = model(
                f'y = Resize<{attributes}>(x, "", s)',
                inputs=f"float[1,1,{size},{size}] x",
                s=np.array([1, 1, factor, other], np.float32),
            )
            found, expected = results(made, x, tmp_path)
            np.testing.assert_array_equal(found, expected, err_msg=f"{size} x {factor}, {other}")


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_sizes_of_a_nearest_resize_give_the_places_that_the_runtime_gives(
    rounding: str, tmp_path: Path
) -> None:
    for size, after in itertools.product(SIZES, (1, 2, 4, 9, 12, 26)):
        x = np.arange(size, dtype=np.float32)[None, None]
        made = model(
            f'y = Resize<mode="nearest", nearest_mode="{rounding}",'
            'coordinate_transformation_mode="asymmetric">(x, "", "", s)',
            inputs=f"float[1,1,{size}] x",
            s=np.array([1, 1, after]),
        )
        found, expected = results(made, x, tmp_path)
        np.testing.assert_array_equal(found, expected, err_msg=f"{size} to {after}")


@pytest.mark.parametrize("coordinates", COORDINATES[:2] + COORDINATES[3:])
def test_a_linear_resize_has_the_sizes_of_the_runtime(coordinates: str, tmp_path: Path) -> None:
    for size in SIZES:
        for factor in (factor for factor in FACTORS if factor * size >= 2):
            x = np.random.default_rng(0).normal(size=(1, 1, size, 4)).astype(np.float32)
            made = model(
                f'y = Resize<mode="linear", coordinate_transformation_mode="{coordinates}">'
                '(x, "", s)',
                inputs=f"float[1,1,{size},4] x",
                s=np.array([1, 1, factor, 1], np.float32),
            )
            found, expected = results(made, x, tmp_path)
            np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=f"{size} x {factor}")


@pytest.mark.parametrize("axes", [None, (), (1,)])
@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("kind", ["L1", "L2", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"])
def test_reductions_over_no_axes_do_what_is_left_of_them(
    kind: str, noop: int, axes: tuple[int, ...] | None, tmp_path: Path
) -> None:
    given = {} if axes is None else {"a": np.array(axes, np.int64)}
    made = model(
        f"y = Reduce{kind}<noop_with_empty_axes={noop}>(x{', a' if given else ''})",
        given,
        opset=18,
        inputs="float[2,3] x",
    )
    x = np.array([[-1.5, 2, 3], [0.5, -2, 1]], np.float32)
    found, expected = results(made, x, tmp_path)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_pooling_has_the_windows_that_the_runtime_counts(kind: str, tmp_path: Path) -> None:
    """Every padding that leaves a value in each window, also above half of the window."""
    for kernel, stride, ceil in itertools.product((2, 3, 4), (1, 2, 3), (0, 1)):
        for ends in itertools.product(range(kernel), repeat=2):
            for size, counted in itertools.product((4, 6), (0, 1) if kind[0] == "A" else (None,)):
                attributes = f"kernel_shape=[{kernel}], strides=[{stride}], pads={list(ends)}"
                attributes += f", ceil_mode={ceil}"
                attributes += "" if counted is None else f", count_include_pad={counted}"
                made = model(
                    f"y = {kind}<{attributes}>(x)", opset=19, inputs=f"float[1,2,{size}] x"
                )
                x = np.random.default_rng(0).normal(size=(1, 2, size)).astype(np.float32)
                found, expected = results(made, x, tmp_path)
                assert found.shape == expected.shape, attributes
                np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=attributes)
