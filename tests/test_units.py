import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_widerresnet import units
from keras_widerresnet.structures import STRUCTURES, Unit

RNG = np.random.default_rng(0)


def numpy_max_pool(x, padding, stride=2, dilation=1):
    """Windows taken one by one from a plain definition of each convention."""
    pads = {"ceil": (0, 0), "valid": (0, 0), "symmetric": (dilation, dilation)}[padding]
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=-np.inf)
    reach = 2 * dilation + 1
    counts = [
        (int(np.ceil((n - reach) / stride)) if padding == "ceil" else (n - reach) // stride) + 1 for n in x.shape[1:3]
    ]  # fmt: skip
    out = np.full((x.shape[0], *counts, x.shape[3]), np.nan, x.dtype)
    for i in range(counts[0]):
        for j in range(counts[1]):
            window = x[:, i * stride : i * stride + reach : dilation, j * stride : j * stride + reach : dilation]
            out[:, i, j] = window.max(axis=(1, 2))
    return out


@pytest.mark.parametrize("padding", ["ceil", "symmetric", "valid"])
@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (8, 7), (5, 6), (9, 4), (3, 3), (4, 12)])
@pytest.mark.parametrize("shift", [-10.0, 0.0])
@pytest.mark.parametrize("static", [True, False])
def test_max_pool_conventions(padding, shape, shift, static):
    x = RNG.normal(size=(2, *shape, 3)).astype(np.float32) + np.float32(shift)
    image = keras.Input((*shape, 3) if static else (None, None, 3))
    layer = units.MaxPool(padding)
    model = keras.Model(image, layer(image))
    result = np.asarray(model(x))
    np.testing.assert_array_equal(result, numpy_max_pool(x, padding))
    assert layer.compute_output_shape(x.shape) == result.shape


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_pool_of_a_dropped_halving(dilation):
    x = RNG.normal(size=(1, 9, 10, 2)).astype(np.float32) - 5
    result = units.MaxPool("ceil", strides=1, dilation=dilation)(x)
    np.testing.assert_array_equal(np.asarray(result), numpy_max_pool(x, "symmetric", stride=1, dilation=dilation))


def test_pool_of_negative_values_never_sees_a_zero():
    x = np.full((1, 6, 6, 1), -3.0, np.float32)
    for padding in ("ceil", "symmetric", "valid"):
        assert np.asarray(units.MaxPool(padding)(x)).max() == -3.0


def numpy_conv(x, kernel, stride, dilation):
    """Direct convolution padded by dilation * (k // 2) on every side."""
    reach = dilation * (kernel.shape[0] - 1) + 1
    pad = dilation * (kernel.shape[0] // 2)
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    counts = [(n - reach) // stride + 1 for n in x.shape[1:3]]
    out = np.zeros((x.shape[0], *counts, kernel.shape[3]))
    for i in range(counts[0]):
        for j in range(counts[1]):
            window = x[:, i * stride : i * stride + reach : dilation, j * stride : j * stride + reach : dilation]
            out[:, i, j] = np.tensordot(window, kernel, axes=3)
    return out


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (3, 1, 2), (3, 1, 4), (1, 2, 1), (1, 1, 1)])
@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
def test_convolutions_pad_symmetrically(kernel, stride, dilation, size):
    x = RNG.normal(size=(1, *size, 3)).astype(np.float32)
    image = keras.Input((*size, 3))
    model = keras.Model(image, units.conv(image, 4, kernel, "res", stride=stride, dilation=dilation))
    weights = model.get_layer("res").get_weights()[0]
    np.testing.assert_allclose(model(x), numpy_conv(x, weights, stride, dilation), atol=1e-5)


def batch_norm_relu(x, gamma, beta, mean, var):
    return np.maximum((x - mean) / np.sqrt(var + 1.001e-5) * gamma + beta, 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_basic_unit_against_numpy(stride):
    """Epsilon, the projection of the pre-activated input, symmetric padding, nothing after the addition."""
    unit = Unit("2a", 2, in_channels=3, filters=(4, 5), dilations=(1, 1), stride=stride, projection=True, dropout=0.0)
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, units.residual_unit(image, unit))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            # Variances near epsilon make its value matter.
            size = layer.gamma.shape
            layer.set_weights([RNG.uniform(0.5, 1.5, size), RNG.normal(size=size), RNG.normal(size=size), RNG.uniform(1e-6, 1e-4, size)])
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    x = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    h = batch_norm_relu(x, *weights["bn2a_branch2a"])
    branch = numpy_conv(h, weights["res2a_branch2a"][0], stride, 1)
    branch = numpy_conv(batch_norm_relu(branch, *weights["bn2a_branch2b1"]), weights["res2a_branch2b1"][0], 1, 1)
    expected = numpy_conv(h, weights["res2a_branch1"][0], stride, 1) + branch
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_identity_shortcut_takes_the_input_itself():
    unit = Unit("3b1", 3, in_channels=4, filters=(4, 4), dilations=(1, 1), stride=1, projection=False, dropout=0.0)
    image = keras.Input((6, 6, 4))
    model = keras.Model(image, units.residual_unit(image, unit))
    model.get_layer("res3b1_branch2b1").set_weights([np.zeros((3, 3, 4, 4))])
    x = RNG.normal(size=(1, 6, 6, 4)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(model(x)), x)


def test_epsilon_and_momentum_of_every_batch_norm():
    image = keras.Input((8, 8, 4))
    unit = Unit("6a", 6, 4, (4, 4, 8), (1, 1, 1), 1, True, 0.0)
    norms = [layer for layer in keras.Model(image, units.residual_unit(image, unit)).layers if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == 3
    assert {(norm.epsilon, norm.momentum, norm.center, norm.scale) for norm in norms} == {(1.001e-5, 0.9, True, True)}


def test_moving_average_is_nine_tenths_old():
    norm_image = keras.Input((1, 1, 1))
    model = keras.Model(norm_image, units.batch_norm_relu(norm_image, "bn7", "relu7"))
    model(np.full((4, 1, 1, 1), 5.0, np.float32), training=True)
    assert np.isclose(model.get_layer("bn7").get_weights()[2], 0.9 * 0 + 0.1 * 5.0)


@pytest.mark.parametrize(("name", "filters"), [("6a", (8, 8, 16)), ("7a", (8, 16, 32))])
def test_dropout_stands_before_the_last_convolution_only(name, filters):
    unit = Unit(name, int(name[0]), 8, filters, (1, 1, 1), 1, True, dropout=0.5)
    image = keras.Input((4, 4, 8))
    model = keras.Model(image, units.residual_unit(image, unit))
    dropouts = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
    assert len(dropouts) == 1 and dropouts[0].rate == 0.5 and dropouts[0].noise_shape is None  # element-wise
    assert dropouts[0].input is model.get_layer(f"res{name}_branch2b2_relu").output
    assert model.get_layer(f"res{name}_branch2b2").input is dropouts[0].output


def test_dropout_rates_by_stage():
    plan = STRUCTURES["A1"].plan(dropout=(0.3, 0.5))
    assert {item.name: item.dropout for item in plan if isinstance(item, Unit) and item.dropout} == {"6a": 0.3, "7a": 0.5}


def test_he_normal_is_not_truncated():
    """Standard deviation sqrt(2 / fan in), and tails beyond the two deviations where Keras' own would be cut."""
    values = np.asarray(units.he_normal()((3, 3, 64, 512)))
    deviation = np.sqrt(2 / (9 * 64))
    assert abs(values.std() / deviation - 1) < 0.01
    beyond = (np.abs(values) > 3 * deviation).mean()
    assert abs(beyond - 0.0027) < 0.0005  # the normal distribution's


def test_gradient_of_a_strided_projection_of_few_channels():
    """oneDNN corrupts the heap in TensorFlow's own strided 1x1 convolution of 8 channels (oneDNN issue 6035)."""
    image = keras.Input((None, None, 8))
    model = keras.Model(image, units.conv(image, 16, 1, "res2a_branch1", stride=2))
    x = RNG.normal(size=(16, 64, 63, 8)).astype(np.float32)
    weights = RNG.normal(size=(16, 32, 32, 16)).astype(np.float32)
    kernel = model.trainable_variables[0]
    with tf.GradientTape() as tape:
        outputs = model(x)
        loss = tf.reduce_sum(outputs * weights)
    gradient = tape.gradient(loss, kernel.value)
    np.testing.assert_allclose(outputs, np.einsum("bhwc,cd->bhwd", x[:, ::2, ::2], kernel.numpy()[0, 0]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient[0, 0], np.einsum("bhwc,bhwd->cd", x[:, ::2, ::2], weights), rtol=1e-3, atol=1e-2)


def test_frozen_batch_norm_learns_scale_and_shift_and_keeps_its_statistics():
    """Release's segmentation recipe: in training as in testing, (x - mean) / sqrt(variance + epsilon) · scale + shift."""
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, units.batch_norm_relu(image, "bn7", "relu7", frozen=True))
    layer = model.get_layer("bn7")
    gamma, beta, mean, variance = RNG.uniform(0.5, 1.5, (4, 3)).astype(np.float32)
    layer.set_weights([gamma, beta, mean, variance])
    x = RNG.normal(size=(2, 4, 4, 3)).astype(np.float32)
    expected = np.maximum((x - mean) / np.sqrt(variance + units.BATCH_NORM_EPSILON) * gamma + beta, 0)
    for training in (True, False):
        np.testing.assert_allclose(model(x, training=training), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer.get_weights()[2:], [mean, variance])
    assert [variable.name for variable in layer.trainable_variables] == ["gamma", "beta"]
    copy = keras.Model.from_config(model.get_config())
    assert isinstance(copy.get_layer("bn7"), units.FrozenBatchNormalization)
