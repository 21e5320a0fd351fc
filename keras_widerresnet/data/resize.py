"""Images to the networks' input: resizing as PIL does, the centre crop, normalisation; all are graph functions."""

from __future__ import annotations

import tensorflow as tf

from keras_widerresnet.errors import InputError
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.protocols import INTERPOLATIONS

_METHODS = {"bicubic": "bicubic", "lanczos": "lanczos3", "bilinear": "bilinear"}


def normalise(image: tf.Tensor) -> tf.Tensor:
    """Image of values 0..255 (…, 3) to the networks' float32 input; `preprocess_input` for use inside `tf.data` under any backend."""
    return (tf.cast(image, tf.float32) / 255.0 - tf.constant(MEAN)) / tf.constant(STD)


def resize_shorter_side(image: tf.Tensor, size: int, interpolation: str = "bicubic") -> tf.Tensor:
    """Shorter side to `size` pixels, the other side rounded to nearest; float32 of whole numbers 0..255, PIL's to within rounding.

    Args:
        interpolation: one of `INTERPOLATIONS`, antialiased. The released models were evaluated with `"bicubic"`; `"auto"` is the
            release's `choose_interp_method`: Lanczos when shrinking, bicubic when enlarging.

    Raises:
        InputError: for an unknown interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"`interpolation` must be one of {INTERPOLATIONS}. Received: {interpolation!r}")
    shape = tf.shape(image)[:2]
    shorter = tf.reduce_min(shape)
    target = tf.maximum(size, scaled_sides(shape, shorter, size))
    if interpolation != "auto":
        return _resized(image, target, interpolation)
    return tf.cond(shorter > size, lambda: _resized(image, target, "lanczos"), lambda: _resized(image, target, "bicubic"))


def resize_longer_side(image: tf.Tensor, size: int) -> tf.Tensor:
    """Longer side to `size` pixels, the other side rounded to nearest, 1 at least; bicubic, float32 as `resize_shorter_side` gives."""
    shape = tf.shape(image)[:2]
    target = tf.maximum(1, scaled_sides(shape, tf.reduce_max(shape), size))
    return _resized(image, target, "bicubic")


def scaled_sides(shape: tf.Tensor, side: tf.Tensor, size: int) -> tf.Tensor:
    """Sides (height, width), int32, after the scaling that makes `side` pixels `size`; halves round up."""
    return (2 * size * shape + side) // (2 * side)


def center_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """The middle `size` x `size` pixels, the offset rounded up (official release)."""
    top, left = tf.unstack((tf.shape(image)[:2] - size + 1) // 2)
    return _crop(image, top, left, size, size)


def test_view(image: tf.Tensor, size: int, interpolation: str = "bicubic") -> tf.Tensor:
    """What the network sees in testing: the shorter side resized to `size`, then the centre crop; float32 (size, size, 3), 0..255."""
    return center_crop(resize_shorter_side(image, size, interpolation), size)


def shown_image(image: tf.Tensor, crop_size: int) -> tf.Tensor:
    """An image as the network sees it in testing, uint8 (S, S, 3), for pictures."""
    return tf.cast(tf.round(test_view(image, crop_size)), tf.uint8)


def _resized(image, target, interpolation: str) -> tf.Tensor:
    """As PIL resizes; twice the time of one `_resampled`, which training takes."""
    target = tf.convert_to_tensor(target)

    def resized():
        # PIL's order: columns, then rows, rounded and clipped to bytes after each.
        columns = _resampled(image, tf.stack([tf.shape(image)[0], target[1]]), interpolation)
        return _resampled(columns, target, interpolation)

    return tf.cond(tf.reduce_all(tf.shape(image)[:2] == target), lambda: tf.cast(image, tf.float32), resized)


def _resampled(image, target, interpolation: str) -> tf.Tensor:
    return tf.clip_by_value(tf.round(tf.image.resize(image, target, method=_METHODS[interpolation], antialias=True)), 0.0, 255.0)


def _crop(image, top, left, height, width) -> tf.Tensor:
    return tf.ensure_shape(image[top : top + height, left : left + width], [height, width, 3])
