"""Raw images, encoded or decoded, and how little of them must be decoded.

A raw image is what a data set stores: a string tensor of JPEG or PNG bytes, or a uint8 tensor (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

DCT_METHOD = "INTEGER_ACCURATE"  # PIL's; the fast one saves a few per cent of decoding


def decode_rgb(raw: tf.Tensor) -> tf.Tensor:
    """A raw image to uint8 (H, W, 3). Grey images are repeated, CMYK ones converted, alpha is dropped; the bytes tell the format.

    Raises:
        tf.errors.InvalidArgumentError: for bytes that are neither JPEG nor PNG, or damaged.
    """
    if raw.dtype != tf.string:
        return raw
    return tf.cond(tf.io.is_jpeg(raw), lambda: _decode_jpeg(raw), lambda: tf.io.decode_png(raw, channels=3))


def decode_window(raw: tf.Tensor, choose: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """A window of a raw image, uint8 (h, w, 3); of a JPEG only the window is decoded.

    Args:
        raw: raw image.
        choose: from the image's size, int32 (height, width), to the window, int32 (top, left, height, width).
    """

    def window_of_jpeg():
        window = choose(tf.io.extract_jpeg_shape(raw)[:2])
        return tf.io.decode_and_crop_jpeg(raw, window, channels=3, dct_method=DCT_METHOD)

    def window_of(image):
        top, left, height, width = tf.unstack(choose(tf.shape(image)[:2]))
        return image[top : top + height, left : left + width]

    if raw.dtype != tf.string:
        return window_of(raw)
    return tf.cond(tf.io.is_jpeg(raw), window_of_jpeg, lambda: window_of(tf.io.decode_png(raw, channels=3)))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, dct_method=DCT_METHOD)
