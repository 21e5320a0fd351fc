"""Bicubic upsampling of maps of cells to pixels, aligned with the networks' labels; works with any Keras backend."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

CUBIC_A = -0.5  # Keys 1981, as in PIL and TensorFlow; PyTorch uses -0.75
TAPS = 2  # number of cells on either side that a pixel depends on


def enlarge(cells: Any, stride: int) -> Any:
    """Upsamples cells to pixels: cell i is centred on pixel `i * stride + stride // 2`, whose label training uses (official release).

    Args:
        cells: float tensor of the Keras backend (batch, H, W, channels); edges are replicated outward.
        stride: pixels per cell.

    Returns:
        Float tensor (batch, H * stride, W * stride, channels), equal to `cells` at the pixels on which these are centred.
    """
    if stride == 1:
        return cells
    height, width = ops.shape(cells)[1:3]
    rows = ops.einsum("ph,bhwc->bpwc", _weights(height, stride, cells.dtype), _padded(cells, 1))
    return ops.einsum("qw,bpwc->bpqc", _weights(width, stride, cells.dtype), _padded(rows, 2))


def _padded(cells, axis: int):
    """Adds `TAPS` copies of the edges on both sides along an axis."""
    first, last = (cells[:, :1], cells[:, -1:]) if axis == 1 else (cells[:, :, :1], cells[:, :, -1:])
    return ops.concatenate([first] * TAPS + [cells] + [last] * TAPS, axis=axis)


def _weights(count, stride: int, dtype):
    """Returns the matrix (pixels, padded cells) of Keys' cubic kernel."""
    pixels = (ops.cast(ops.arange(count * stride), "float32") - stride // 2) / stride
    distance = ops.abs(pixels[:, None] - (ops.cast(ops.arange(count + 2 * TAPS), "float32") - TAPS)[None])
    near = (CUBIC_A + 2) * distance**3 - (CUBIC_A + 3) * distance**2 + 1
    far = CUBIC_A * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    kernel = ops.where(distance <= 1, near, ops.where(distance < TAPS, far, ops.zeros_like(far)))
    return ops.cast(kernel, dtype)


@keras.saving.register_keras_serializable("keras_widerresnet")
class Enlarge(layers.Layer):
    """`enlarge` as a layer.

    Args:
        stride: pixels per cell.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs):
        return enlarge(inputs, self.stride)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, *(None if size is None else size * self.stride for size in (height, width)), channels)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}
