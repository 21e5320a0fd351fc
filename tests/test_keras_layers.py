"""Keras' RandomErasing, MixUp and CutMix with stateless draws, against NumPy and their exact distributions."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_widerresnet.data import keras_layers, rand_augment

BATCH, SIZE = 48, 24
IMAGES = np.broadcast_to(np.arange(BATCH, dtype=np.float32)[:, None, None, None], (BATCH, SIZE, SIZE, 3))  # image k is k everywhere
LABELS = np.eye(BATCH, dtype=np.float32)


def batches_of(mix, count, images=IMAGES, labels=LABELS):
    """Mixed (images, labels) of `count` seeds, drawn in a `tf.data` pipeline."""
    images, labels = tf.constant(images), tf.constant(labels)
    mixed = tf.data.Dataset.range(count).map(lambda k: mix(images, labels, tf.stack([tf.constant(3, tf.int64), k])))
    return list(mixed.as_numpy_iterator())


def own_shares(labels):
    """The weight of each image that was mixed with another one, float (images,)."""
    own = np.concatenate([np.diag(one) for one in labels])
    return own[np.concatenate([np.count_nonzero(one, axis=1) == 2 for one in labels])]


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 0.7), (0.0, 2.0)])
def test_labels_are_mixed_by_the_pixels_that_stem_from_each_image(alphas):
    """MixUp: the label-weighted mean of the classes; CutMix: their exact share of the pixels."""
    for images, labels in batches_of(keras_layers.mix_batches(*alphas), 8):
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        assert (labels >= 0).all() and (np.count_nonzero(labels, axis=1) <= 2).all()
        assert (np.ptp(images, axis=3) == 0).all()
        if alphas[0]:
            means = labels.astype(np.float64) @ np.arange(BATCH)
            np.testing.assert_allclose(images[..., 0], np.broadcast_to(means[:, None, None], images.shape[:3]), rtol=1e-4, atol=1e-4)
        else:
            shares = np.stack([(images[..., 0] == k).mean(axis=(1, 2)) for k in range(BATCH)], axis=1)
            np.testing.assert_allclose(labels, shares, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
def test_mixups_weights_are_of_the_beta_distribution(alpha):
    weights = own_shares([labels for _, labels in batches_of(keras_layers.mix_batches(alpha, 0.0), 25)])
    assert len(weights) > 1000 and stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
def test_cutmixs_windows_have_the_beta_distributions_area_at_any_place(alpha):
    """At 96 pixels a window's sides are rounded by about a hundredth: its moments are those of Beta(alpha, alpha)."""
    images = np.broadcast_to(IMAGES[:, :1, :1], (BATCH, 96, 96, 3))
    mixed = batches_of(keras_layers.mix_batches(0.0, alpha), 25, images)
    shares = np.concatenate([np.diag(labels) for _, labels in mixed])
    partners = np.concatenate([(np.count_nonzero(labels, axis=1) == 2) | (np.diag(labels) < 1) for _, labels in mixed])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares[partners].mean() - 0.5) < 5 * np.sqrt(variance / len(shares)) + 0.02
    assert abs(shares[partners].var() - variance) < 0.02
    centres = []
    for batch, _ in mixed:
        for number, image in enumerate(batch[..., 0]):
            rows, columns = np.nonzero(image != number)
            if len(rows):
                assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # a rectangle
                room = 96 - np.array([np.ptp(rows), np.ptp(columns)]) - 1
                centres += [low.min() / free for low, free in zip((rows, columns), room, strict=True) if free > 20]
    assert abs(np.mean(centres) - 0.5) < 0.03 and abs(np.std(centres) - 12**-0.5) < 0.02


def test_with_both_each_batch_gets_one_of_them():
    mixed = batches_of(keras_layers.mix_batches(1.0, 1.0), 100)
    cut = [np.mean(np.abs(images - np.round(images)) < 1e-6) > 0.99 for images, _ in mixed]
    assert 35 <= sum(cut) <= 65


def test_other_seeds_mix_differently_and_the_same_seed_alike():
    mix = keras_layers.mix_batches(1.0, 1.0)
    (first, _), (second, _) = batches_of(mix, 2)
    (again, labels), _ = batches_of(keras_layers.mix_batches(1.0, 1.0), 2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second) and labels.shape == (BATCH, BATCH)


def erased(probability, image, count):
    erase, image = keras_layers.random_erasing(probability), tf.constant(image, tf.float32)
    return np.stack(
        list(tf.data.Dataset.range(count).map(lambda k: erase(image, tf.stack([tf.constant(1, tf.int64), k]))).as_numpy_iterator())
    )


def test_erasing_makes_a_rectangle_noise_in_the_given_share_of_images():
    """Keras' rule: sides √a · S and √b · S, a and b uniform in 0.02..0.33; noise of deviation 255, clipped to 0..255."""
    image = np.full((60, 60, 3), 100.5)
    results = erased(0.4, image, 600)
    changed = (results != image).any(axis=3)
    is_erased = changed.any(axis=(1, 2))
    assert stats.binomtest(int(is_erased.sum()), 600, 0.4).pvalue > 0.001
    areas, noise = [], []
    for result, mask in zip(results[is_erased], changed[is_erased], strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        areas.append(mask.mean())
        noise.append(result[mask].ravel())
    assert min(areas) > 0.01 and max(areas) < 0.36
    root = (0.33**1.5 - 0.02**1.5) / 1.5 / 0.31  # mean of √a
    assert abs(np.mean(areas) - root**2) < 0.015
    noise = np.concatenate(noise)
    assert noise.min() == 0 and noise.max() == 255
    assert abs((noise == 0).mean() - 0.5) < 0.01 and abs((noise == 255).mean() - stats.norm.sf(1)) < 0.01
    between = noise[(noise > 0) & (noise < 255)] / 255
    assert stats.kstest(between[:3000], stats.truncnorm(0, 1).cdf).pvalue > 0.001


def test_erasing_is_a_function_of_the_seed():
    image = np.zeros((16, 16, 3))
    first, second = erased(1.0, image, 20), erased(1.0, image, 20)
    np.testing.assert_array_equal(first, second)
    assert (first != 0).any(axis=(1, 2, 3)).all() and len({one.tobytes() for one in first}) == 20


def test_keras_draws_from_the_seeds_alone():
    """As it must for stateless draws: it asks for `next` of any `SeedGenerator`, and no operation of the graph has a state."""
    steps = [keras_layers.random_erasing(0.5), rand_augment.rand_augment(1, 0.3)]
    mix = keras_layers.mix_batches(1.0, 1.0)

    @tf.function
    def graph(images, labels, seed):
        images, labels = mix(images, labels, seed)
        return [step(images[0], seed) for step in steps], labels

    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in (((4, 8, 8, 3), tf.float32), ((4, 4), tf.float32), ((2,), tf.int64))]
    definition = graph.get_concrete_function(*specs).graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    names = {node.op for node in nodes}
    assert "StatelessRandomNormalV2" in names and "StatelessRandomGammaV3" in names
    assert not [name for name in names if re.search("Variable|Random|Multinomial|Shuffle", name) and "Stateless" not in name]


def test_seeds_of_one_image_are_independent():
    drawn = [keras_layers.Seeds(tf.constant([5, position], tf.int64)) for position in range(400)]
    first, second = (np.array([keras.random.uniform((3,), seed=seeds) for seeds in drawn]).ravel() for _ in range(2))
    assert stats.kstest(first, "uniform").pvalue > 0.001 and stats.kstest(second, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.12
