"""Keras' augmentation layers with draws that are functions of (seed, position), as all others here, instead of the layers' own state.

Draws are made outside the compiled functions, because XLA's random numbers differ from TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_widerresnet.data import augment

VALUE_RANGE = (0, 255)
Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Seeds(keras.random.SeedGenerator):
    """The generator that Keras' layers ask for one seed a draw: the n-th is a function of n and of one stateless seed, an integer pair."""

    def __init__(self, seed: tf.Tensor):
        # Without the base class's own, which would create the variable that stateless draws do without.
        self._seed, self._drawn = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self._drawn += 1
        return tf.random.fold_in(self._seed, self._drawn)


def random_erasing(probability: float) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns Keras' RandomErasing: a rectangle of 2-33 % of the area becomes noise, normal with deviation 255, clipped to 0..255.

    Args:
        probability: share of the images that are erased from.

    Returns:
        Function of a float32 image (S, S, 3) of values 0..255, and its seed, an int64 pair.
    """
    layer = keras.layers.RandomErasing((1.0, 1.0), value_range=VALUE_RANGE)  # one number p would mean p / 2: uniform in 0..p

    def erase(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        def erased():
            seeds = Seeds(augment.stream(seed, "erase"))
            return layer.transform_images(image[None], layer.get_random_transformation(image[None], seed=seeds))[0]

        # Decided here, because the layer draws its noise for every image.
        return tf.cond(augment.uniform([], seed, "erase") < probability, erased, lambda: image)

    return erase


def mix_batches(mixup: float, cutmix: float) -> Mix:
    """Returns Keras' MixUp or CutMix for batches; if both are enabled, one of them is chosen at random for each batch.

    Args:
        mixup, cutmix: alpha of the Beta distribution of each image's mixing weight; 0 disables it.

    Returns:
        Function of float32 images (batch, S, S, 3), float32 labels (batch, classes), and the batch's seed, an int64 pair.
    """
    ways = [way(alpha) for way, alpha in ((_mixup, mixup), (_cutmix, cutmix)) if alpha]

    def mix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def by(way):
            return lambda: way(images, labels, Seeds(augment.stream(seed, "mix")))

        return by(ways[0])() if len(ways) == 1 else tf.cond(augment.uniform([], seed, "mix") < 0.5, by(ways[0]), by(ways[1]))

    return mix


def _mixup(alpha: float) -> Callable:
    layer = keras.layers.MixUp(alpha)
    mixed = _compiled(layer)
    return lambda images, labels, seeds: mixed(images, labels, layer.get_random_transformation(images, seed=seeds))


def _cutmix(alpha: float) -> Callable:
    layer = keras.layers.CutMix()
    layer.factor = (alpha, alpha)  # a range for alpha; the constructor refuses more than 1
    mixed = _compiled(layer)

    def mix(images, labels, seeds):
        drawn = layer.get_random_transformation(images, seed=seeds)
        # Keras' weight is the window's area before it is rounded to pixels. The two entries are not documented: tests/test_keras_layers.py
        # fails if they change.
        share = 1 - tf.reduce_mean(tf.cast(drawn["batch_masks"][..., 0], tf.float32), axis=(1, 2))
        return mixed(images, labels, {**drawn, "mix_weight": share})

    return mix


def _compiled(layer: keras.Layer) -> Callable:
    @tf.function(jit_compile=True, autograph=False)
    def mixed(images, labels, drawn):
        return layer.transform_images(images, drawn), layer.transform_labels(labels, drawn)

    return mixed
