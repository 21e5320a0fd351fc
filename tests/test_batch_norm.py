"""Batch norm in training against Keras' own layer and the formula."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_widerresnet.batch_norm import BatchNormalization, FrozenBatchNormalization

RNG = np.random.default_rng(0)
OPTIONS = {"momentum": 0.9, "epsilon": 1.001e-5}


def one_step(kind, x, upstream, compiled="eager", **options):
    """Returns outputs, gradients of input, scale and shift, and running statistics after one step."""
    layer = kind(**OPTIONS, **options)
    layer.build(x.shape)
    channels = x.shape[-1]
    draws = np.random.default_rng(1)
    layer.set_weights([draws.uniform(0.5, 1.5, channels), *draws.normal(size=(2, channels)), draws.uniform(0.5, 1.5, channels)])
    trained = [variable.value for variable in (layer.gamma, layer.beta)]

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, "float32") * upstream)
        return outputs, tape.gradient(loss, [x, *trained])

    run = {"eager": step, "graph": tf.function(step), "xla": tf.function(step, jit_compile=True)}[compiled]
    outputs, gradients = run(tf.cast(x, layer.compute_dtype))
    return [tf.cast(value, "float32").numpy() for value in (outputs, *gradients)] + layer.get_weights()[2:]


@pytest.mark.parametrize("compiled", ["eager", "graph", "xla"])
@pytest.mark.parametrize("shape", [(4, 6, 5, 8), (8, 3, 1, 3), (8, 32, 32, 16)])
def test_same_numbers_as_keras(shape, compiled):
    x, upstream = RNG.normal(1.0, 2.0, size=shape).astype("float32"), RNG.normal(size=shape).astype("float32")
    ours, keras_own = (one_step(kind, x, upstream, compiled) for kind in (BatchNormalization, layers.BatchNormalization))
    for value, reference in zip(ours, keras_own, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(reference).max()))


@pytest.mark.parametrize("kind", [BatchNormalization, layers.BatchNormalization])
def test_the_formula(kind):
    """Statistics are over the batch and all pixels; the running variance is the batch's own, not the unbiased estimate."""
    x = RNG.normal(3.0, 2.0, size=(2, 3, 2, 4)).astype("float32")
    layer = kind(**OPTIONS)
    outputs = layer(x, training=True)
    mean, variance = x.astype(float).mean((0, 1, 2)), x.astype(float).var((0, 1, 2))
    np.testing.assert_allclose(outputs, (x - mean) / np.sqrt(variance + 1.001e-5), atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)


def test_one_value_a_channel():
    """Its variance is 0, so that the output is the shift and the running variance only decays."""
    layer = BatchNormalization(**OPTIONS)
    np.testing.assert_allclose(layer(np.full((1, 1, 1, 2), 7.0, "float32"), training=True), 0.0, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.9, rtol=1e-6)


def test_far_from_zero():
    """A mean of a thousand standard deviations: no worse than Keras' layer, against float64."""
    x = RNG.normal(1000.0, 1.0, size=(8, 16, 16, 4)).astype("float32")
    expected = (x - x.astype(float).mean((0, 1, 2))) / np.sqrt(x.astype(float).var((0, 1, 2)) + 1.001e-5)
    kinds = BatchNormalization, layers.BatchNormalization
    ours, keras_own = (np.abs(kind(**OPTIONS)(x, training=True) - expected).max() for kind in kinds)
    assert ours <= max(2 * keras_own, 1e-5)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 2**-6), ("mixed_float16", 2**-9)])
def test_half_precision_differs_by_its_rounding(policy, tolerance):
    """Statistics and weights stay float32."""
    x, upstream = RNG.normal(size=(8, 8, 8, 4)).astype("float32"), RNG.normal(size=(8, 8, 8, 4)).astype("float32")
    half = tf.cast(tf.cast(x, policy.removeprefix("mixed_")), "float32").numpy()
    ours, reference = one_step(BatchNormalization, x, upstream, dtype=policy), one_step(layers.BatchNormalization, half, upstream)
    for value, expected in zip(ours[:4], reference, strict=False):
        np.testing.assert_allclose(value, expected, atol=tolerance * np.abs(expected).max())
    for value, expected in zip(ours[4:], reference[4:], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def operations(layer, x, training=True):
    """Returns the types of the operations that a call of the layer runs."""
    graph = tf.function(lambda x: layer(x, training=training)).get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph
    return {operation.type for operation in graph.get_operations()}


def test_when_it_is_fused():
    x = tf.zeros((2, 4, 4, 3))
    fused = "FusedBatchNormV3"
    assert fused in operations(BatchNormalization(), x)
    assert fused not in operations(BatchNormalization(), x, training=False)
    assert fused not in operations(FrozenBatchNormalization(), x)
    assert fused not in operations(BatchNormalization(trainable=False), x)
    assert fused not in operations(BatchNormalization(dtype="float64"), tf.cast(x, "float64"))
    assert fused not in operations(BatchNormalization(synchronized=True), x)
    assert fused not in operations(BatchNormalization(), tf.zeros((2, 3)))
    assert fused not in operations(BatchNormalization(scale=False), x)
