"""RandAugment (arXiv:1909.13719) with the eleven operations of `keras.layers.RandAugment`, chosen for each image from its own draws.

Keras' layer is not used itself: as of Keras 3.15 it draws one choice for a whole batch, ignores the seed that it is given, and computes all
operations for every image; brightness, contrast, rotation and translation go one way only; rotation is up to 360° · factor; and as the
factor falls, posterisation keeps fewer bits and solarisation inverts more. Here strengths go both ways, and grow with the magnitude.

Draws are made outside the compiled functions, because XLA's random numbers differ from TensorFlow's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_widerresnet.data import augment
from keras_widerresnet.data.keras_layers import VALUE_RANGE, Seeds

MOST_DEGREES = 30  # as in the paper
MOST_BITS_LOST = 4
Operation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def rand_augment(operations: int, magnitude: float) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns RandAugment.

    Args:
        operations: number of operations per image, each chosen anew among the eleven.
        magnitude: upper bound of the operations' strengths, 0..1; see `operations_of`.

    Returns:
        Function of a float32 image (S, S, 3) of values 0..255, and its seed, an int64 pair.
    """
    known = tuple(operations_of(magnitude).values())

    def change(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for number in range(operations):
            own = tf.random.fold_in(augment.stream(seed, "rand_augment"), number)
            choice = tf.random.stateless_uniform([], own, 0, len(known), tf.int32)
            branches = [lambda operation=operation, image=image, own=own: operation(image, own) for operation in known]
            image = tf.ensure_shape(tf.switch_case(choice, branches), image.shape)
        return image

    return change


def operations_of(magnitude: float) -> dict[str, Operation]:
    """Returns name -> operation, a function of a float32 image (S, S, 3) of values 0..255 and a seed, an integer pair.

    With u uniform in ±`magnitude`, drawn for each operation: brightness adds 255 u; contrast multiplies the distance from each channel's
    mean by 1 + u; colour and sharpness are PIL's enhancements by 1 + u; rotation is 30° u about the centre; shear is u and translation u
    times the side, each in both directions; solarisation inverts values of at least 255 (1 − |u|). Posterisation keeps
    8 − round(4 `magnitude`) bits. Auto-contrast and equalisation have no strength.
    """
    layers, both = keras.layers, (magnitude, magnitude)
    bits = 8 - round(MOST_BITS_LOST * magnitude)
    return {
        "auto_contrast": _by(layers.AutoContrast(VALUE_RANGE)),
        "equalization": _without_strength(equalized),
        "brightness": _by(layers.RandomBrightness(magnitude, VALUE_RANGE)),
        "contrast": _by(layers.RandomContrast(both, VALUE_RANGE)),  # one number would only raise it
        "color_degeneration": _by(layers.RandomColorDegeneration(magnitude, VALUE_RANGE)),
        # Keras' factor is half of PIL's. XLA's depthwise convolution takes 30 times as long as TensorFlow's on CPUs.
        "sharpness": _by(layers.RandomSharpness(((1 - magnitude) / 2, (1 + magnitude) / 2), VALUE_RANGE), jit_compile=False),
        "posterization": _by(layers.RandomPosterization((bits, bits), VALUE_RANGE)),
        "solarization": _solarization(magnitude),
        "rotation": _geometric(lambda u, size: _rotation(u[0] * math.radians(MOST_DEGREES), size), magnitude),
        "shear": _geometric(lambda u, size: (1.0, u[0], 0.0, u[1], 1.0, 0.0), magnitude),
        "translation": _geometric(lambda u, size: (1.0, 0.0, u[0] * size, 0.0, 1.0, u[1] * size), magnitude),
    }


def _by(layer: keras.Layer, jit_compile: bool = True) -> Operation:
    """Returns the operation of one of Keras' layers."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def changed(image, drawn):
        return layer.transform_images(image[None], drawn)[0]

    return lambda image, seed: changed(image, layer.get_random_transformation(image[None], seed=Seeds(seed)))


def _without_strength(change: Callable[[tf.Tensor], tf.Tensor]) -> Operation:
    compiled = tf.function(change, jit_compile=True, autograph=False)
    return lambda image, seed: compiled(image)


def equalized(image: tf.Tensor) -> tf.Tensor:
    """Makes the histogram of each channel flat, as `keras.layers.Equalization` does; a channel of one level stays.

    Written out, because Keras' layer would be compiled anew for each image (as below), and without compilation takes ten times as long.

    Args:
        image: float32 (H, W, channels) of static shape, values 0..255, of which the integer part counts.
    """
    height, width, channels = image.shape
    levels = tf.cast(image, tf.int32) + 256 * tf.range(channels)
    # tf.math.bincount's size is a function of its values, so that it would be compiled anew for each image.
    counts = tf.math.unsorted_segment_sum(tf.ones_like(levels), levels, 256 * channels)
    up_to = tf.cast(tf.cumsum(tf.reshape(counts, [channels, 256]), axis=1), tf.float32)
    lowest = tf.reduce_min(tf.where(up_to > 0, up_to, float(height * width)), axis=1, keepdims=True)
    above = height * width - lowest
    table = tf.round(255 * (up_to - lowest) / tf.maximum(above, 1.0))
    return tf.where(above[:, 0] > 0, tf.gather(tf.reshape(table, [-1]), levels), image)


def _solarization(magnitude: float) -> Operation:
    """Inverts values of at least a threshold; written out, because Keras' layer cannot bound its threshold from below."""

    @tf.function(jit_compile=True, autograph=False)
    def changed(image, threshold):
        return tf.where(image < threshold, image, 255 - image)

    return lambda image, seed: changed(image, 255 * (1 - tf.random.stateless_uniform([], Seeds(seed).next(), 0, magnitude)))


def _geometric(transform: Callable, magnitude: float) -> Operation:
    """Returns a warp whose six numbers `transform` makes of two strengths in ±`magnitude` and the image's side."""
    warped = tf.function(warp, jit_compile=True, autograph=False)

    def operation(image, seed):
        strengths = tf.random.stateless_uniform([2], Seeds(seed).next(), -magnitude, magnitude)
        return warped(image, tf.stack(transform(strengths, float(image.shape[0]))))

    return operation


def _rotation(angle: tf.Tensor, size: float) -> tuple[tf.Tensor, ...]:
    """Returns the warp that turns an image of the given side about its centre, by radians."""
    cosine, sine, centre = tf.cos(angle), tf.sin(angle), (size - 1) / 2
    return cosine, -sine, centre * (1 - cosine + sine), sine, cosine, centre * (1 - sine - cosine)


def warp(image: tf.Tensor, transform: tf.Tensor) -> tf.Tensor:
    """Maps an image by an affine transform, bilinearly, with the image mirrored at its borders.

    The same as `keras.ops.image.affine_transform(…, fill_mode="reflect")`, whose op XLA cannot compile, and ten times as fast.

    Args:
        image: float32 (H, W, 3), of static shape.
        transform: float32 (6,): the output's pixel (x, y) is the input's (a0 x + a1 y + a2, b0 x + b1 y + b2).
    """
    height, width, channels = image.shape
    x, y = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)[:, None]
    columns, rows = (a * x + b * y + c for a, b, c in (tf.unstack(transform[:3]), tf.unstack(transform[3:])))
    left, top = tf.floor(columns), tf.floor(rows)
    pixels = tf.reshape(image, [height * width, channels])

    def mirrored(index, length):
        index = tf.math.floormod(tf.cast(index, tf.int32), 2 * length)
        return tf.minimum(index, 2 * length - 1 - index)

    def row(index):
        start, share = mirrored(index, height) * width, (columns - left)[..., None]
        near, far = (tf.gather(pixels, start + mirrored(column, width)) for column in (left, left + 1))
        return near + share * (far - near)

    above, below = row(top), row(top + 1)
    return above + (rows - top)[..., None] * (below - above)
