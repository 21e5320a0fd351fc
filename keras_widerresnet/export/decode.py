"""Batches of encoded images inside a graph, where an image that cannot be used is a row with a flag, not an error."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data.exif import orientation, turned_size
from keras_widerresnet.data.images import checked, decode_rgb, stored_size


def decoded_rows(encoded: tf.Tensor, prepare: Callable[[tf.Tensor], tf.Tensor], max_pixels: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes and prepares every image of a batch by itself, several at a time.

    Args:
        encoded: strings (n,), JPEG or PNG bytes of any sizes, or anything else.
        prepare: graph function of a uint8 image (H, W, 3) to one of any size (h, w, 3).
        max_pixels: most pixels of an image, as its header tells before it is decoded. Where `prepare` leaves the size open, also of the
            padded batch: an image that would make it larger is not valid.

    Returns:
        The prepared images (n, h, w, 3), those smaller than the largest of the batch filled up at the right and bottom with 0; their sizes
        (h, w), int32 (n, 2); and which are valid, bool (n,). An image that is not has size 0 and is filled with 0.
    """
    count = tf.shape(encoded)[0]

    def row(index, raw):
        image = prepare(decode_rgb(checked(raw, max_pixels)))
        return index, image, tf.shape(image)[:2]

    # The decoding operations can only raise; inside tf.data what raises can be left out, which the row's index then tells.
    slices = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    rows = slices.map(row, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    spec = rows.element_spec[1]
    if not spec.shape[:2].is_fully_defined():
        fits = _fitting(_upright_sizes(encoded, max_pixels), max_pixels)
        slices = slices.filter(lambda index, raw: fits[index])
        rows = slices.map(row, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    last = tf.zeros([side or 0 for side in spec.shape[:2]] + [3], spec.dtype)  # so that there is always one
    rows = rows.concatenate(tf.data.Dataset.from_tensors((count, last, tf.zeros(2, tf.int32))))
    padded = rows.padded_batch(tf.cast(count, tf.int64) + 1, ([], spec.shape, [2]))
    indices, images, sizes = padded.get_single_element()

    def placed(values):
        shape = tf.concat([[count + 1], tf.shape(values)[1:]], axis=0)
        return tf.scatter_nd(indices[:, None], values, shape)[:count]

    images = tf.ensure_shape(placed(images), [None, *spec.shape])
    return images, placed(sizes), placed(tf.ones_like(indices)) > 0


def _upright_sizes(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Heights and widths, int64 (n, 2), as the headers tell; 0 where that cannot be used."""
    count = tf.shape(encoded, tf.int64)[0]

    def row(index, raw):
        within = checked(raw, max_pixels)
        return index, turned_size(stored_size(within), orientation(within))

    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded)).map(row).ignore_errors()
    rows = rows.concatenate(tf.data.Dataset.from_tensors((count, tf.zeros(2, tf.int32))))
    indices, sizes = rows.batch(count + 1).get_single_element()
    return tf.scatter_nd(indices[:, None], tf.cast(sizes, tf.int64), [count + 1, 2])[:count]


def _fitting(sizes: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Which images, bool (n,), are taken into a padded batch of `max_pixels` at most: from the first on, each with which it fits."""
    count = tf.shape(sizes, tf.int64)[0]

    def take(state, size):
        largest, _ = state
        together = tf.maximum(largest, size)
        fits = (count * tf.reduce_prod(together) <= max_pixels) & (tf.reduce_min(size) > 0)
        return tf.where(fits, together, largest), fits

    return tf.scan(take, sizes, initializer=(tf.zeros(2, tf.int64), tf.constant(False)))[1]
