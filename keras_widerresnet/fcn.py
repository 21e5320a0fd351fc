"""Dilated fully convolutional networks for semantic segmentation (official release)."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import keras
from keras import layers

from keras_widerresnet import units
from keras_widerresnet.convolution import Conv2D
from keras_widerresnet.enlarge import Enlarge
from keras_widerresnet.errors import InputError
from keras_widerresnet.models import check_beside
from keras_widerresnet.networks import WiderResNet, check_class_count, checked_shape
from keras_widerresnet.structures import Structure, find_structure, head_filters
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.find import find_weights

HEAD_DILATION = 12
RELEASE_DROPOUT = (0.3, 0.5)


def WideResNetFCN(
    backbone: str | Structure = "A1",
    classes: int = 21,
    classifier_convs: int = 2,
    output_stride: int | None = 8,
    weights: str | pathlib.Path | None = None,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    pool_padding: str = "ceil",
    dropout: float | tuple[float, float] = RELEASE_DROPOUT,
    width: float | Sequence[float] = 1.0,
    downsampling: str | Sequence[str] | None = None,
    activation: str = "relu",
    frozen_batch_norm: bool = False,
    upsample: bool = False,
    name: str | None = None,
) -> keras.Model:
    """The release's segmentation network: a dilated backbone and a head of one or two dilated convolutions (official release).

    Args:
        backbone: as `WiderResNet`'s `structure`.
        classes: number of classes.
        classifier_convs: 1 (`linear{classes}`, 3x3) or 2 (preceded by `conv6a`, 512 filters, and ReLU), with dilation 12.
        output_stride: 8, 16, or None for the backbone's own.
        weights: None; a classification name of `weights.PRETRAINED` (the head keeps its initial values); a segmentation name such as
            `"cityscapes"`; or the path of a file of either kind of network, or its place on a hub, as in `WiderResNet`.
        input_shape: (H, W, 3), sizes may be None.
        pool_padding, dropout, width, downsampling: as in `WiderResNet`; a single width factor scales `conv6a` too.
        activation: activation of the backbone, as in `WiderResNet`; the head always uses ReLU.
        frozen_batch_norm: as in `WiderResNet`; the release fine-tunes with frozen batch norm.
        upsample: whether to enlarge the logits to the image's size (bicubic, see `enlarge`); H and W must then be multiples of the stride.

    Inputs are float images (batch, H, W, 3) as returned by `preprocess_input`; outputs are float32 logits (batch, H / stride,
    W / stride, classes), also under a mixed-precision policy. Logit i is centred on pixel i * stride + stride // 2, whose label training
    uses.

    Raises:
        InputError: if options or weights do not fit.
    """
    if classifier_convs not in (1, 2):
        raise InputError(f"`classifier_convs` must be 1 or 2. Received: {classifier_convs!r}")
    check_class_count(classes)
    structure = find_structure(backbone)
    stride = output_stride or structure.output_stride
    input_shape = checked_shape(input_shape)
    if upsample and any(size and size % stride for size in input_shape[:2]):
        raise InputError(f"With `upsample` the image's sides must be multiples of the output stride, {stride}. Received: {input_shape}")
    features = WiderResNet(
        structure,
        include_top=False,
        input_shape=input_shape,
        output_stride=output_stride,
        pool_padding=pool_padding,
        dropout=dropout,
        width=width,
        downsampling=downsampling,
        activation=activation,
        frozen_batch_norm=frozen_batch_norm,
    )
    x = features.output
    if classifier_convs == 2:
        filters, _ = head_filters(classes, classifier_convs, width)
        x = layers.Activation("relu", name="relu6a")(_head_conv(x, filters, "conv6a"))
    x = finished_logits(_head_conv(x, classes, f"linear{classes}"), stride if upsample else None)
    model = keras.Model(features.input, x, name=name or f"{features.name}_fcn")
    if weights is not None:
        check_beside(weights, structure, activation)
        arrays = find_weights(weights, structure, include_top=False, activation=activation, pool_padding=pool_padding)
        has_head = any(re.fullmatch(r"linear\d+", name) and found and found[0].ndim == 4 for name, found in arrays.items())
        assign_weights(model if has_head else features, arrays, repr(str(weights)), ignore_head=not has_head)
    return model


def finished_logits(x: keras.KerasTensor, upsampled_stride: int | None) -> keras.KerasTensor:
    """Returns the logits of any head in float32, also under a mixed-precision policy.

    Args:
        x: logits (batch, H / stride, W / stride, classes).
        upsampled_stride: their stride, to enlarge them to the image's size; None to keep them as they are.
    """
    if keras.config.dtype_policy().compute_dtype != keras.config.dtype_policy().variable_dtype:
        x = layers.Activation("linear", dtype="float32", name="logits")(x)  # 16 bits are too few for probabilities
    return x if upsampled_stride is None else Enlarge(upsampled_stride, name="upsample")(x)


def _head_conv(x, filters: int, name: str):
    return Conv2D(
        filters,
        3,
        padding="same",
        dilation_rate=HEAD_DILATION,
        kernel_initializer=units.he_normal(),
        data_format=units.DATA_FORMAT,
        name=name,
    )(x)
