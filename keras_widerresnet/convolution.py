"""Keras' convolution, whose dilated form is one operation on TensorFlow too."""

from __future__ import annotations

import functools

import keras
from keras import layers, ops

DIRECT_DTYPES = ("float32", "bfloat16")
CHANNEL_BLOCK = 16


@keras.saving.register_keras_serializable("keras_widerresnet")
class Conv2D(layers.Conv2D):
    """`keras.layers.Conv2D` that leaves a dilation to TensorFlow's convolution, where that computes the gradients too.

    Keras moves the pixels between which there is a dilation into the batch and back, and pads them to a multiple of the dilation: with 12,
    as in the segmentation head, that takes up to three times as long on a CPU. The outputs and gradients are the same up to rounding. Other
    backends and strided, grouped or undilated convolutions are Keras' own, and so are those whose channels are no multiples of 16: oneDNN
    writes past its buffers in their gradients in bfloat16.

    Arguments, call arguments and weights are those of Keras' layer.
    """

    def convolution_op(self, inputs, kernel):
        if not self._is_direct(inputs):
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf  # imported here, so that the networks also build and load with other backends

        return tf.nn.conv2d(inputs, ops.convert_to_tensor(kernel), 1, self.padding.upper(), dilations=self.dilation_rate)

    def _is_direct(self, inputs) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and max(self.dilation_rate) > 1
            and max(self.strides) == 1
            and self.groups == 1
            and self.data_format == "channels_last"
            and inputs.shape[-1] % CHANNEL_BLOCK == 0
            and self.filters % CHANNEL_BLOCK == 0
            and self.compute_dtype in DIRECT_DTYPES
            and _has_dilated_gradients()
        )


@functools.cache
def _has_dilated_gradients() -> bool:
    """Returns whether TensorFlow has gradients of dilated convolutions on the CPU: oneDNN has them, its own kernels do not."""
    import tensorflow as tf

    with tf.init_scope(), tf.device("CPU:0"):
        maps, sides = tf.ones((1, 3, 3, CHANNEL_BLOCK)), (3, 3, CHANNEL_BLOCK, CHANNEL_BLOCK)
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=maps, filter_sizes=sides, out_backprop=maps, strides=(1, 1, 1, 1), padding="SAME", dilations=(1, 2, 2, 1)
            )
        except tf.errors.InvalidArgumentError:
            return False
    return True
