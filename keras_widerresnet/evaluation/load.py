"""Classification networks from whatever holds them: a name, a file of weights, a model file, a SavedModel."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.errors import InputError
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.structures import STRUCTURES, Structure, find_structure
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.convert import same_network
from keras_widerresnet.weights.find import find_record, find_weights
from keras_widerresnet.weights.registry import PRETRAINED, Pretrained

DEFAULT_MODEL = "A"
ANY_SIZE = (None, None, 3)
SIGNATURES = ("serving_default", "serve")


@dataclasses.dataclass(frozen=True)
class Network:
    """A classification network to be asked, whatever held it.

    Args:
        predict: from float32 images (n, S, S, 3) as `preprocess_input` makes them to float outputs (n, classes).
        classes: number of outputs.
        size: the only S that it takes; None for any.
        structure: what it is built as; None where nothing tells.
        record: the published weights that it holds; None for others.
        pool_padding, width: what it is built with; None where nothing tells.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    classes: int
    size: int | None
    structure: Structure | None = None
    record: Pretrained | None = None
    pool_padding: str | None = None
    width: float | None = None


def load_network(weights: str, model: str = "", *, pool_padding: str = "ceil", width: float = 1.0) -> Network:
    """The network that `weights` names.

    Args:
        weights: as in `classifier`, or the folder of a bare SavedModel, as `model.export` writes it.
        model: as in `classifier`; of a `.keras` file or a SavedModel it says the structure, which is taken on trust.
        pool_padding, width: as in `classifier`.

    Raises:
        InputError: if there is nothing of that name, or it is not a classification network of square RGB images.
    """
    path, is_name = pathlib.Path(weights), weights == "imagenet" or weights in PRETRAINED
    if not is_name and not path.exists():
        raise InputError(f"Nothing at {weights!r}; weights are a name ({', '.join(PRETRAINED)}), a file or a SavedModel folder")
    structure = _named(find_structure(model)) if model else None
    if not is_name and path.is_dir():
        return dataclasses.replace(_saved_model(weights), structure=structure)
    network = classifier(weights, model, pool_padding=pool_padding, width=width)
    shape = getattr(network, "input_shape", None)
    shape = shape if isinstance(shape, tuple) and len(shape) == 4 else None
    if shape is None or len(network.outputs) != 1:
        raise InputError(f"{weights!r} is no network from one batch of images to one output. Its inputs: {network.inputs}")
    loaded = Network(network.predict_on_batch, _classes(weights, network.output_shape), _size(weights, shape), structure)
    if weights.endswith(".keras"):
        return loaded
    record = find_record(weights, find_structure(model or DEFAULT_MODEL))
    structure = structure or find_structure(record.structure)
    padding = (record and record.pool_padding) or pool_padding
    return dataclasses.replace(loaded, structure=structure, record=record, pool_padding=padding, width=width)


def classifier(weights: str, model: str = "", *, pool_padding: str = "ceil", width: float = 1.0) -> keras.Model:
    """The classification network that `weights` makes.

    Args:
        weights: `"imagenet"` or a name of `PRETRAINED`; a `.keras` file of a whole model; or a `.weights.h5` file with a classifier.
        model: the structure; empty for that of a name, and Model A for `"imagenet"`. A `.keras` file has its own.
        pool_padding: padding of the max pools, where the weights leave the choice.
        width: the network's width.

    Raises:
        InputError: if the weights cannot be found or are not of a classification network.
    """
    if weights.endswith(".keras"):
        return load_keras_file(weights)
    record = find_record(weights, find_structure(model or DEFAULT_MODEL))
    if record:
        options = {"classes": record.classes, "activation": record.activation, "pool_padding": record.pool_padding or pool_padding}
        return WiderResNet(model or record.structure, weights=record.name, width=width, input_shape=ANY_SIZE, **options)
    if not model:
        raise InputError(f"--model is needed with --weights={weights}: a file of weights does not tell its structure")
    structure = find_structure(model)
    arrays = find_weights(weights, structure, pool_padding=pool_padding)
    classes = [int(match[1]) for name in arrays if (match := re.fullmatch(r"linear(\d+)", name))]
    if not classes:
        raise InputError(f"{weights!r} holds no classifier")
    network = WiderResNet(structure, width=width, classes=classes[0], pool_padding=pool_padding, input_shape=ANY_SIZE)
    assign_weights(network, arrays, repr(weights))
    return network


def load_keras_file(path: str) -> keras.Model:
    """The model of a `.keras` file, not compiled.

    Raises:
        InputError: if there is none, or Keras cannot load it.
    """
    if not pathlib.Path(path).is_file():
        raise InputError(f"No model file at {path!r}")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds
        raise InputError(f"{path!r} cannot be loaded as a Keras model: {str(error).splitlines()[0]}") from None


def _saved_model(path: str) -> Network:
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:  # TensorFlow raises many kinds
        raise InputError(f"{path!r} cannot be loaded as a SavedModel: {str(error).splitlines()[0]}") from None
    key = next((name for name in SIGNATURES if name in loaded.signatures), None)
    wanted = f"one of the signatures {SIGNATURES} must take one batch of float images (None, S, S, 3) and give one output"
    if key is None:
        raise InputError(f"The SavedModel {path!r} cannot be evaluated: {wanted}. It has the signatures {sorted(loaded.signatures)}")
    inputs, outputs = loaded.signatures[key].structured_input_signature[1], loaded.signatures[key].structured_outputs
    specs = [*inputs.values(), *outputs.values()]
    if len(inputs) != 1 or len(outputs) != 1 or specs[0].shape.rank != 4 or not specs[0].dtype.is_floating or specs[0].shape[0]:
        raise InputError(f"The SavedModel {path!r} cannot be evaluated: {wanted}. It takes {inputs} and gives {outputs}")
    (name, taken), (given, _) = *inputs.items(), *outputs.items()

    def predict(images: np.ndarray) -> np.ndarray:
        # By way of `loaded`: a signature alone does not keep its variables alive.
        return loaded.signatures[key](**{name: tf.cast(images, taken.dtype)})[given].numpy()

    shapes = [None if spec.shape.rank is None else tuple(spec.shape) for spec in specs]
    return Network(predict, _classes(path, shapes[1]), _size(path, shapes[0]))


def _classes(what: str, shape: Sequence[int | None] | None) -> int:
    if shape is not None and len(shape) == 4:
        raise InputError(f"{what!r} is not a classification network: its outputs {tuple(shape)} are maps, of segmentation or of features")
    if shape is None or len(shape) != 2 or not shape[1]:
        raise InputError(f"{what!r} is not a classification network: its outputs must be of shape (images, classes). They are {shape}")
    return shape[1]


def _size(what: str, shape: Sequence[int | None]) -> int | None:
    _, height, width, channels = shape
    if channels != 3 or height != width:
        raise InputError(f"{what!r} must take square RGB images, (S, S, 3). It takes {tuple(shape[1:])}")
    return height


def _named(structure: Structure) -> Structure:
    """The record of the table that is the same network, if there is one: its name and its published results."""
    return next((known for known in STRUCTURES.values() if same_network(known, structure)), structure)
