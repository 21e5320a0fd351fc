"""Small networks in float64 for the tests of the analysis."""

import contextlib

import keras
import numpy as np
from keras import layers

import keras_widerresnet as kw


@contextlib.contextmanager
def float64():
    # Keras takes the policy from the float type only until the policy is first asked for.
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def nonlinear(units, width=4, classes=3, seed=0):
    """Dense units x + dense(tanh(dense(x))); every second one projects its input by a dense shortcut."""
    keras.utils.set_random_seed(seed)
    with float64():
        image = x = keras.Input((width,))
        for number in range(units):
            branch = layers.Dense(width, activation="tanh", name=f"unit{number}_a")(x)
            branch = layers.Dense(width, name=f"unit{number}_b")(branch)
            shortcut = layers.Dense(width, use_bias=False, name=f"unit{number}_shortcut")(x) if number % 2 else x
            x = layers.Add(name=f"unit{number}")([shortcut, branch])
        return keras.Model(image, layers.Dense(classes, activation="softmax")(x))


def linear(units, factor, width=3, classes=3):
    """Units x + factor * x, and a classifier."""
    with float64():
        image = x = keras.Input((width,))
        for number in range(units):
            kernel = keras.initializers.Constant(factor * np.eye(width))
            branch = layers.Dense(width, use_bias=False, kernel_initializer=kernel, name=f"unit{number}_block")(x)
            x = layers.Add(name=f"unit{number}")([x, branch])
        return keras.Model(image, layers.Dense(classes, activation="softmax")(x))


def wide_resnet(structure, seed=0, classes=3):
    """A network of ours in float64, its running statistics and shifts drawn at random."""
    keras.utils.set_random_seed(seed)
    with float64():
        network = kw.WiderResNet(structure, width=0.01, classes=classes)
    generator = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([generator.uniform(0.5, 1.5, shape) for _ in range(4)])
    return network
