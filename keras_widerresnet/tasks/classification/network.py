"""Classification networks: building them for training, and loading them from published weights, runs and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet import models
from keras_widerresnet.data.resize import normalise
from keras_widerresnet.errors import InputError
from keras_widerresnet.loading import load_network, takes_pixels
from keras_widerresnet.models import ModelOptions, Source, find_source
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.structures import STRUCTURES, Structure, same_network
from keras_widerresnet.tasks.classification.config import TrainingConfig
from keras_widerresnet.tasks.saved_model import PIXEL_SIGNATURE, check_of_export, load_saved_model
from keras_widerresnet.training.network import compiled, precision, starting_activation
from keras_widerresnet.weights.registry import Pretrained

# Signatures of SavedModels not exported by this package; they expect images preprocessed by `preprocess_input`.
SIGNATURES = "serving_default", "serve"


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A classification network for inference, from any source.

    Args:
        predict: function from float32 images (n, S, S, 3) of values 0..255 to float outputs (n, classes).
        classes: number of outputs.
        size: the only S that the network accepts; None for any.
        source: where it was loaded from.
        structure: the network's structure; None if unknown.
        pool_padding, width: further arguments of the network; None if unknown.
        preprocessing: the preprocessing that `predict` applies first, one of `models.PREPROCESSINGS`.
        network: the Keras model, which expects preprocessed images; None for a SavedModel.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    classes: int
    size: int | None
    source: Source
    structure: Structure | None = None
    pool_padding: str | None = None
    width: float | None = None
    preprocessing: str = models.RELEASE_PREPROCESSING
    network: keras.Model | None = None

    @property
    def record(self) -> Pretrained | None:
        """The record of the published weights; None for other weights."""
        return self.source.record


def make_network(config: TrainingConfig, classes: int, crop_size: int, steps_per_epoch: int) -> keras.Model:
    """Builds and compiles the classification network; must be called in the strategy's scope.

    Raises:
        InputError: if the initial weights do not fit, or the structure cannot be built.
    """
    with precision(config):
        network = WiderResNet(
            config.structure,
            input_shape=(crop_size, crop_size, 3),
            classes=classes,
            pool_padding=config.pool_padding,
            dropout=config.dropout,
            width=config.width,
            downsampling=config.downsampling or None,
            activation=starting_activation(config),
        )
    return compiled(network, config, steps_per_epoch, "categorical_crossentropy", metrics=["accuracy"])


def load_classifier(options: ModelOptions) -> Classifier:
    """Loads the classification network that a command's options name.

    Raises:
        InputError: if there is no network of that name, or it is not a classification network for square RGB images.
    """
    source = find_source(options.weights, options.model)
    structure = _named(source.structure) if source.structure else None
    if source.kind == models.SAVED_MODEL:
        return dataclasses.replace(_saved_model(source, options.preprocessing), structure=structure)
    network = load_network(source, width=options.width, pool_padding=options.pool_padding)
    check_classifier(network, source.text)
    size = _size(source.text, network.input_shape)
    as_they_are = takes_pixels(network, source, options.preprocessing)

    def predict(pixels: np.ndarray) -> np.ndarray:
        return network.predict_on_batch(pixels if as_they_are else normalise(pixels))

    done = models.NO_PREPROCESSING if as_they_are else models.RELEASE_PREPROCESSING
    found = Classifier(predict, network.output_shape[-1], size, source, structure, preprocessing=done, network=network)
    if source.kind in (models.RUN, models.KERAS_FILE):
        width, padding = source.facts.width, source.facts.pool_padding or None
    else:
        width, padding = source.width(options.width), source.pool_padding(options.pool_padding)
    return dataclasses.replace(found, pool_padding=padding, width=width)


def check_classifier(network: keras.Model, what: str) -> None:
    """Raises `InputError` unless a Keras model maps square RGB images to (images, classes); `what` is its name in the message."""
    taken, given = getattr(network, "input_shape", None), getattr(network, "output_shape", None)
    if not isinstance(taken, tuple) or len(taken) != 4 or len(network.outputs) != 1:
        raise InputError(f"{what!r} must have one batch of images as input and one output. Received: {getattr(network, 'inputs', None)}")
    _check_classes(what, given)
    _size(what, taken)


def _saved_model(source: Source, preprocessing: str) -> Classifier:
    what = source.text
    loaded = load_saved_model(source)
    is_export = PIXEL_SIGNATURE in loaded.signatures
    if is_export:
        check_of_export(source, preprocessing)
    as_they_are = is_export or preprocessing == models.NO_PREPROCESSING
    key = next((name for name in (PIXEL_SIGNATURE, *SIGNATURES) if name in loaded.signatures), None)
    wanted = f"one of the signatures {(PIXEL_SIGNATURE, *SIGNATURES)} must map one batch of float images (None, S, S, 3) to one output"
    if key is None:
        raise InputError(f"The SavedModel {what!r} cannot be evaluated: {wanted}. Its signatures: {sorted(loaded.signatures)}")
    inputs, outputs = loaded.signatures[key].structured_input_signature[1], loaded.signatures[key].structured_outputs
    specs = [*inputs.values(), *outputs.values()]
    if len(inputs) != 1 or len(outputs) != 1 or specs[0].shape.rank != 4 or not specs[0].dtype.is_floating or specs[0].shape[0]:
        raise InputError(f"The SavedModel {what!r} cannot be evaluated: {wanted}. Received: inputs {inputs}, outputs {outputs}")
    ((name, taken),), (given,) = inputs.items(), outputs

    def predict(pixels: np.ndarray) -> np.ndarray:
        images = pixels if as_they_are else normalise(pixels)
        # Called through `loaded`, because a signature alone does not keep its variables alive.
        return loaded.signatures[key](**{name: tf.cast(images, taken.dtype)})[given].numpy()

    shapes = [None if spec.shape.rank is None else tuple(spec.shape) for spec in specs]
    classes = _check_classes(what, shapes[1])
    done = models.NO_PREPROCESSING if as_they_are else models.RELEASE_PREPROCESSING
    return Classifier(predict, classes, _size(what, shapes[0] or ()), source, preprocessing=done)


def _check_classes(what: str, shape: Sequence[int | None] | None) -> int:
    if shape is not None and len(shape) == 4:
        raise InputError(f"{what!r} is not a classification network: its outputs {tuple(shape)} are segmentation or feature maps")
    if shape is None or len(shape) != 2 or not shape[1]:
        raise InputError(f"{what!r} is not a classification network: its outputs must have shape (images, classes). Received: {shape}")
    return shape[1]


def _size(what: str, shape: Sequence[int | None]) -> int | None:
    _, height, width, channels = shape
    if channels != 3 or height != width:
        raise InputError(f"{what!r} must accept square RGB images, (S, S, 3). Received: {tuple(shape[1:])}")
    return height


def _named(structure: Structure) -> Structure:
    """Returns the entry of `STRUCTURES` for the same network, if there is one, with its name and published results."""
    return next((known for known in STRUCTURES.values() if same_network(known, structure)), structure)
