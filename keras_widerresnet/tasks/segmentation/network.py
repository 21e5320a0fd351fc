"""Segmentation networks: building them for training, and loading them from published weights, runs and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet import models
from keras_widerresnet.enlarge import Enlarge
from keras_widerresnet.errors import InputError
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.heads import DEEPLAB_V3_PLUS
from keras_widerresnet.hub.deeplab import WideResNetDeepLabV3Plus
from keras_widerresnet.loading import last_layer, load_network, takes_pixels
from keras_widerresnet.models import SegmenterOptions, Source, find_source
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.tasks.saved_model import PIXEL_SIGNATURE, check_of_export, load_saved_model
from keras_widerresnet.tasks.segmentation.config import SegmentationConfig
from keras_widerresnet.tasks.segmentation.views import Predict
from keras_widerresnet.training.network import compiled, precision, starting_activation
from keras_widerresnet.weights.registry import PRETRAINED, Pretrained

PROBED_SIZES = (256, 384)
WHOLE_TOLERANCE = 1e-3  # for values 0..255
LEAST_PROBABILITY = 1e-12  # bicubic upsampling may return negative values


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A segmentation network for inference, from any source.

    Args:
        predict: function from float32 images (n, H, W, 3), preprocessed by `preprocess_input`, with H and W multiples of the stride, to
            float32 logits (n, H / stride, W / stride, classes).
        classes: number of classes.
        stride: the output stride.
        source: where it was loaded from.
        preprocessing: the preprocessing that the network itself expects, one of `models.PREPROCESSINGS`; `predict` converts to it.
    """

    predict: Predict
    classes: int
    stride: int
    source: Source
    preprocessing: str = models.RELEASE_PREPROCESSING

    @property
    def record(self) -> Pretrained | None:
        """The record of the published weights; None for other weights."""
        return self.source.record


def make_segmenter(config: SegmentationConfig, classes: int, steps_per_epoch: int, loss: Callable) -> keras.Model:
    """Builds and compiles the segmentation network, for images of any size; must be called in the strategy's scope.

    Raises:
        InputError: if the initial weights do not fit, or the structure cannot be built.
    """
    options: dict[str, Any] = {
        "output_stride": config.output_stride,
        "pool_padding": config.pool_padding,
        "dropout": (config.dropout_b6, config.dropout_b7),
        "width": config.width,
        "downsampling": config.downsampling or None,
        "activation": starting_activation(config),
        "frozen_batch_norm": config.frozen_batch_norm,
    }
    with precision(config):
        if config.head == DEEPLAB_V3_PLUS:
            network = WideResNetDeepLabV3Plus(config.structure, classes, **options)
        else:
            network = WideResNetFCN(config.structure, classes, config.classifier_convs, **options)
    return compiled(network, config, steps_per_epoch, loss, shift_rate=config.shift_rate)


def load_segmenter(options: SegmenterOptions) -> Segmenter:
    """Loads the segmentation network that a command's options name.

    Raises:
        InputError: if there is no network of that name, or it is not a segmentation network for images of any size.
    """
    source = find_source(options.weights, options.model)
    if source.kind == models.SAVED_MODEL:
        return _saved_model(source, options.preprocessing)
    if source.record and not source.record.classifier_convs:
        names = ", ".join(name for name, one in PRETRAINED.items() if one.classifier_convs)
        raise InputError(f"{source.text!r} is a classification network; a segmentation network can be {names}, a run or a file")
    built = load_network(source, width=options.width, pool_padding=options.pool_padding, output_stride=options.output_stride)
    as_they_are = takes_pixels(built, source, options.preprocessing)
    network = at_cells(built)
    stride = stride_of(network, repr(source.text))
    predict = of_pixels(predictor(network)) if as_they_are else predictor(network)
    done = models.NO_PREPROCESSING if as_they_are else models.RELEASE_PREPROCESSING
    return Segmenter(predict, network.output_shape[-1], stride, source, done)


def of_pixels(predict: Predict) -> Predict:
    """Converts a function of RGB values 0..255 to a function of images preprocessed by `preprocess_input`."""

    def of_normalised(images: np.ndarray) -> np.ndarray:
        pixels = (images * np.asarray(STD, np.float32) + np.asarray(MEAN, np.float32)) * 255
        whole = np.rint(pixels)
        # Restores whole numbers exactly, except for padding, which has the mean colour.
        return predict(np.where(np.abs(pixels - whole) < WHOLE_TOLERANCE, whole, pixels).astype(np.float32))

    return of_normalised


def predictor(model: keras.Model) -> Predict:
    """Returns the inference function of a model, for images of any size without retracing.

    Returns:
        Function from float32 images (n, H, W, 3) to float32 outputs (n, h, w, classes), NumPy arrays.
    """
    if keras.backend.backend() != "tensorflow":
        return lambda images: np.asarray(model.predict_on_batch(images), np.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)], autograph=False)
    def outputs(images):
        return tf.cast(model(images, training=False), tf.float32)

    return lambda images: outputs(images).numpy()


def stride_of(model: keras.Model, name: str) -> int:
    """Determines the output stride of a segmentation network from the sizes of its outputs.

    Args:
        model: any model.
        name: the network's name in error messages.

    Raises:
        InputError: if the model does not map images of any size to logits of a fixed stride.
    """
    shapes = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not all(isinstance(shape, tuple) and all(not isinstance(side, tuple) for side in shape) for shape in shapes):
        raise InputError(f"{name} must be a network with one batch of images as input and one output")
    taken, given = (tuple(shape or ()) for shape in shapes)
    if len(given) != 4 or not given[-1]:
        raise InputError(f"{name} is not a segmentation network: its outputs must have shape (images, H, W, classes). Received: {given}")
    if taken != (None, None, None, 3):
        raise InputError(f"{name} must accept RGB images of any size, (None, None, 3). Received: {taken[1:]}")
    last = last_layer(model)
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise InputError(f"{name} ends in softmax; the last layer must return logits")
    sides = [set(model.compute_output_shape((1, size, size, 3))[1:3]) for size in PROBED_SIZES]
    strides = {size / side for size, both in zip(PROBED_SIZES, sides, strict=True) for side in both}
    if len(strides) != 1 or not min(strides).is_integer():
        raise InputError(f"{name} has no fixed output stride: images of {PROBED_SIZES} pixels give {[min(both) for both in sides]} cells")
    return int(min(strides))


def at_cells(network: keras.Model) -> keras.Model:
    """Removes the upsampling that `upsample=True` adds after the logits; testing upsamples itself, with shifts and sizes."""
    enlarges = len(network.layers) > 0 and isinstance(network.layers[-1], Enlarge)
    return keras.Model(network.inputs, network.layers[-1].input) if enlarges else network


def _saved_model(source: Source, preprocessing: str) -> Segmenter:
    """Loads an export of this package as a network of stride 1, whose logits are the logarithms of its probabilities."""
    what = source.text
    loaded = load_saved_model(source)
    shape = _map_shape(loaded.signatures.get(PIXEL_SIGNATURE))
    if shape is None:
        raise InputError(f"{what!r} is not an export of a segmentation network: no signature {PIXEL_SIGNATURE!r} from pixels to maps")

    check_of_export(source, preprocessing)

    def predict(pixels: np.ndarray) -> np.ndarray:
        # Called through `loaded`, because a signature alone does not keep its variables alive.
        probabilities = loaded.signatures[PIXEL_SIGNATURE](images=tf.constant(pixels))["probabilities"].numpy()
        return np.log(np.maximum(probabilities, LEAST_PROBABILITY))

    classes = shape[-1] or len(source.facts.class_names)
    return Segmenter(of_pixels(predict), classes, 1, source, models.NO_PREPROCESSING)


def _map_shape(signature) -> Sequence[int | None] | None:
    output = signature.structured_outputs.get("probabilities") if signature is not None else None
    return tuple(output.shape) if output is not None and output.shape.rank == 4 else None
