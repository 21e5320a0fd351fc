"""Compares an export with the Keras model on real images before it becomes available."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.compare import difference
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.photographs import sample_jpegs
from keras_widerresnet.data.resize import test_view
from keras_widerresnet.errors import InputError
from keras_widerresnet.preprocessing import preprocess_input
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.segmentation.views import Predict, pixel_scores

# Maximum difference of a probability from the Keras model's, relative to the largest probability; our choice.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "int8": 1e-1}
CHECKED, CALIBRATED = 32, 128
PHOTOGRAPH_SIZES = ((375, 500), (301, 203))


@dataclasses.dataclass(frozen=True)
class Checked:
    """One exported format that passed its check.

    Args:
        form: e.g. `"SavedModel, tensor"`.
        difference: largest difference of a probability from the Keras model's, relative to the largest probability.
        tolerance: maximum allowed difference.
    """

    form: str
    difference: float
    tolerance: float


def check(form: str, kind: str, found: np.ndarray, expected: np.ndarray) -> Checked:
    """Compares probabilities with the expected ones.

    Raises:
        InputError: if they differ by more than `TOLERANCES[kind]`, or are not finite.
    """
    differs = difference(found, expected)
    if not differs <= TOLERANCES[kind]:
        hint = "; calibrate it with images of its own domain, --images=DATA" if kind == "int8" else ""
        raise InputError(
            f"{form} failed its check, so nothing is written: its probabilities differ from the Keras model's by {differs:.1e} of the "
            f"largest, more than the tolerance of {TOLERANCES[kind]:g}{hint}"
        )
    return Checked(form, differs, TOLERANCES[kind])


def real_images(data: str) -> tuple[list[bytes], list[bytes]]:
    """Returns encoded images for checking and for calibration.

    Args:
        data: data set name for `load_data`, whose test and training images are sampled; empty for scikit-learn's sample photographs and
            their mirror images at two sizes, used for both.
    """
    if not data:
        photographs = [encoded for size in PHOTOGRAPH_SIZES for encoded in sample_jpegs(*size)]
        return photographs, photographs
    loaded = load_data(data, verify=False)
    splits = ((loaded.test, CHECKED), (loaded.train, CALIBRATED))
    drawn = (itertools.islice(split.shuffled(0, batch_size=1), min(count, split.size)) for split, count in splits)
    checked, calibrated = ([_encoded(raw) for _, raw, _ in examples] for examples in drawn)
    return checked, calibrated


def views(images: list[bytes], size: int, interpolation: str) -> np.ndarray:
    """Returns resized and cropped images as a classification network sees them, float32 (n, S, S, 3), values 0..255."""
    return np.stack([test_view(decode_rgb(tf.constant(raw)), size, interpolation) for raw in images])


def expected_probabilities(model: keras.Model, shown: np.ndarray, takes_pixels: bool = False) -> np.ndarray:
    """Returns the Keras model's probabilities, computed without any part of the exported graph.

    Args:
        model: the loaded model.
        shown: float32 (n, S, S, 3), values 0..255.
        takes_pixels: whether the model normalises its inputs itself.
    """
    images = shown if takes_pixels else preprocess_input(shown)
    return np.concatenate([model(image[None], training=False) for image in images])


def check_classifier(loaded: Any, shown: np.ndarray, images: list[bytes], expected: np.ndarray, kind: str) -> list[Checked]:
    """Checks the signatures of a reloaded SavedModel.

    Args:
        loaded: result of `tf.saved_model.load`.
        shown: float32 (n, S, S, 3), the resized and cropped images.
        images: the encoded images.
        expected: the Keras model's probabilities for them.
        kind: key of `TOLERANCES`.
    """
    found = loaded.signatures["tensor"](images=tf.constant(shown))["probabilities"]
    answers = loaded.signatures["serving_default"](image_bytes=tf.constant(images))
    indices = answers["indices"].numpy()
    top = np.take_along_axis(expected, indices, axis=1)
    return [
        check("SavedModel, tensor", kind, found.numpy(), expected),
        check("SavedModel, serving_default", kind, answers["probabilities"].numpy(), top),
    ]


def check_segmenter(loaded: Any, predict: Predict, images: list[bytes], stride: int, size: int, kind: str) -> list[Checked]:
    """Checks the `serving_default` signature of a reloaded SavedModel against this package's evaluation with `predict`."""
    protocol = SegmentationProtocol((size,) if size else ())
    found, expected = [], []
    for raw in images[-2:]:
        scores = pixel_scores(predict, decode_rgb(tf.constant(raw)).numpy(), protocol, stride)
        answers = loaded.signatures["serving_default"](image_bytes=tf.constant([raw]))
        given = answers["label_maps"].numpy()[0]
        # The Keras model's probability of the returned class must be near both its highest and the returned probability.
        found += [answers["scores"].numpy().ravel(), scores.max(axis=-1).clip(0, 1).ravel()]
        expected += [np.take_along_axis(scores, given[..., None], axis=-1).clip(0, 1).ravel()] * 2
    return [check("SavedModel, serving_default", kind, np.concatenate(found), np.concatenate(expected))]


def _encoded(raw: tf.Tensor) -> bytes:
    return (raw if raw.dtype == tf.string else tf.io.encode_png(raw)).numpy()
