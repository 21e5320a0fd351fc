"""Keras' batch norm in the forms that the networks need: fused in training, with frozen statistics, fused in inference."""

from __future__ import annotations

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
        import tensorflow as tf  # imported here, so that the networks also build with other backends

        none = tf.zeros([0])
        normalised = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(ops.cast(self.gamma, "float32")),
            offset=tf.convert_to_tensor(ops.cast(self.beta, "float32")),
            mean=none,
            variance=none,
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
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
        import tensorflow as tf  # imported here, so that saved networks also load with other backends

        statistics = (ops.cast(weight, "float32") for weight in (self.gamma, self.beta, self.moving_mean, self.moving_variance))
        scale, offset, mean, variance = map(tf.convert_to_tensor, statistics)
        normalised = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=self.epsilon, is_training=False
        )
        return normalised.y
