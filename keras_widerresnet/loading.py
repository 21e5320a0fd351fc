"""Loads Keras models from everything that the commands accept as a model."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_widerresnet import models
from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.heads import DECODER_CLASSIFIER
from keras_widerresnet.hub.layers import CropToCells, PadToMultiple
from keras_widerresnet.models import NO_PREPROCESSING, Facts, Source, facts_of_original
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.structures import Structure, find_structure, same_network
from keras_widerresnet.texts import check_class_names, read_class_names
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.checksums import checksums, recognise
from keras_widerresnet.weights.find import find_weights
from keras_widerresnet.weights.keras_file import model_config
from keras_widerresnet.weights.layers import shortened
from keras_widerresnet.weights.official import layer_arrays
from keras_widerresnet.weights.original import read_original, told_by
from keras_widerresnet.weights.registry import Pretrained

logger = logging.getLogger(__name__)

ANY_SIZE = (None, None, 3)
OUTPUT_STRIDE = 8
FROZEN = "which contains a frozen graph"
Arrays = dict[str, list[np.ndarray]]
# Layers that do not change the range of values at inference: any other layer before a convolution may normalise.
_NEUTRAL = (
    keras.layers.InputLayer,
    keras.layers.Identity,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.CenterCrop,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    PadToMultiple,
    CropToCells,
)
_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
    keras.layers.EinsumDense,
)


def load_keras_file(path: str | pathlib.Path) -> keras.Model:
    """Loads the model of a `.keras` file without compiling it.

    Raises:
        InputError: if Keras cannot load it.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds
        ours = _own_error(error)
        if ours:
            raise InputError(f"{str(path)!r} cannot be loaded: {ours}") from None
        raise InputError(f"{str(path)!r} cannot be loaded as a Keras model: {first_line(error)}") from None


def _own_error(error: BaseException | None) -> InputError | None:
    """Returns the `InputError` among the causes of an error, such as that of a layer whose optional package is not installed."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def load_network(
    source: Source, *, width: float = 0.0, pool_padding: str = "", output_stride: int = OUTPUT_STRIDE, classifier_stride: int = 0
) -> keras.Model:
    """Loads the Keras model of a source; it outputs probabilities (images, classes), or logits per cell for segmentation.

    Args:
        source: a source of any kind except a SavedModel, which does not contain a Keras model.
        width, pool_padding: options of a network built here; 0 and empty for those of the weights, see `models.Source`.
        output_stride: output stride of a segmentation network built here.
        classifier_stride: output stride of a classification network; 0 for that of the weights, or the structure's own. A saved network
            is then built anew, with the same weights.

    Raises:
        InputError: if the weights cannot be found or read, have no head, or do not specify their structure.
    """
    source.check_is_no_saved_model(FROZEN)
    if source.kind in (models.RUN, models.KERAS_FILE) and not classifier_stride:
        return load_keras_file(str(source.path))
    if source.record:
        strides = (output_stride, classifier_stride or source.record.output_stride)
        return _of_record(source.record, source, source.width(width), source.pool_padding(pool_padding), *strides)
    facts, arrays = _read_file(source)
    padding = pool_padding or facts.pool_padding or "ceil"
    strides = (output_stride, classifier_stride or facts.classifier_stride)
    network = _of_arrays(source, facts, arrays, source.width(width), padding, *strides)
    assign_weights(network, arrays, repr(source.text))
    return network


def takes_pixels(network: keras.Model, source: Source, preprocessing: str) -> bool:
    """Whether a network expects RGB values 0..255 rather than the output of `preprocess_input`.

    Args:
        network: the network loaded from the source.
        source: the source of the network.
        preprocessing: one of `models.PREPROCESSINGS`; empty to inspect the network.

    Raises:
        InputError: if `preprocessing` is empty and the network has layers of its own between its input and its first convolution; or if
            it is `"none"` for published weights, whose preprocessing is known.
    """
    if source.record:
        if preprocessing == NO_PREPROCESSING:
            raise InputError(f"{source.text!r} expects images normalised as in the official release: omit --preprocessing=none")
        return False
    if preprocessing:
        return preprocessing == NO_PREPROCESSING
    found = layers_before_convolution(network)
    if found:
        raise InputError(
            f"{source.text!r} has layers of its own between its input and its first convolution, {', '.join(shortened(found))}: specify "
            "whether they normalise. --preprocessing=none passes RGB values 0..255 to the model unchanged, --preprocessing=release "
            "normalises them first"
        )
    return False


def layers_before_convolution(network: keras.Model) -> list[str]:
    """Lists the operations before the first convolution (or other layer with a kernel) that may change the range of values.

    Returns:
        Name and type of each layer or operation, with the names of nested models as prefix; empty for the networks of this package.
    """
    found: list[str] = []
    _walk(network, "", found)
    return found


def last_layer(network: keras.Model) -> keras.Layer:
    """Returns the layer that produces a network's output, also inside nested models."""
    last = network.layers[-1]
    return last_layer(last) if isinstance(last, keras.Model) and last.layers else last


def gives_shares(network: keras.Model) -> bool:
    """Whether a network's outputs are those of a softmax or a sigmoid: probabilities, of one class or of each class by itself."""
    last = last_layer(network)
    activation = getattr(last, "activation", None)
    return activation in (keras.activations.softmax, keras.activations.sigmoid) or isinstance(last, keras.layers.Softmax)


def _walk(model: keras.Model, place: str, found: list[str]) -> bool:
    """Follows the input through a model until it is convolved; returns whether it reaches the output before that."""
    if isinstance(model, keras.Sequential):
        return all(_still_raw(layer, place, found) for layer in model.layers)
    if not isinstance(model, keras.Function):
        found.append(f"{place}{model.name} ({type(model).__name__}, which cannot be inspected)")
        return False
    raw = {id(tensor) for tensor in model.inputs}
    for operation in model.operations:
        reached = [node for node in operation._inbound_nodes if any(id(tensor) in raw for tensor in node.arguments.keras_tensors)]
        if reached and _still_raw(operation, place, found):
            raw |= {id(tensor) for node in reached for tensor in node.outputs}
    return any(id(tensor) in raw for tensor in model.outputs)


def _still_raw(operation: keras.Operation, place: str, found: list[str]) -> bool:
    """Whether the output of an operation is not convolved yet; adds the operation to `found` if it may have changed values."""
    if isinstance(operation, keras.Model):
        return _walk(operation, f"{place}{operation.name}/", found)
    is_linear = isinstance(operation, keras.layers.Activation) and operation.activation is keras.activations.linear
    if isinstance(operation, _NEUTRAL) or is_linear:
        return True
    if isinstance(operation, _CONVOLUTIONS) and not _keeps_channels(operation):
        return False
    found.append(f"{place}{operation.name} ({type(operation).__name__})")
    return not any("kernel" in weight.name for weight in getattr(operation, "weights", ())) or _keeps_channels(operation)


def _keeps_channels(operation: keras.Operation) -> bool:
    """Whether a convolution is 1x1 with as many output as input channels, as it may be to implement a normalisation."""
    kernel = next((weight for weight in getattr(operation, "weights", ()) if "kernel" in weight.name), None)
    if kernel is None or len(kernel.shape) != 4 or tuple(kernel.shape[:2]) != (1, 1):
        return False
    return isinstance(operation, keras.layers.DepthwiseConv2D) or kernel.shape[2] == kernel.shape[3]


def load_arrays(source: Source, structure: Structure, include_top: bool, *, activation: str = "relu", pool_padding: str = "") -> Arrays:
    """Returns layer name -> arrays of a source, for the structure that the source specifies or else the given one.

    Args:
        source: a source of any kind except a SavedModel.
        structure: the structure to assume if the source does not specify one.
        include_top: whether to include the classifier, for weights with a pretrained name.
        activation: activation of the network that will use the arrays.
        pool_padding: pool convention of that network; empty for that of the weights.

    Raises:
        InputError: if the weights cannot be found or read, or belong to a network with another activation or pool convention.
    """
    source.check_is_no_saved_model(FROZEN)
    if source.record:
        own = source.structure or structure
        with_classifier = include_top and not source.record.classifier_convs
        padding = source.pool_padding(pool_padding)
        return find_weights(source.record.name, own, include_top=with_classifier, activation=activation, pool_padding=padding)
    if source.facts.activation != activation and source.kind == models.WEIGHTS_FILE:
        raise InputError(f"{source.text!r} belongs to a network with activation {source.facts.activation!r}. Received: {activation!r}")
    return find_weights(str(source.path), structure, activation=activation)


def class_names(source: Source, classes: int, file: str, of_data: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
    """Returns the names of a network's classes: from a file, the weights or the run's data, or else numbers.

    Args:
        source: the source of the network.
        classes: number of classes of the network.
        file: text file with one name per line; empty for none.
        of_data: function from the name of a data set to its class names, for runs that did not store them.

    Raises:
        InputError: if the file does not exist or has another number of names, the run's data cannot be read, or a name is not a single
            line of text.
    """
    if file:
        if not pathlib.Path(os.path.expanduser(file)).is_file():
            raise InputError(f"There is no file of class names at {file!r}")
        names = read_class_names(file)
        if len(names) != classes:
            raise InputError(f"The network has {classes} classes, but there are {len(names)} class names")
        return names
    known = _published_facts(source) or source.facts
    if len(known.class_names) == classes:
        return check_class_names(known.class_names, f"{source.text!r} (use --class_names to replace them)")
    if classes == len(models.imagenet_classes()):
        return tuple(name for _, name in models.imagenet_classes())
    if source.run is None or "data" not in source.run.flags:
        logger.warning(
            "%s does not tell the names of its %d classes: they are numbered; --class_names=FILE names them", source.text, classes
        )
        return tuple(f"class {k}" for k in range(classes))
    try:
        names = tuple(of_data(source.run.flags["data"]))
    except InputError as error:
        raise InputError(f"The class names cannot be read from the run's data: use --class_names. {error}") from None
    if len(names) != classes:
        raise InputError(f"The network has {classes} classes, but there are {len(names)} class names")
    return names


def _published_facts(source: Source) -> Facts | None:
    """Returns what is known of a published original file, which is recognised by its checksum; None for any other source."""
    known = recognise(*checksums(str(source.path))) if source.kind == models.ORIGINAL_FILE else None
    return models.find_source(known[0].name).facts if known else None


def _of_record(
    record: Pretrained, source: Source, width: float, pool_padding: str, output_stride: int, classifier_stride: int | None
) -> keras.Model:
    structure = source.structure or find_structure(record.structure)
    if record.classifier_convs:
        return WideResNetFCN(
            structure,
            record.classes,
            record.classifier_convs,
            output_stride,
            record.name,
            pool_padding=pool_padding,
            width=width,
        )
    return WiderResNet(
        structure,
        weights=record.name,
        input_shape=ANY_SIZE,
        classes=record.classes,
        classifier_activation=record.classifier_activation,
        output_stride=classifier_stride,
        pool_padding=pool_padding,
        width=width,
        activation=record.activation,
        classifier_bias=record.classifier_bias,
    )


def _read_file(source: Source) -> tuple[Facts, Arrays]:
    """Returns what is known about a weights file, and its arrays."""
    structure = source.structure
    if structure is None and source.kind != models.ORIGINAL_FILE:
        raise InputError(_needs_model(source))
    if source.kind == models.WEIGHTS_FILE and structure:
        return source.facts, find_weights(str(source.path), structure)
    if source.kind in (models.RUN, models.KERAS_FILE) and structure and source.path:
        activation = told_by(model_config(source.path)).get("activation", "relu")
        return dataclasses.replace(source.facts, activation=activation), find_weights(str(source.path), structure, activation=activation)
    known = recognise(*checksums(str(source.path)))
    if known and structure is None:
        structure = find_structure(known[0].structure)
    if structure is None:
        raise InputError(_needs_model(source))
    if known and not same_network(known[0].structure, structure):
        raise InputError(f"{source.text!r} is {known[1].name}: it belongs to Model {known[0].structure}, not to {structure}")
    original = read_original(str(source.path))
    facts = facts_of_original(original, structure.name or str(structure))
    return facts, layer_arrays(original.parameters, original.own_names)


def _of_arrays(
    source: Source, facts: Facts, arrays: Arrays, width: float, pool_padding: str, output_stride: int, classifier_stride: int | None
) -> keras.Model:
    """Returns the network for the head in a file, with its initial weights."""
    heads = {name: found[0] for name, found in arrays.items() if re.fullmatch(r"linear\d+", name) and found}
    if not heads:
        whole = "; a DeepLabV3+ network is loaded from its run or .keras file" if DECODER_CLASSIFIER in arrays else ""
        raise InputError(f"{source.text!r} contains neither a classifier nor a segmentation head (a layer linear<classes>){whole}")
    (name, kernel), *_ = heads.items()
    classes, dimensions = int(name.removeprefix("linear")), kernel.ndim
    if kernel.shape[-1:] != (classes,):  # found before a network of the size in the name is built
        raise InputError(f"{source.text!r} is damaged: {name} has shape {kernel.shape}, not that of {classes:,} classes")
    if dimensions == 4:
        convolutions = 2 if "conv6a" in arrays else 1
        return WideResNetFCN(
            facts.structure,
            classes,
            convolutions,
            output_stride,
            pool_padding=pool_padding,
            width=width,
            activation=facts.activation,
        )
    return WiderResNet(
        facts.structure,
        input_shape=ANY_SIZE,
        classes=classes,
        classifier_activation=facts.classifier_activation,
        output_stride=classifier_stride,
        pool_padding=pool_padding,
        width=width,
        activation=facts.activation,
        classifier_bias=len(arrays[name]) == 2,
    )


def _needs_model(source: Source) -> str:
    return f"--model is needed with --weights={source.text}, e.g. A1 or 112-1-1-1-1-9-1-1: the file does not specify its structure"
