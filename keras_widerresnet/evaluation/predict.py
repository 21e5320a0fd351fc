"""What a classification network sees in a few image files."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.data.folder import decode_rgb
from keras_widerresnet.data.pipeline import normalise, test_view
from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation import figures
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.preprocessing import decode_predictions
from keras_widerresnet.structures import find_structure
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.find import find_record, find_weights

DEFAULT_MODEL = "A"
ANY_SIZE = (None, None, 3)


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
        if not pathlib.Path(weights).is_file():
            raise InputError(f"No model file at {weights!r}")
        try:
            return keras.models.load_model(weights, compile=False)
        except Exception as error:  # Keras raises many kinds
            raise InputError(f"{weights!r} cannot be loaded as a Keras model: {str(error).splitlines()[0]}") from None
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


def predict_files(
    files: Sequence[str],
    weights: str,
    model: str = "",
    *,
    crop_size: int = 0,
    interpolation: str = "bicubic",
    pool_padding: str = "ceil",
    width: float = 1.0,
    class_names: Sequence[str] | None = None,
    top: int = 5,
    sheet: pathlib.Path | None = None,
    overwrite: bool = False,
) -> list[list[tuple]]:
    """The most probable classes of JPEG and PNG files, seen as the release evaluates: shorter side resized, centre crop.

    Args:
        files: paths.
        weights, model, pool_padding, width: as in `classifier`.
        crop_size: side of the crop in pixels; 0 for the model's input, or the structure's S.
        interpolation: one of `INTERPOLATIONS` of data/pipeline.py.
        class_names: names of the classes in order; None for ImageNet's, or for numbers where there are not 1000 classes.
        top: classes for each image.
        sheet: a PNG file to write, with the crops and their bars.
        overwrite: replace an existing sheet.

    Returns:
        For each file a list of `(class id, class name, probability)`, best first.

    Raises:
        InputError: naming the file that is missing or does not decode, or what else was wrong; nothing is written then.
    """
    if sheet and sheet.exists() and not overwrite:
        raise InputError(f"{str(sheet)!r} exists; --overwrite replaces it")
    images = [_decoded(file) for file in files]
    network = classifier(weights, model, pool_padding=pool_padding, width=width)
    own_size = network.input_shape[1]
    if crop_size and own_size not in (None, crop_size):
        raise InputError(f"{weights!r} takes images of {own_size} pixels only. Received: crop_size={crop_size}")
    size = crop_size or own_size or find_structure(model or DEFAULT_MODEL).crop_size
    views = [test_view(image, size, interpolation) for image in images]
    probabilities = np.concatenate([network.predict_on_batch(normalise(view)[None]) for view in views])
    if class_names is None and probabilities.shape[1] != 1000:
        class_names = [f"class {k}" for k in range(probabilities.shape[1])]
    decoded = decode_predictions(probabilities, top, class_names)
    if sheet:
        shown = [np.asarray(tf.cast(view, tf.uint8)) for view in views]
        figures.contact_sheet(shown, decoded, [pathlib.Path(file).name for file in files], sheet)
    return decoded


def _decoded(file: str) -> tf.Tensor:
    try:
        return decode_rgb(tf.constant(pathlib.Path(file).read_bytes()))
    except OSError as error:
        raise InputError(f"No image can be read at {file!r}: {error.strerror}") from None
    except tf.errors.InvalidArgumentError:
        raise InputError(f"{file!r} does not decode as JPEG or PNG") from None
