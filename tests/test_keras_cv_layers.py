"""keras-cv's layers, the alternative to Keras' (tests/test_keras_layers.py, tests/test_rand_augment.py)."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS

from keras_widerresnet.data import keras_cv_layers

PHOTOGRAPH = PHOTOGRAPHS[0][:120, :160]
UNUSED = None  # the seed: keras-cv has a state


def test_without_keras_cv_its_augmentations_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ValueError, match=r"keras_widerresnet\[augment\]"):
        keras_cv_layers.rand_augment(2, 0.3, 0)
    with pytest.raises(ValueError, match=r"keras_widerresnet\[augment\]"):
        keras_cv_layers.mix_batches(0.2, 1.0, 0)


def mixing_batch():
    pixels = np.arange(8, dtype=np.float32)[:, None, None, None] * np.ones((8, 6, 6, 3), np.float32)
    return tf.constant(pixels), tf.eye(8)


def test_mixup_mixes_labels_as_it_mixes_images():
    """Image k is k everywhere: a mixed image's value is the label-weighted mean of the classes."""
    pixels, labels = keras_cv_layers.mix_batches(0.5, 0.0, 1)(*mixing_batch(), UNUSED)
    np.testing.assert_allclose(np.asarray(labels).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(pixels[:, 0, 0, 0], np.asarray(labels) @ np.arange(8), rtol=1e-4, atol=1e-4)
    assert np.count_nonzero((np.asarray(labels) > 0.01).sum(axis=1) == 2) >= 2


def test_cutmix_labels_name_the_two_images_in_the_pixels():
    """keras-cv gives the window's share before it is cut at the border: never less than the pixels', and equal where nothing is cut."""
    mix = keras_cv_layers.mix_batches(0.0, 1.0, 1)
    equal = 0
    for _ in range(4):
        pixels, labels = (np.asarray(part) for part in mix(*mixing_batch(), UNUSED))
        shares = np.stack([(pixels[..., 0] == k).mean(axis=(1, 2)) for k in range(8)], axis=1)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        others = ~np.eye(8, dtype=bool)
        assert np.all(shares[others] <= labels[others] + 1e-5)
        assert np.all((shares > 0) <= (labels > 0))
        equal += np.isclose(shares, labels).all(axis=1).sum()
    assert equal >= 3


def test_rand_augment_stays_in_range_and_changes_most_images():
    change = keras_cv_layers.rand_augment(2, 0.3, 0)
    image = tf.constant(PHOTOGRAPH, tf.float32)
    changed = [np.asarray(change(image, UNUSED)) for _ in range(10)]
    assert all(one.shape == PHOTOGRAPH.shape and one.min() >= 0 and one.max() <= 255 for one in changed)
    assert sum(not np.allclose(one, image) for one in changed) >= 7
