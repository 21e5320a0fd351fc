"""Keras' batch norm in the forms that the networks need: fused in training, with frozen statistics, fused in inference."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

FUSED_DTYPES = ("float16", "bfloat16", "float32")


@keras.saving.register_keras_serializable("keras_widerresnet")
class BatchNormalization(layers.BatchNormalization):
    """`keras.layers.BatchNormalization` whose training pass over images is TensorFlow's fused operation, on that backend.

    Keras computes moments, normalisation and their gradients by separate operations, each a pass over the images. The fused operation
    gives the same outputs, gradients and running statistics up to rounding, and TensorFlow merges it with a subsequent ReLU. Inference,
    other backends, statistics over several replicas (`synchronized`) and float64 are Keras' own.

    Arguments, call arguments and weights are those of Keras' layer.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and mask is None and self._is_fusible(inputs)):
            return super().call(inputs, training=training, mask=mask)
        normalised = _fused(self, inputs)
        count = ops.cast(ops.size(inputs) // inputs.shape[-1], "float32")
        self._average(self.moving_mean, normalised.batch_mean)
        # The operation's variance divides by count - 1, Keras' by count.
        self._average(self.moving_variance, normalised.batch_variance * ((count - 1) / count))
        return normalised.y

    def _is_fusible(self, inputs) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not self.synchronized
            and not self.renorm
            and keras.backend.standardize_dtype(inputs.dtype) == self.compute_dtype
            and self.compute_dtype in FUSED_DTYPES
        )

    def _average(self, variable, value) -> None:
        variable.assign(variable * self.momentum + ops.cast(value, variable.dtype) * (1 - self.momentum))


@keras.saving.register_keras_serializable("keras_widerresnet")
class FrozenBatchNormalization(BatchNormalization):
    """Batch norm that uses its running statistics in training too, but learns scale and shift (official release, segmentation).

    Setting `trainable=False` on Keras' own layer would freeze scale and shift as well.
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable("keras_widerresnet")
class FusedBatchNormalization(layers.BatchNormalization):
    """Inference batch norm of images as one TensorFlow operation, in half the time of Keras' separate operations."""

    def call(self, inputs, training=None, mask=None):
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=False, mask=mask)
        return _fused(self, inputs, (self.moving_mean, self.moving_variance)).y


def _fused(layer: layers.BatchNormalization, inputs, statistics: Sequence[keras.Variable] = ()):
    """Returns the outputs of TensorFlow's fused operation, with the batch's own statistics unless mean and variance are given."""
    import tensorflow as tf  # imported here, so that the networks also build and load with other backends

    weights = (tf.convert_to_tensor(ops.cast(weight, "float32")) for weight in (layer.gamma, layer.beta, *statistics))
    scale, offset, mean, variance = weights if statistics else (*weights, tf.zeros([0]), tf.zeros([0]))
    return tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=layer.epsilon, is_training=not statistics
    )
