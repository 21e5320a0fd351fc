"""What a classification network sees in a few image files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.pipeline import normalise, test_view
from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation import figures
from keras_widerresnet.evaluation.load import DEFAULT_MODEL, classifier
from keras_widerresnet.preprocessing import decode_predictions
from keras_widerresnet.serving.client import Client
from keras_widerresnet.structures import find_structure

SHOWN_SIZE = 224  # of a sheet where a server knows the crop


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
    _check_sheet(sheet, overwrite)
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
        _write_sheet(sheet, files, views, decoded)
    return decoded


def predict_served(
    files: Sequence[str],
    client: Client,
    *,
    top: int = 5,
    batch_size: int = 16,
    sheet: pathlib.Path | None = None,
    overwrite: bool = False,
) -> list[list[tuple]]:
    """The most probable classes of JPEG and PNG files, as a server sees them.

    Args:
        files: paths.
        client: from `serving.connect`.
        top: classes for each image, of those that the server gives.
        batch_size: images a request.
        sheet, overwrite: as in `predict_files`; the crops of the sheet are for people, the server's may differ.

    Returns:
        For each file a list of `(index, class name, probability)`, best first.

    Raises:
        InputError: naming the file that is missing or does not decode, or what the server said; nothing is written then.
    """
    _check_sheet(sheet, overwrite)
    encoded = [_read(file) for file in files]
    batches = (encoded[first : first + batch_size] for first in range(0, len(encoded), batch_size))
    answers = [answer for batch in batches for answer in client.predict(batch)]
    for file, answer in zip(files, answers, strict=True):
        if answer is None:
            raise InputError(f"{file!r} does not decode as JPEG or PNG, says the server")
    decoded = [answer[:top] for answer in answers]
    if sheet:
        _write_sheet(sheet, files, [test_view(_decoded(file), SHOWN_SIZE) for file in files], decoded)
    return decoded


def _check_sheet(sheet: pathlib.Path | None, overwrite: bool) -> None:
    if sheet and sheet.exists() and not overwrite:
        raise InputError(f"{str(sheet)!r} exists; --overwrite replaces it")


def _write_sheet(sheet: pathlib.Path, files: Sequence[str], views: Sequence[tf.Tensor], decoded: list[list[tuple]]) -> None:
    shown = [np.asarray(tf.cast(view, tf.uint8)) for view in views]
    figures.contact_sheet(shown, decoded, [pathlib.Path(file).name for file in files], sheet)


def _decoded(file: str) -> tf.Tensor:
    try:
        return decode_rgb(tf.constant(_read(file)))
    except tf.errors.InvalidArgumentError:
        raise InputError(f"{file!r} does not decode as JPEG or PNG") from None


def _read(file: str) -> bytes:
    try:
        return pathlib.Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"No image can be read at {file!r}: {error.strerror}") from None
