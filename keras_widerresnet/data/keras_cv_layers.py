"""keras-cv's RandAugment, MixUp and CutMix, the alternative to Keras' layers. Their draws come from a state: a resumed run's differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_widerresnet.data.keras_layers import VALUE_RANGE, Mix
from keras_widerresnet.errors import InputError


def rand_augment(operations: int, magnitude: float, state: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns keras-cv's RandAugment.

    Args:
        operations: number of operations per image.
        magnitude: magnitude of the operations, 0..1.
        state: seed of keras-cv's generator.

    Returns:
        Function of a float32 image (S, S, 3) of values 0..255, and a seed, which is not used.

    Raises:
        InputError: if keras-cv is not installed.
    """
    layer = _keras_cv().layers.RandAugment(VALUE_RANGE, augmentations_per_image=operations, magnitude=magnitude, seed=state)
    return lambda image, seed: tf.ensure_shape(layer(image), image.shape)


def mix_batches(mixup: float, cutmix: float, state: int) -> Mix:
    """Returns keras-cv's MixUp or CutMix for batches; if both are enabled, one of them is chosen at random for each batch.

    Args:
        mixup, cutmix: alpha of the Beta distribution of the mixing weights; 0 disables it.
        state: as in `rand_augment`.

    Returns:
        Function of float32 images (batch, S, S, 3), float32 labels (batch, classes), and a seed, which is not used.

    Raises:
        InputError: if keras-cv is not installed.
    """
    layers = _keras_cv().layers
    chosen = [layer(alpha, seed=state) for layer, alpha in ((layers.MixUp, mixup), (layers.CutMix, cutmix)) if alpha]

    def mix(images, labels, seed):
        def by(layer):
            mixed = layer({"images": images, "labels": labels})
            return tf.ensure_shape(mixed["images"], images.shape), tf.ensure_shape(mixed["labels"], labels.shape)

        if len(chosen) == 1:
            return by(chosen[0])
        return tf.cond(tf.random.uniform([], seed=state) < 0.5, lambda: by(chosen[0]), lambda: by(chosen[1]))

    return mix


def _keras_cv() -> Any:
    try:
        import keras_cv
    except ImportError as error:
        raise InputError(f'--augmentations=keras_cv needs keras-cv: pip install "keras_widerresnet[augment]" ({error})') from None
    return keras_cv
