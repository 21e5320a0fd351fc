"""Prediction of the classes of a few image files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import checked, decode_rgb, error_text, image_problem
from keras_widerresnet.data.resize import test_view
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import check_absent
from keras_widerresnet.imagenet import imagenet_classes
from keras_widerresnet.loading import class_names
from keras_widerresnet.models import DEFAULT_MODEL
from keras_widerresnet.preprocessing import decode_predictions
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.serving.client import Client, connect
from keras_widerresnet.structures import find_structure
from keras_widerresnet.tasks.classification import figures
from keras_widerresnet.tasks.classification.config import PredictionConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.network import Classifier, load_classifier

Answer = list[tuple]
SHOWN_SIZE = 224  # of the images on a contact sheet if the server determines the crop


def predict(config: PredictionConfig) -> list[Answer]:
    """Returns the most probable classes of JPEG and PNG files, by a local network or by a server.

    Images are preprocessed as in testing (shorter side resized, centre crop), with the published protocol of weights that have one.

    Returns:
        For each file a list of `(class id, class name, probability)`, most probable first.

    Raises:
        InputError: if a file is missing or cannot be decoded (the message names it), or an option is not valid; nothing is written then.
    """
    sheet = pathlib.Path(config.output) if config.output else None
    if sheet:
        check_absent(sheet, config.overwrite)
    return (_served if config.server else _local)(config, sheet)


def _local(config: PredictionConfig, sheet: pathlib.Path | None) -> list[Answer]:
    images = [decoded_file(file, config.max_pixels) for file in config.images]
    network = load_classifier(config)
    size = _size(config, network)
    views = [test_view(image, size, config.interpolation) for image in images]
    probabilities = np.concatenate([network.predict(np.asarray(view)[None]) for view in views])
    decoded = decode_predictions(probabilities, config.top, _class_names(config, network))
    if sheet:
        _write_sheet(sheet, config.images, views, decoded)
    return decoded


def _size(config: PredictionConfig, network: Classifier) -> int:
    """Returns the pixels of the shorter side and of the crop."""
    if config.crop_size and network.size not in (None, config.crop_size):
        raise InputError(f"{config.weights!r} accepts only images of {network.size} pixels. Received: crop_size={config.crop_size}")
    published = network.source.protocol
    tested = published.sizes[0] if isinstance(published, ClassificationProtocol) else 0
    return config.crop_size or network.size or tested or network.source.crop_size or find_structure(DEFAULT_MODEL).crop_size


def _class_names(config: PredictionConfig, network: Classifier) -> tuple[str, ...] | None:
    """Returns the class names; None for ImageNet's, which also have synset ids."""
    names = class_names(network.source, network.classes, config.class_names, lambda data: load_data(data, verify=False).class_names)
    return None if names == tuple(name for _, name in imagenet_classes()) else names


def _served(config: PredictionConfig, sheet: pathlib.Path | None) -> list[Answer]:
    client = connect(
        config.server,
        config.served_model,
        version=config.version,
        grpc=config.grpc,
        deadline=config.deadline,
        retries=config.retries,
    )
    decoded = predict_served(config.images, client, top=config.top, batch_size=config.batch_size)
    if sheet:
        # The crops are only for display; the server's may differ.
        _write_sheet(
            sheet, config.images, [test_view(decoded_file(file, config.max_pixels), SHOWN_SIZE) for file in config.images], decoded
        )
    return decoded


def predict_served(files: Sequence[str], client: Client, *, top: int = 5, batch_size: int = 16) -> list[Answer]:
    """Returns the most probable classes of JPEG and PNG files, predicted by a server.

    Args:
        files: paths.
        client: client returned by `serving.connect`.
        top: maximum number of classes per image, of those that the server returns.
        batch_size: images per request.

    Returns:
        For each file a list of `(index, class name, probability)`, most probable first.

    Raises:
        InputError: if a file is missing or cannot be decoded, or the server reports an error; the message names it.
    """
    encoded = [_read(file) for file in files]
    batches = (encoded[first : first + batch_size] for first in range(0, len(encoded), batch_size))
    answers = [answer for batch in batches for answer in client.predict(batch)]
    found = []
    for file, raw, answer in zip(files, encoded, answers, strict=True):
        if answer is None:
            why = image_problem(raw) or "can be decoded locally"
            raise InputError(f"The server cannot use {file!r}, which {why}")
        found.append(answer[:top])
    return found


def _write_sheet(sheet: pathlib.Path, files: Sequence[str], views: Sequence[tf.Tensor], decoded: list[list[tuple]]) -> None:
    shown = [np.asarray(tf.cast(view, tf.uint8)) for view in views]
    figures.contact_sheet(shown, decoded, [pathlib.Path(file).name for file in files], sheet)


def decoded_file(file: str, max_pixels: int) -> tf.Tensor:
    """Decodes a JPEG or PNG file to uint8 (H, W, 3).

    Raises:
        InputError: if it is missing or cannot be used; the message names it.
    """
    encoded = _read(file)
    try:
        return decode_rgb(checked(tf.constant(encoded), max_pixels))
    except tf.errors.InvalidArgumentError as error:
        raise InputError(f"{file!r} {image_problem(encoded, max_pixels=max_pixels) or error_text(error)}") from None


def _read(file: str) -> bytes:
    try:
        return pathlib.Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"The image {file!r} cannot be read: {error.strerror}") from None
