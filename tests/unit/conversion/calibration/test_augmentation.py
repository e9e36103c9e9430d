"""Images are shifted and mirrored, and nothing else is changed."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.errors import ConversionError


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 32, 32), Augmentation(shift=0.125, flip=True)),
        ((1, 28, 28), Augmentation(shift=0.125)),
        ((1, 8, 8), Augmentation()),
        ((3, 100), Augmentation()),
        ((), Augmentation()),
    ],
)
def test_it_suits_the_shape(shape: tuple[int, ...], expected: Augmentation) -> None:
    assert Augmentation.suited_to(shape) == expected


def test_every_image_is_a_shifted_or_mirrored_one() -> None:
    image = np.arange(2 * 16 * 20, dtype=np.uint8).reshape(2, 16, 20)
    images = np.stack([image] * 200)
    varied = Augmentation(shift=0.125, flip=True).vary(images, np.random.default_rng(0))
    assert varied.shape == images.shape
    assert varied.dtype == np.uint8
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
    allowed = {
        window[..., ::mirror].tobytes()
        for row in range(5)
        for column in range(5)
        for mirror in (1, -1)
        for window in [padded[:, row : row + 16, column : column + 20]]
    }
    found = {one.tobytes() for one in varied}
    assert found <= allowed
    assert len(found) > 40  # of 50


def test_without_options_images_stay_as_they_are() -> None:
    images = np.random.default_rng(0).random((4, 3, 16, 16))
    assert Augmentation().vary(images, np.random.default_rng(0)) is images


def test_a_shift_beyond_half_the_image_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"shift 0\.6: 0 to 0\.5"):
        Augmentation(shift=0.6)
