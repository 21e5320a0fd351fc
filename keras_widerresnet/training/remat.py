"""Rematerialisation over units: the backward pass computes a unit's activations anew (official release: "mirror").

A unit is made a pure function of its variables' values, so that what is computed twice updates no running average and draws no dropout
mask of its own. Written for any Keras backend.
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
    """The network cut behind every residual unit and the pool after it, as models that share its layers; the last one is the head."""
    pairs = itertools.pairwise(network.layers)
    # The pooled map, which is kept, is a quarter of the unit's sum, which need not be.
    ends = [(after if isinstance(after, MaxPool) else layer).output for layer, after in pairs if isinstance(layer, keras.layers.Add)]
    ends.append(network.output)
    return [keras.Model(start, end) for start, end in zip([network.input, *ends], ends, strict=False)]


def rematerialized(network: keras.Model) -> Callable:
    """A function from images to what `network(images, training=True)` gives, which keeps only the units' inputs for the backward pass.

    Units with more weights than their maps of the whole batch have values are not computed anew: their gradients need far more memory
    than that would save. Neither are units before the first trained weight: they have no backward pass, and keep nothing for one.
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
    """Lets CPU tensors of 4 MB and more go back to the system when they are freed; call it before TensorFlow's first operation.

    TensorFlow's own pool (with oneDNN) grows by doubling and gives nothing back. Costs the time to map the pages anew.
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
    """`keras.remat`; with TensorFlow, where that copies all weights and holds all gradients of the unit, our own.

    Args:
        pure: from an input and values to its outputs.
        trained: so many of the values, the first ones, have gradients.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.remat(pure)
    import tensorflow as tf

    @tf.custom_gradient
    def recomputed(x, *values):
        def gradient(*upstream):
            # Not before the gradient is there; XLA heeds data only, so that its first value takes part.
            first = tf.reshape(upstream[0], [-1])[0]
            again = x + tf.cast(tf.where(tf.math.is_nan(first), first, tf.zeros_like(first)), x.dtype)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([again, *values[:trained]])
                outputs = pure(again, *values)
            return tape.gradient(outputs, [again, *values[:trained]], upstream) + [None] * len(values[trained:])

        return pure(x, *values), gradient

    # A variable among the arguments would be taken for one that the function uses beside them.
    return lambda *arguments: recomputed(*(tf.convert_to_tensor(argument) for argument in arguments))
