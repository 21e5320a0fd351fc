"""The loss for classification."""

from __future__ import annotations

import keras
import tensorflow as tf


def losses(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Returns the cross-entropy of each image, float (batch,), from labels and probabilities (batch, classes)."""
    return keras.losses.categorical_crossentropy(labels, probabilities)
