"""The layers of a DeepLabV3+ network besides Keras' own; they take images whose size is unknown until they are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_widerresnet.hub.library import dtype_policy
from keras_widerresnet.hub.library import keras_hub as imported


@keras.saving.register_keras_serializable("keras_widerresnet")
class PyramidPooling(layers.Layer):
    """KerasHub's atrous spatial pyramid pooling (Chen et al. 2017): a 1x1, dilated and global branches, joined by a 1x1 convolution.

    KerasHub's layer alone cannot be loaded as part of a functional model (its shape in a file is a list), and the resizing inside it, whose
    `training` is true by default, lets its last batch norm train whenever a model is called without the argument `training`.

    Args:
        dilation_rates: of the 3x3 convolutions.

    Call arguments:
        inputs: float tensor (batch, H, W, C).

    Returns:
        Tensor (batch, H, W, 256).

    Raises:
        InputError: if KerasHub is not installed, also on loading a file.
    """

    def __init__(self, dilation_rates: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        imported("DeepLabV3+")
        # KerasHub has no public name for it.
        from keras_hub.src.models.deeplab_v3.deeplab_v3_layers import SpatialPyramidPooling

        self.dilation_rates = list(dilation_rates)
        self.pooling = SpatialPyramidPooling(self.dilation_rates, dtype=self.dtype_policy, name="pooling")

    def build(self, input_shape):
        with dtype_policy(self.dtype_policy):  # KerasHub's layer leaves that of its own layers to Keras
            self.pooling.build(tuple(input_shape))

    def call(self, inputs, training=False):  # the layers inside take this value from here
        return self.pooling(inputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.pooling.num_channels)

    def get_config(self):
        return {**super().get_config(), "dilation_rates": list(self.dilation_rates)}


@keras.saving.register_keras_serializable("keras_widerresnet")
class PadToMultiple(layers.Layer):
    """Pads images at the bottom and right with zeros, the mean colour after `preprocess_input`.

    Args:
        multiple: of pixels, to which height and width are padded.

    Call arguments:
        inputs: tensor (batch, H, W, C).
    """

    def __init__(self, multiple: int, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, inputs):
        height, width = ops.shape(inputs)[1:3]
        if all(isinstance(side, int) and side % self.multiple == 0 for side in (height, width)):
            return inputs
        return ops.pad(inputs, ((0, 0), (0, -height % self.multiple), (0, -width % self.multiple), (0, 0)))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, *(side and side + -side % self.multiple for side in (height, width)), channels)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable("keras_widerresnet")
class EnlargeBilinearly(layers.Layer):
    """`keras.layers.UpSampling2D(factor, interpolation="bilinear")` that also takes maps whose size is unknown until they are there.

    Args:
        factor: cells of the output per cell of the input, in each direction.

    Call arguments:
        inputs: tensor (batch, H, W, C).

    Returns:
        Tensor (batch, H * factor, W * factor, C); cells are centred half a cell from the border, and edges are replicated.
    """

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        height, width = ops.shape(inputs)[1:3]
        rows = ops.einsum("ph,bhwc->bpwc", self._weights(height, inputs.dtype), inputs)
        return ops.einsum("qw,bpwc->bpqc", self._weights(width, inputs.dtype), rows)

    def _weights(self, count, dtype):
        """Returns the matrix (cells of the output, cells of the input)."""
        cells = ops.cast(ops.arange(count), "float32")
        places = (ops.cast(ops.arange(count * self.factor), "float32") + 0.5) / self.factor - 0.5
        inside = ops.clip(places, 0.0, ops.cast(count - 1, "float32"))
        return ops.cast(ops.maximum(1 - ops.abs(inside[:, None] - cells[None]), 0.0), dtype)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, *(side and side * self.factor for side in (height, width)), channels)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("keras_widerresnet")
class CropToCells(layers.Layer):
    """Crops a map of cells to those of an image that was padded at the bottom and right.

    Args:
        stride: pixels per cell.

    Call arguments:
        inputs: cells (batch, h, w, C), and the image before padding, (batch, H, W, any).

    Returns:
        Tensor (batch, H / stride, W / stride, C), rounded up.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs):
        cells, image = inputs
        height, width = (-(-side // self.stride) for side in ops.shape(image)[1:3])
        return cells[:, :height, :width]

    def compute_output_shape(self, input_shape):
        cells, image = input_shape
        return (cells[0], *(side and -(-side // self.stride) for side in image[1:3]), cells[-1])

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}
