"""Dilated convolutions as one operation, against Keras' own layer and a sum over the taps."""

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_widerresnet.convolution import Conv2D, _has_dilated_gradients

RNG = np.random.default_rng(0)
# Maps smaller than the reach of the kernel, sides that are no multiples of the dilation, and two dilations.
CASES = [((2, 7, 9), 16, 32, 2), ((1, 5, 5), 48, 16, 12), ((2, 6, 30), 16, 16, (2, 4)), ((4, 30, 30), 64, 112, 4), ((2, 1, 1), 16, 16, 2)]


def one_step(kind, x, kernel, upstream, dilation, compiled="graph", **options):
    """Returns outputs and the gradients of inputs and kernel."""
    layer = kind(kernel.shape[-1], kernel.shape[0], padding="same", dilation_rate=dilation, use_bias=False, **options)
    layer.build(x.shape)
    layer.set_weights([kernel])

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = tf.cast(layer(x), "float32")
            loss = tf.reduce_sum(outputs * upstream)
        return outputs, *tape.gradient(loss, [x, layer.kernel.value])

    run = step if compiled == "eager" else tf.function(step, jit_compile=compiled == "xla")
    return [np.asarray(value) for value in run(tf.constant(x))]


def operations(layer, shape):
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec(shape)).graph
    return {operation.type for operation in graph.get_operations()}


def draws(shape, in_channels, filters):
    sizes = (*shape, in_channels), (3, 3, in_channels, filters), (*shape, filters)
    return [RNG.normal(size=size).astype("float32") for size in sizes]


@pytest.mark.parametrize("compiled", ["eager", "graph", "xla"])
@pytest.mark.parametrize("case", CASES)
def test_same_numbers_as_keras(case, compiled):
    *sizes, dilation = case
    arrays = draws(*sizes)
    ours, keras_own = (one_step(kind, *arrays, dilation, compiled) for kind in (Conv2D, layers.Conv2D))
    for value, reference in zip(ours, keras_own, strict=True):
        np.testing.assert_allclose(value, reference, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize("case", CASES)
def test_the_sum_over_the_taps(case):
    *sizes, dilation = case
    x, kernel, upstream = draws(*sizes)
    (down, across), (height, width) = np.broadcast_to(dilation, 2), x.shape[1:3]
    padded = np.pad(x.astype(float), ((0, 0), (down, down), (across, across), (0, 0)))
    outputs, of_padded, of_kernel = 0, np.zeros_like(padded), np.zeros(kernel.shape)
    for i, j in itertools.product(range(3), repeat=2):
        seen = np.s_[:, i * down : i * down + height, j * across : j * across + width]
        outputs = outputs + padded[seen] @ kernel[i, j]
        of_padded[seen] += upstream @ kernel[i, j].T
        of_kernel[i, j] = np.tensordot(padded[seen], upstream, axes=((0, 1, 2), (0, 1, 2)))
    expected = outputs, of_padded[:, down : down + height, across : across + width], of_kernel
    for value, reference in zip(one_step(Conv2D, x, kernel, upstream, dilation), expected, strict=True):
        np.testing.assert_allclose(value, reference, atol=1e-5 * np.abs(reference).max())


@pytest.mark.skipif(not _has_dilated_gradients(), reason="TensorFlow without oneDNN")
def test_the_dilation_is_left_to_the_operation():
    shape = (2, 8, 8, 16)
    assert "SpaceToBatchND" in operations(layers.Conv2D(16, 3, padding="same", dilation_rate=2), shape)
    assert "SpaceToBatchND" not in operations(Conv2D(16, 3, padding="same", dilation_rate=2), shape)


@pytest.mark.parametrize(("channels", "filters"), [(24, 16), (16, 11)])
def test_other_channels_are_left_to_keras(channels, filters):
    """In bfloat16, the direct gradient of a kernel with 24 input channels has values that nobody computed (oneDNN of TensorFlow 2.21)."""
    assert "SpaceToBatchND" in operations(Conv2D(filters, 3, padding="same", dilation_rate=2), (2, 8, 8, channels))


def test_half_precision_differs_by_its_rounding():
    arrays = draws((4, 15, 15), 32, 32)
    found, expected = one_step(Conv2D, *arrays, 4, dtype="mixed_bfloat16"), one_step(layers.Conv2D, *arrays, 4)
    for value, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, reference, atol=2**-6 * np.abs(reference).max())


WITHOUT_ONEDNN = """
import numpy as np, tensorflow as tf
from keras import layers
from keras_widerresnet.convolution import Conv2D, _has_dilated_gradients
assert not _has_dilated_gradients()
x, ours, theirs = tf.ones((1, 6, 6, 16)), *(kind(16, 3, padding="same", dilation_rate=2) for kind in (Conv2D, layers.Conv2D))
for layer in (ours, theirs):
    layer.build(x.shape)
theirs.set_weights(ours.get_weights())
def gradient(layer):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    return tape.gradient(loss, layer.kernel.value)
np.testing.assert_array_equal(tf.function(gradient)(ours), tf.function(gradient)(theirs))
"""


def test_without_onednn_it_is_keras_own():
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    ran = subprocess.run([sys.executable, "-c", WITHOUT_ONEDNN], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_a_network_of_keras_own_layers_takes_its_weights(tmp_path):
    """Files of weights name layers by their class: that of earlier versions was Keras'."""

    def network(kind):
        inputs = keras.Input((8, 8, 16))
        return keras.Model(inputs, kind(16, 3, padding="same", dilation_rate=2)(kind(16, 3, padding="same")(inputs)))

    ours, keras_own = network(Conv2D), network(layers.Conv2D)
    keras_own.save_weights(tmp_path / "a.weights.h5")
    ours.load_weights(tmp_path / "a.weights.h5")
    x = RNG.normal(size=(1, 8, 8, 16)).astype("float32")
    np.testing.assert_allclose(ours(x), keras_own(x), rtol=1e-5, atol=1e-5)
