"""Residual units, halvings and their padding, as Keras functional-API builders.

This module holds the details that ports tend to get wrong: batch-norm epsilon, symmetric padding of strided convolutions, the three
padding conventions of max pooling, the projection of the pre-activated input, and the position of dropout.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import keras
from keras import layers, ops

from keras_widerresnet.batch_norm import BatchNormalization, FrozenBatchNormalization
from keras_widerresnet.convolution import Conv2D
from keras_widerresnet.structures import Pool, Unit

BATCH_NORM_EPSILON = 1.001e-5
BATCH_NORM_MOMENTUM = 0.9
DATA_FORMAT = "channels_last"
ACTIVATIONS = ("relu", "leaky_relu")
LEAKY_SLOPE = 0.01  # InPlace-ABN release; Keras' default is 0.3


_kernels_start_at_zero = contextvars.ContextVar("kernels_start_at_zero", default=False)


@contextlib.contextmanager
def kernels_at_zero() -> Iterator[None]:
    """Networks built in this context have zero kernels, to be overwritten. For Model A this saves 200 MB of peak memory."""
    token = _kernels_start_at_zero.set(True)
    try:
        yield
    finally:
        _kernels_start_at_zero.reset(token)


def he_normal() -> keras.initializers.Initializer:
    """Returns the He-normal initialiser over the fan-in, untruncated, unlike Keras' own `he_normal` (official release)."""
    if _kernels_start_at_zero.get():
        return keras.initializers.Zeros()
    return keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")


@keras.saving.register_keras_serializable("keras_widerresnet")
class MaxPool(layers.Layer):
    """3x3 max pooling with stride 2 between stages, or with stride 1 and any dilation where a dilated network drops the halving.

    Args:
        padding: for stride 2, `"ceil"` (the paper's: no padding, size rounded up, windows start at 2i and are clipped at the border),
            `"symmetric"` (MXNet's current default and the PyTorch ports: one pixel of -inf on every side) or `"valid"` (the release's
            evaluation command: no padding, size rounded down). A stride-1 pool is always padded by its dilation (official release).
        strides: 1 or 2.
        dilation: spacing of the taps in cells; more than 1 only with stride 1.

    Call arguments:
        inputs: float tensor (batch, H, W, C), of any sign.

    Returns:
        Tensor of the same dtype: (batch, H, W, C) for stride 1; for stride 2 H and W are `n // 2` (`"ceil"`), `(n + 1) // 2`
        (`"symmetric"`) or `(n - 1) // 2` (`"valid"`).
    """

    def __init__(self, padding: str = "ceil", strides: int = 2, dilation: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding
        self.strides = strides
        self.dilation = dilation

    def call(self, inputs):
        if self.strides == 1 and self.dilation == 1:
            return self._pool(inputs, "same")
        if self.strides == 1:
            return self._dilated(inputs)
        if self.padding == "symmetric":
            return self._pool(self._padded(inputs, 1, 1), "valid")
        if self.padding == "ceil":
            if inputs.shape[1] is not None and inputs.shape[2] is not None and inputs.shape[1] % 2 == inputs.shape[2] % 2 == 0:
                return self._pool(inputs, "same")  # equal for even sizes, and saves a copy
            return self._pool(self._padded(inputs, 0, 1), "valid")
        return self._pool(inputs, "valid")

    def _pool(self, inputs, padding):
        return ops.max_pool(inputs, 3, strides=self.strides, padding=padding, data_format=DATA_FORMAT)

    def _padded(self, inputs, before, after):
        edges = (before, after)
        return ops.pad(inputs, ((0, 0), edges, edges, (0, 0)), constant_values=-float("inf"))

    def _dilated(self, inputs):
        padded = self._padded(inputs, self.dilation, self.dilation)
        height, width = ops.shape(inputs)[1:3]
        starts = (0, self.dilation, 2 * self.dilation)
        rows = _maximum(padded[:, start : start + height] for start in starts)
        return _maximum(rows[:, :, start : start + width] for start in starts)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        if self.strides == 1:
            return (batch, height, width, channels)
        offset = {"ceil": 0, "symmetric": 1, "valid": -1}[self.padding]
        height, width = (None if size is None else (size + offset) // 2 for size in (height, width))
        return (batch, height, width, channels)

    def get_config(self):
        return {**super().get_config(), "padding": self.padding, "strides": self.strides, "dilation": self.dilation}


def _maximum(tensors):
    first, *rest = tensors
    for tensor in rest:
        first = ops.maximum(first, tensor)
    return first


def conv(x: keras.KerasTensor, filters: int, kernel: int, name: str, *, stride: int = 1, dilation: int = 1) -> keras.KerasTensor:
    """Convolution without bias, padded by `dilation * (kernel // 2)` on every side, even when strided (official release)."""
    padding = "same"
    if stride > 1 and kernel == 1:
        # oneDNN writes past its buffers in the gradient of a strided 1x1 convolution of fewer than 16 channels (oneDNN issue 6035).
        x = layers.AveragePooling2D(1, strides=stride, data_format=DATA_FORMAT, name=f"{name}_stride")(x)
        stride = 1
    elif stride > 1:
        padding = "valid"
        # Keras' "same" would pad even sizes at the bottom and right only.
        x = layers.ZeroPadding2D(kernel // 2, data_format=DATA_FORMAT, name=f"{name}_pad")(x)
    return Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer=he_normal(),
        data_format=DATA_FORMAT,
        name=name,
    )(x)


def batch_norm_relu(x: keras.KerasTensor, name: str, relu_name: str, activation: str = "relu", frozen: bool = False) -> keras.KerasTensor:
    """Batch norm (learned scale and shift) and one of `ACTIVATIONS`: the pre-activation of every convolution but conv1a."""
    batch_norm = FrozenBatchNormalization if frozen else BatchNormalization
    x = batch_norm(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name)(x)
    if activation == "leaky_relu":
        return layers.LeakyReLU(LEAKY_SLOPE, name=relu_name)(x)
    return layers.Activation("relu", name=relu_name)(x)


def residual_unit(x: keras.KerasTensor, unit: Unit, activation: str = "relu", frozen_batch_norm: bool = False) -> keras.KerasTensor:
    """One pre-activation unit, basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1).

    Args:
        x: tensor (batch, H, W, `unit.in_channels`).
        unit: the unit to build; layer names are the official parameter names of unit `unit.name`.
        activation: one of `ACTIVATIONS`.
        frozen_batch_norm: use `FrozenBatchNormalization`.

    Returns:
        Tensor (batch, H', W', `unit.filters[-1]`), with H' = ceil(H / stride): shortcut + branch 2, without an activation.
    """
    shortcut = branch = x
    for index, (filters, kernel, dilation) in enumerate(zip(unit.filters, unit.kernels, unit.dilations, strict=True)):
        suffix = f"{unit.name}_branch2" + ("a" if index == 0 else f"b{index}")
        stride = unit.stride if index == 0 else 1
        branch = batch_norm_relu(branch, f"bn{suffix}", f"res{suffix}_relu", activation, frozen_batch_norm)
        if index == 0 and unit.projection:
            # The projection reads the pre-activated input, not x itself.
            shortcut = conv(branch, unit.filters[-1], 1, f"res{unit.name}_branch1", stride=stride)
        if unit.dropout and index == len(unit.filters) - 1:
            branch = layers.Dropout(unit.dropout, name=f"res{suffix}_do")(branch)
        branch = conv(branch, filters, kernel, f"res{suffix}", stride=stride, dilation=dilation)
    return layers.Add(name=f"res{unit.name}")([shortcut, branch])


def max_pool(x: keras.KerasTensor, pool: Pool, padding: str) -> keras.KerasTensor:
    """The max pool before a stage; `padding` is one of `structures.POOL_PADDINGS`."""
    return MaxPool(padding, pool.stride, pool.dilation, name=pool.name)(x)
