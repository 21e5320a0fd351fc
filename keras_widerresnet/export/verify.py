"""An export against the Keras model, on real images, before anybody can load it."""

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

# Largest difference of a probability from the Keras model's, relative to the largest; ours.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "int8": 1e-1}
CHECKED, CALIBRATED = 32, 128
PHOTOGRAPH_SIZES = ((375, 500), (301, 203))


@dataclasses.dataclass(frozen=True)
class Checked:
    """One form of a network, found right.

    Args:
        form: e.g. `"SavedModel, tensor"`.
        difference: the largest of a probability from the Keras model's, relative to the largest probability.
        tolerance: what it may be.
    """

    form: str
    difference: float
    tolerance: float


def check(form: str, kind: str, found: np.ndarray, expected: np.ndarray) -> Checked:
    """Compares probabilities.

    Raises:
        InputError: if they differ more than `TOLERANCES[kind]`, or are not finite.
    """
    differs = difference(found, expected)
    if not differs <= TOLERANCES[kind]:
        hint = "; calibrate it with images of its own kind, --images=DATA" if kind == "int8" else ""
        raise InputError(
            f"{form} is refused, and nothing is written: its probabilities differ from the Keras model's by {differs:.1e} of the "
            f"largest, more than {TOLERANCES[kind]:g}{hint}"
        )
    return Checked(form, differs, TOLERANCES[kind])


def real_images(data: str) -> tuple[list[bytes], list[bytes]]:
    """Encoded images to check with, and to calibrate with.

    Args:
        data: name for `load_data`, of which test and training images are drawn; empty for scikit-learn's photographs and their mirror
            images at two sizes, which then serve for both.
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
    """What a classification network sees, float32 (n, S, S, 3) of values 0..255."""
    return np.stack([test_view(decode_rgb(tf.constant(raw)), size, interpolation) for raw in images])


def expected_probabilities(model: keras.Model, shown: np.ndarray, takes_pixels: bool = False) -> np.ndarray:
    """The Keras model's, of images of values 0..255, asked as its own user would: nothing here is of the graph that is exported.

    Args:
        model: as it was loaded.
        shown: float32 (n, S, S, 3).
        takes_pixels: whether it normalises by itself.
    """
    images = shown if takes_pixels else preprocess_input(shown)
    return np.concatenate([model(image[None], training=False) for image in images])


def check_classifier(loaded: Any, shown: np.ndarray, images: list[bytes], expected: np.ndarray, kind: str) -> list[Checked]:
    """The signatures of a reloaded SavedModel.

    Args:
        loaded: from `tf.saved_model.load`.
        shown: float32 (n, S, S, 3), what the network sees of the images.
        images: encoded.
        expected: the Keras model's probabilities of them.
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
    """The reloaded SavedModel's `serving_default`, against the evaluation of this package by the Keras model's `predict`."""
    protocol = SegmentationProtocol((size,) if size else ())
    found, expected = [], []
    for raw in images[-2:]:
        scores = pixel_scores(predict, decode_rgb(tf.constant(raw)).numpy(), protocol, stride)
        answers = loaded.signatures["serving_default"](image_bytes=tf.constant([raw]))
        given = answers["label_maps"].numpy()[0]
        # The probability that the Keras model gives to the class that was answered: nearly its highest, and the one answered with.
        found += [answers["scores"].numpy().ravel(), scores.max(axis=-1).clip(0, 1).ravel()]
        expected += [np.take_along_axis(scores, given[..., None], axis=-1).clip(0, 1).ravel()] * 2
    return [check("SavedModel, serving_default", kind, np.concatenate(found), np.concatenate(expected))]


def _encoded(raw: tf.Tensor) -> bytes:
    return (raw if raw.dtype == tf.string else tf.io.encode_png(raw)).numpy()
