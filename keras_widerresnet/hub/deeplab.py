"""DeepLabV3+ (Chen et al. 2018): KerasHub's head on a dilated network, as a segmentation network for images of any size."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import keras

from keras_widerresnet.errors import InputError
from keras_widerresnet.fcn import RELEASE_DROPOUT, finished_logits
from keras_widerresnet.heads import DECODER_CLASSIFIER, DECODER_STRIDE, check_decoder
from keras_widerresnet.hub.layers import CropToCells, EnlargeBilinearly, PadToMultiple, PyramidPooling
from keras_widerresnet.hub.library import keras_hub as imported
from keras_widerresnet.networks import WiderResNet, check_class_count, checked_shape
from keras_widerresnet.pyramid import FeatureNetwork
from keras_widerresnet.structures import Structure, find_structure

DECODER_LEVEL = "P2"
# Chen et al. 2017: at output stride 16, and twice these at 8.
RATES, RATES_STRIDE = (6, 12, 18), 16


def WideResNetDeepLabV3Plus(
    backbone: str | Structure = "A1",
    classes: int = 21,
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
    """A DeepLabV3+ segmentation network: KerasHub's head on a dilated backbone (Chen et al. 2018; not in the official release).

    The head reads the deepest map of the backbone's pyramid, with dilation rates 6, 12, 18 (12, 24, 36 at output stride 8), and its level
    `P2`. It has 256 and 48 channels whatever the width, and its batch norms are KerasHub's, which learn their statistics in training even
    if those of the backbone are frozen: train with several images per device. Logits are those of `DeepLabV3ImageSegmenter` before its
    last enlargement, which commutes with the classifier.

    Args:
        backbone: as `WiderResNet`'s `structure`; it must have units in B3, whose stride is 4.
        classes: number of classes.
        output_stride: of the backbone: 8, 16, 32 or None for its own.
        weights: weights of the backbone, as in `WideResNetFCN`; the head keeps its initial values.
        input_shape: (H, W, 3), sizes may be None.
        pool_padding, dropout, width, downsampling, activation, frozen_batch_norm: of the backbone, as in `WideResNetFCN`.
        upsample: whether to enlarge the logits to the image's size (bicubic, see `enlarge`); H and W must then be multiples of 4.
        name: the model's name.

    Inputs are float images (batch, H, W, 3) as returned by `preprocess_input`; outputs are float32 logits (batch, H / 4, W / 4, classes)
    at every output stride. Logit i is centred on pixel 4i + 2, whose label training uses. Images are padded inside with the mean colour
    to a multiple of the output stride, so that H and W need only be multiples of 4.

    Raises:
        InputError: if KerasHub is not installed, or options or weights do not fit.
    """
    check_class_count(classes)
    input_shape = checked_shape(input_shape)
    if any(size and size % DECODER_STRIDE for size in input_shape[:2]):
        raise InputError(f"The image's sides must be multiples of {DECODER_STRIDE}. Received: {input_shape}")
    structure = find_structure(backbone).halved_by(downsampling)
    stride = output_stride or structure.output_stride
    check_decoder(structure, pool_padding, output_stride)
    image = keras.Input(input_shape, name="data")
    features = WiderResNet(
        structure,
        include_top=False,
        weights=weights,
        input_tensor=PadToMultiple(stride, name="pad")(image),
        output_stride=output_stride,
        pool_padding=pool_padding,
        dropout=dropout,
        width=width,
        activation=activation,
        frozen_batch_norm=frozen_batch_norm,
    )
    x = CropToCells(DECODER_STRIDE, name="crop")([_head(features, classes, stride), image])
    x = finished_logits(x, DECODER_STRIDE if upsample else None)
    return keras.Model(image, x, name=name or f"{features.name}_deeplab_v3_plus")


def _head(features: FeatureNetwork, classes: int, stride: int) -> keras.KerasTensor:
    """The logits of KerasHub's head at the cells of level P2, as layers of the same graph as the backbone's."""
    models = imported("DeepLabV3+").models
    pyramid = features.pyramid_outputs
    *_, deepest = pyramid
    rates = [rate * max(1, RATES_STRIDE // stride) for rate in RATES]
    encoder = models.DeepLabV3Backbone(
        image_encoder=features,
        spatial_pyramid_pooling_key=deepest,
        upsampling_size=stride // DECODER_STRIDE,
        dilation_rates=rates,
        low_level_feature_key=DECODER_LEVEL,
    )
    theirs = {layer.name: layer for layer in (*encoder.layers, models.DeepLabV3ImageSegmenter(encoder, classes).output_conv)}

    def apply(names: Sequence[str], x: Any) -> Any:
        """Applies copies of KerasHub's layers, which belong to this graph alone."""
        for name in names:
            x = type(theirs[name]).from_config(theirs[name].get_config())(x)
        return x

    x = PyramidPooling(rates, name="spatial_pyramid_pooling")(pyramid[deepest])
    x = EnlargeBilinearly(stride // DECODER_STRIDE, name="encoder_output_upsampling")(x)
    low = apply(("decoder_conv", "decoder_norm", "decoder_relu"), pyramid[DECODER_LEVEL])
    x = apply(("encoder_decoder_concat",), [x, low])
    return apply(("segmentation_head_conv", "segmentation_head_norm", "segmentation_head_relu", DECODER_CLASSIFIER), x)
