"""Loads the Keras model to export, with its metadata."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet import models
from keras_widerresnet.data.resize import normalise
from keras_widerresnet.errors import InputError
from keras_widerresnet.export.config import ExportConfig
from keras_widerresnet.export.graphs import Prepare
from keras_widerresnet.loading import class_names, gives_shares, layers_before_convolution, load_network, takes_pixels
from keras_widerresnet.models import find_source
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.runs import Run
from keras_widerresnet.structures import Structure, find_structure
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.network import check_classifier
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data
from keras_widerresnet.tasks.segmentation.network import at_cells, stride_of
from keras_widerresnet.weights.registry import Pretrained


@dataclasses.dataclass(frozen=True)
class Exported:
    """A network to be exported.

    Args:
        model: from float images, as `prepare` makes them, to probabilities (n, classes), or to logits (n, H / stride, W / stride,
            classes) where `stride` is not 0.
        class_names: in the order of the outputs.
        size: as in `ExportConfig`, with 0 replaced by the model's own size for classification.
        stride: the output stride of a segmentation network, 0 for classification.
        structure, width: the network's structure and width; None if unknown.
        record: the record of published weights; None for other weights.
        file: the file that contains the weights; None if they were given by name.
        run: the run that trained the network; None if there is none.
        takes_pixels: whether the model expects RGB values 0..255 instead of the output of `preprocess_input`.
        inside: human-readable names of the operations before its first convolution.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    size: int
    stride: int = 0
    structure: Structure | None = None
    width: float | None = None
    record: Pretrained | None = None
    file: pathlib.Path | None = None
    run: Run | None = None
    takes_pixels: bool = False
    inside: tuple[str, ...] = ()

    @property
    def prepare(self) -> Prepare:
        """Function from RGB values 0..255 to the model's input, part of the exported graph."""
        return as_floats if self.takes_pixels else normalise


def as_floats(images: tf.Tensor) -> tf.Tensor:
    """Returns images as float32 without normalisation."""
    return tf.cast(images, tf.float32)


def find_exported(config: ExportConfig) -> Exported:
    """Loads the network that an export's `weights` name.

    Raises:
        InputError: if the weights do not exist, are not a network of the requested task, or its class names are unknown.
    """
    source = find_source(config.weights, config.model)
    loaded = load_network(source, width=config.width, pool_padding=config.pool_padding, output_stride=config.output_stride)
    as_they_are, inside = takes_pixels(loaded, source, config.preprocessing), tuple(layers_before_convolution(loaded))
    network, stride = _of_task(loaded, source, config)
    structure = source.structure
    load = load_segmentation_data if stride else load_data

    def of_data(name: str) -> Sequence[str]:
        return load(name, verify=False).class_names

    names = class_names(source, network.output_shape[-1], config.class_names, of_data)
    own_size = network.input_shape[1]
    if config.size and not stride and own_size not in (None, config.size):
        raise InputError(f"{config.weights!r} accepts only images of {own_size} pixels. Received: --size={config.size}")
    published = source.protocol
    tested = published.sizes[0] if isinstance(published, ClassificationProtocol) else 0
    own = own_size or tested or source.crop_size or find_structure(models.DEFAULT_MODEL).crop_size
    size = config.size if stride else config.size or own
    width = source.width(config.width) if structure else None
    return Exported(
        network, names, size, stride, structure, width, source.record, source.path, source.run, takes_pixels=as_they_are, inside=inside
    )


def _of_task(network: keras.Model, source: models.Source, config: ExportConfig) -> tuple[keras.Model, int]:
    """Returns the network to serve and its output stride, 0 for classification."""
    if isinstance(network, keras.Sequential) and network.built:
        network = keras.Model(network.inputs, network.outputs[0], name=network.name)
    network = _in_float32(network)
    is_dense = len(network.output_shape) == 4
    if config.task == models.SEGMENTATION or (is_dense and not config.task):
        network = at_cells(network)
        return network, stride_of(network, repr(source.text))
    check_classifier(network, source.text)
    return _with_probabilities(network), 0


def _in_float32(network: keras.Model) -> keras.Model:
    """Returns the network, or a copy that computes in float32 if it was trained with 16-bit activations."""
    if all(layer.compute_dtype == "float32" for layer in network.layers):
        return network

    def clone(operation: keras.Operation) -> keras.Operation:
        is_layer = isinstance(operation, keras.Layer)
        return type(operation).from_config(operation.get_config() | {"dtype": "float32"}) if is_layer else operation

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    return copy


def _with_probabilities(network: keras.Model) -> keras.Model:
    if gives_shares(network):
        return network
    if network.input_shape[1] and _gives_probabilities(network):  # whatever its last layer is
        return network
    outputs = keras.layers.Softmax(dtype="float32", name="probabilities")(network.output)
    return keras.Model(network.inputs, outputs, name=network.name)


def _gives_probabilities(network: keras.Model) -> bool:
    """Whether the outputs for random noise are non-negative and sum to 1, which logits would not do by chance."""
    noise = np.random.default_rng(0).uniform(0, 255, (4, *network.input_shape[1:])).astype(np.float32)
    outputs = np.asarray(network(noise, training=False), np.float64)
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, rtol=0, atol=1e-3))
