"""Keras models as ONNX files, by tf2onnx: run by the Python of `make test-keras`, which has both.

    build/keras/bin/python tests/support/keras_models.py FOLDER [WEIGHTS]

Nothing of this package is imported. With the weights of tests/support/digits_cnn.py, that network
is written too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow import keras

L = keras.layers


def digits_cnn(path: str) -> Any:
    """The network of digits_cnn.py, channels last, with its trained weights."""
    stored = np.load(path)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(8, 3, padding="same"),
            L.BatchNormalization(epsilon=1e-3),
            L.ReLU(),
            L.Conv2D(12, 3, padding="same", activation="relu"),
            L.MaxPool2D(2),
            L.Conv2D(12, 3, activation="relu"),
            L.Flatten(),
            L.Dense(10),
        ]
    )
    conv1, norm, _, conv2, _, conv3, _, head = model.layers
    for layer, name in ((conv1, "conv1"), (conv2, "conv2"), (conv3, "conv3")):
        kernel = stored[f"{name}.weight"].transpose(2, 3, 1, 0)
        layer.set_weights([kernel, stored[f"{name}.bias"]])
    fields = ("weight", "bias", "running_mean", "running_var")
    norm.set_weights([stored[f"norm1.{field}"] for field in fields])
    weight = stored["head.weight"].reshape(10, 12, 2, 2).transpose(2, 3, 1, 0).reshape(48, 10)
    head.set_weights([weight, stored["head.bias"]])
    return model


def residual() -> Any:
    """Strided convolutions with one-sided padding, batch norm before and after sums, a softmax."""
    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(8, 3, 2, "same", use_bias=False)(inputs)
    x = L.ReLU(max_value=6)(L.BatchNormalization()(x))
    y = L.DepthwiseConv2D(3, padding="same")(x)
    y = L.Conv2D(8, 1)(L.LeakyReLU()(L.BatchNormalization()(y)))
    x = L.PReLU(shared_axes=[1, 2])(L.Add()([x, y]))
    x = L.MaxPool2D(3, 2, "same")(x)
    x = L.Concatenate()([x, L.SeparableConv2D(4, 3, padding="same", activation="relu")(x)])
    return keras.Model(inputs, L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x)))


def decoder() -> Any:
    """Pooling, ZeroPadding2D, upsampling in two ways, a transposed convolution, cropping."""
    inputs = keras.Input((12, 12, 2))
    x = L.Conv2D(6, 3, activation="relu")(L.ZeroPadding2D(((1, 0), (0, 2)))(inputs))
    x = L.AveragePooling2D(2)(x)
    up = L.UpSampling2D(2)(x)
    x = L.Conv2DTranspose(4, 3, 2, "same", activation="relu")(x)
    x = L.Concatenate()([x, up, L.UpSampling2D(2, interpolation="bilinear")(L.MaxPool2D(2)(up))])
    x = L.Cropping2D(1)(L.Conv2D(4, 3, activation="hard_sigmoid")(x))
    return keras.Model(inputs, L.Conv2D(3, 1)(x))


def signal() -> Any:
    """Convolutions in one dimension, one of them padded at the front alone."""
    inputs = keras.Input((24, 3))
    x = L.MaxPool1D(2)(L.Conv1D(6, 5, padding="same", activation="relu")(inputs))
    x = L.Conv1D(8, 3, 2, padding="causal", activation="relu")(x)
    return keras.Model(inputs, L.Dense(4)(L.Flatten()(x)))


MODELS = {"residual": residual, "decoder": decoder, "signal": signal}


def save(model: Any, path: Path) -> None:
    shape = (None, *model.inputs[0].shape[1:])
    taken = (tf.TensorSpec(shape, tf.float32, name="image"),)
    function = tf.function(lambda image: model(image, training=False), input_signature=taken)
    tf2onnx.convert.from_function(function, input_signature=taken, output_path=str(path))


def main(folder: Path, weights: str | None) -> None:
    tf.keras.utils.set_random_seed(0)
    for name, make in MODELS.items():
        model = make()
        for layer in model.layers:
            if isinstance(layer, L.BatchNormalization):  # as after training
                rng = np.random.default_rng(0)
                scale, shift, mean, variance = (np.abs(w) for w in layer.get_weights())
                noise = rng.uniform(0.5, 1.5, scale.shape)
                layer.set_weights([scale * noise, shift + 0.1, mean + 0.2, variance * noise])
        save(model, folder / f"keras_{name}.onnx")
    if weights is not None:
        save(digits_cnn(weights), folder / "digits_keras.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
