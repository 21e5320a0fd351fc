"""The loss of classification."""

from __future__ import annotations

import keras
import tensorflow as tf


def losses(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each image, float (batch,), of labels and probabilities (batch, classes)."""
    return keras.losses.categorical_crossentropy(labels, probabilities)
