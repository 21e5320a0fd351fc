"""Preprocessing of images to the networks' input: PIL-compatible resizing, centre crop, normalisation; all are graph functions."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.errors import InputError
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.protocols import INTERPOLATIONS

_KERNELS = {"bicubic": "keyscubic", "lanczos": "lanczos3", "bilinear": "triangle"}
_REACH = 4  # pixels, more than any kernel's radius


def normalise(image: tf.Tensor) -> tf.Tensor:
    """Normalises an image of values 0..255 (…, 3) to float32 network input; `preprocess_input` for `tf.data` under any backend."""
    return (tf.cast(image, tf.float32) / 255.0 - tf.constant(MEAN)) / tf.constant(STD)


def resize_shorter_side(image: tf.Tensor, size: int, interpolation: str = "bicubic") -> tf.Tensor:
    """Resizes the shorter side to `size` pixels, the other side in proportion, rounded to the nearest pixel.

    Args:
        interpolation: one of `INTERPOLATIONS`, antialiased. The released models were evaluated with `"bicubic"`; `"auto"` is the
            release's `choose_interp_method`: Lanczos when shrinking, bicubic when enlarging.

    Returns:
        Float32 of whole numbers 0..255, equal to PIL's to within rounding.

    Raises:
        InputError: for an unknown interpolation.
    """
    target = _shorter_side_target(image, size)
    return _with_interpolation(image, size, interpolation, lambda known: _resized(image, target, known))


def resize_longer_side(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes the longer side to `size` pixels, the other in proportion (at least 1); bicubic, output as of `resize_shorter_side`."""
    shape = tf.shape(image)[:2]
    target = tf.maximum(1, scaled_sides(shape, tf.reduce_max(shape), size))
    return _resized(image, target, "bicubic")


def resize_to(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resizes an image to a size of its own proportions or not; bicubic, output as of `resize_shorter_side`."""
    return _resized(image, tf.constant([height, width]), "bicubic")


def scaled_sides(shape: tf.Tensor, side: tf.Tensor, size: int) -> tf.Tensor:
    """Returns height and width, int32, after scaling by `size` / `side`; halves are rounded up."""
    return (2 * size * shape + side) // (2 * side)


def center_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the central `size` x `size` pixels; the offset is rounded up (official release)."""
    top, left = tf.unstack(_center_offset(tf.shape(image)[:2], size))
    return _crop(image, top, left, size, size)


def test_view(image: tf.Tensor, size: int, interpolation: str = "bicubic") -> tf.Tensor:
    """Returns the test view: the shorter side resized to `size`, then the centre crop; float32 (size, size, 3), 0..255.

    Only the crop is computed, so that an image of 2000 x 1 pixels is not enlarged to 448,000 x 224.

    Raises:
        InputError: for an unknown interpolation.
    """
    target = _shorter_side_target(image, size)
    offset = _center_offset(target, size)
    return _with_interpolation(image, size, interpolation, lambda known: _resized_window(image, target, offset, size, known))


def shown_image(image: tf.Tensor, crop_size: int) -> tf.Tensor:
    """Returns the test view of an image as uint8 (S, S, 3), for figures."""
    return tf.cast(tf.round(test_view(image, crop_size)), tf.uint8)


def _shorter_side_target(image, size: int) -> tf.Tensor:
    shape = tf.shape(image)[:2]
    return tf.maximum(size, scaled_sides(shape, tf.reduce_min(shape), size))


def _center_offset(shape, size: int) -> tf.Tensor:
    return (shape - size + 1) // 2


def _with_interpolation(image, size: int, interpolation: str, resized: Callable[[str], tf.Tensor]) -> tf.Tensor:
    """`resized` of the interpolation that is meant."""
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"`interpolation` must be one of {INTERPOLATIONS}. Received: {interpolation!r}")
    if interpolation != "auto":
        return resized(interpolation)
    return tf.cond(tf.reduce_min(tf.shape(image)[:2]) > size, lambda: resized("lanczos"), lambda: resized("bicubic"))


def _resized(image, target, interpolation: str) -> tf.Tensor:
    """Resizes as PIL does; this takes twice as long as resampling both sides at once, as training does."""
    target = tf.convert_to_tensor(target)

    def resized():
        # PIL's order: columns, then rows, rounded and clipped to bytes after each.
        columns = _resampled(image, 1, target[1], 0, target[1], interpolation)
        return _resampled(columns, 0, target[0], 0, target[0], interpolation)

    return tf.cond(tf.reduce_all(tf.shape(image)[:2] == target), lambda: tf.cast(image, tf.float32), resized)


def _resized_window(image, target, offset, size: int, interpolation: str) -> tf.Tensor:
    """Returns the `size` x `size` window at `offset`, int32 (top, left), of the result of `_resized`."""

    def resized():
        rows, top = _reach(image, 0, target[0], offset[0], size)
        part, left = _reach(rows, 1, target[1], offset[1], size)
        columns = _resampled(part, 1, target[1], offset[1], size, interpolation, left, tf.shape(image)[1])
        return _resampled(columns, 0, target[0], offset[0], size, interpolation, top, tf.shape(image)[0])

    def cropped():
        return tf.cast(_crop(image, offset[0], offset[1], size, size), tf.float32)

    return tf.ensure_shape(tf.cond(tf.reduce_all(tf.shape(image)[:2] == target), cropped, resized), [size, size, 3])


def _reach(image, axis: int, target, offset, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the source pixels along an axis that contribute to the `size` resized pixels at `offset`, and the first one's index."""
    length = tf.cast(tf.shape(image)[axis], tf.int64)
    scaled, first = tf.cast(target, tf.int64), tf.cast(offset, tf.int64)
    margin = _REACH * (1 + length // scaled)
    begin = tf.maximum(first * length // scaled - margin, 0)
    end = tf.minimum((first + size) * length // scaled + margin + 1, length)
    return (image[begin:end] if axis == 0 else image[:, begin:end]), tf.cast(begin, tf.int32)


def _resampled(image, axis: int, target, offset, size, interpolation: str, begin=0, length=None) -> tf.Tensor:
    """Resizes an axis to `target` pixels and returns the `size` pixels at `offset`; float32 of whole numbers 0..255.

    Args:
        image: uint8 or float32 (H, W, 3).
        begin, length: if the image is only a part of the whole along this axis: its first pixel, and the length of the whole.
    """
    shape = tf.shape(image)[:2]
    whole = shape[axis] if length is None else length
    scale = tf.cast(target, tf.float64) / tf.cast(whole, tf.float64)
    shift = tf.cast(begin, tf.float64) * scale - tf.cast(offset, tf.float64)
    sides, scales, shifts = [shape[0], shape[1]], [tf.constant(1.0)] * 2, [tf.constant(0.0)] * 2
    sides[axis], scales[axis], shifts[axis] = tf.convert_to_tensor(size), tf.cast(scale, tf.float32), tf.cast(shift, tf.float32)
    resampled = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=tf.stack(sides),
        scale=tf.stack(scales),
        translation=tf.stack(shifts),
        kernel_type=_KERNELS[interpolation],
        antialias=True,
    )
    return tf.clip_by_value(tf.round(resampled[0]), 0.0, 255.0)


def _crop(image, top, left, height, width) -> tf.Tensor:
    return tf.ensure_shape(image[top : top + height, left : left + width], [height, width, 3])
