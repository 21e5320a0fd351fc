"""Memory-saving recomputation: the backward pass recomputes each unit's activations (called "mirror" in the official release).

Each unit becomes a pure function of its variables' values, so that the recomputation neither updates running averages a second time nor
draws a different dropout mask. Works with every Keras backend.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import sys
from collections.abc import Callable

import keras

from keras_widerresnet.units import MaxPool

M_MMAP_THRESHOLD = -3
LEAST_MAPPED_BYTES = 4 * 2**20


def segments(network: keras.Model) -> list[keras.Model]:
    """Splits the network after every residual unit and its subsequent pool; the models share its layers, the last one is the head."""
    pairs = itertools.pairwise(network.layers)
    # Keeping the pooled map takes a quarter of the memory of keeping the unit's sum.
    ends = [(after if isinstance(after, MaxPool) else layer).output for layer, after in pairs if isinstance(layer, keras.layers.Add)]
    ends.append(network.output)
    return [keras.Model(start, end) for start, end in zip([network.input, *ends], ends, strict=False)]


def rematerialized(network: keras.Model) -> Callable:
    """Returns a function equal to `network(images, training=True)` that keeps only the units' inputs for the backward pass.

    Units with more weights than activations of the whole batch are not recomputed: their gradients need far more memory than
    recomputation would save. Neither are units before the first trained weight, which have no backward pass.
    """
    *units, head = segments(network)
    first = next((index for index, unit in enumerate(units) if unit.trainable_variables), len(units))
    calls = [(unit, _pure_call(unit), _values_an_image(unit)) for unit in units[first:]]

    def forward(images):
        x = images
        for unit in units[:first]:
            x = unit(x, training=True)
        for unit, recomputed, values in calls:
            is_light = images.shape[0] is not None and values is not None and images.shape[0] * values < unit.count_params()
            x = unit(x, training=True) if is_light else recomputed(x)
        return head(x, training=True)

    return forward


def give_back_freed_memory() -> None:
    """Returns CPU tensors of 4 MB or more to the system when they are freed; must be called before TensorFlow's first operation.

    TensorFlow's own pool (with oneDNN) grows by doubling and never releases memory. The cost is the time to map pages again.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LEAST_MAPPED_BYTES)


def _values_an_image(unit: keras.Model) -> int | None:
    shapes = [layer.output.shape[1:] for layer in unit.layers]
    return None if any(None in shape for shape in shapes) else sum(math.prod(shape) for shape in shapes)


def _pure_call(unit: keras.Model) -> Callable:
    trainable, state = unit.trainable_variables, unit.non_trainable_variables

    def pure(x, *values):
        output, updated = unit.stateless_call(list(values[: len(trainable)]), list(values[len(trainable) :]), x, training=True)
        return (output, *updated)

    recomputed = _recomputed(pure, len(trainable))

    def call(x):
        output, *updated = recomputed(x, *(keras.ops.convert_to_tensor(variable) for variable in trainable + state))
        for variable, value in zip(state, updated, strict=True):
            variable.assign(value)
        return output

    return call


def _recomputed(pure: Callable, trained: int) -> Callable:
    """Returns `keras.remat(pure)`; for TensorFlow our own, as Keras' copies all weights and holds all gradients of the unit.

    Args:
        pure: from an input and values to its outputs.
        trained: number of leading values that have gradients.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.remat(pure)
    import tensorflow as tf

    @tf.custom_gradient
    def recomputed(x, *values):
        def gradient(*upstream):
            # Wait for the gradient: a data dependency on its first value, as XLA ignores control dependencies.
            first = tf.reshape(upstream[0], [-1])[0]
            again = x + tf.cast(tf.where(tf.math.is_nan(first), first, tf.zeros_like(first)), x.dtype)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([again, *values[:trained]])
                outputs = pure(again, *values)
            return tape.gradient(outputs, [again, *values[:trained]], upstream) + [None] * len(values[trained:])

        return pure(x, *values), gradient

    # Variables among the arguments would be treated as variables that the function captures.
    return lambda *arguments: recomputed(*(tf.convert_to_tensor(argument) for argument in arguments))
