"""Cost of the exact gradient decomposition, relative to a backward pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.measure import median_seconds
from keras_widerresnet.analysis.chain import residual_chain
from keras_widerresnet.analysis.gradients import Decomposition, cross_entropy
from keras_widerresnet.networks import WiderResNet


def decomposition_cost(structure: str, width: float, batch_size: int, repeats: int, classes: int = 10) -> dict[str, float]:
    """Measures median times on random images.

    Args:
        structure, width: the network's structure and width.
        batch_size: number of images.
        repeats: number of timed calls, after a first one that also traces.
        classes: number of classes.

    Returns:
        `backward_seconds`, the time of a forward and backward pass minus that of a forward pass; `norms` and `terms`, the times of
        `Decomposition.norms` and `Decomposition.terms` divided by it.
    """
    network = WiderResNet(structure, width=width, classes=classes)
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(batch_size, *network.input_shape[1:])), tf.float32)
    labels = tf.constant(generator.integers(0, classes, batch_size))
    decomposition = Decomposition(residual_chain(network))

    @tf.function
    def forward(images, labels):
        return cross_entropy(labels, network(images, training=False))

    @tf.function
    def backward(images, labels):
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels, network(images, training=False))
        return tape.gradient(loss, [variable.value for variable in network.trainable_variables])

    def seconds(call: Callable) -> float:
        return median_seconds(lambda: call(images, labels), repeats)

    one = seconds(backward) - seconds(forward)
    return {"backward_seconds": one, **{name: seconds(getattr(decomposition, name)) / one for name in ("norms", "terms")}}
