"""Decodes batches of images inside a graph; unusable images are flagged rather than raising an error."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data.exif import orientation, turned_size
from keras_widerresnet.data.images import checked, decode_rgb, stored_size
from keras_widerresnet.tracing import without_autograph


@without_autograph
def decoded_rows(
    encoded: tf.Tensor, prepare: Callable[[tf.Tensor], tf.Tensor], max_pixels: int, *, is_padded: bool = False
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes and prepares the images of a batch independently and in parallel.

    Args:
        encoded: strings (n,), JPEG or PNG bytes of any size; other bytes are flagged as invalid.
        prepare: graph function from a uint8 image (H, W, 3) to an image of any size (h, w, 3).
        max_pixels: maximum pixels of an image, read from its header before decoding.
        is_padded: whether `prepare` keeps the images' own sizes. Then `max_pixels` also limits the padded batch: an image that would
            exceed it is flagged as invalid.

    Returns:
        The prepared images (n, h, w, 3), zero-padded at the right and bottom to the largest of the batch; their sizes (h, w), int32 (n, 2);
        and whether each is valid, bool (n,). An invalid image has size 0 and is filled with 0.
    """
    count = tf.shape(encoded)[0]

    def row(index, raw):
        image = prepare(decode_rgb(checked(raw, max_pixels)))
        return index, image, tf.shape(image)[:2]

    slices = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    if is_padded:
        fits = _fitting(_upright_sizes(encoded, max_pixels), max_pixels)
        slices = slices.filter(lambda index, raw: fits[index])
    # Decoding operations raise on bad input; tf.data can skip such elements, and the indices show which are missing.
    rows = slices.map(row, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    spec = rows.element_spec[1]
    last = tf.zeros([side or 0 for side in spec.shape[:2]] + [3], spec.dtype)  # so that there is always at least one element
    rows = rows.concatenate(tf.data.Dataset.from_tensors((count, last, tf.zeros(2, tf.int32))))
    padded = rows.padded_batch(tf.cast(count, tf.int64) + 1, ([], spec.shape, [2]))
    indices, images, sizes = padded.get_single_element()

    def placed(values):
        shape = tf.concat([[count + 1], tf.shape(values)[1:]], axis=0)
        return tf.scatter_nd(indices[:, None], values, shape)[:count]

    images = tf.ensure_shape(placed(images), [None, *spec.shape])
    return images, placed(sizes), placed(tf.ones_like(indices)) > 0


def _upright_sizes(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Returns heights and widths, int64 (n, 2), from the images' headers; 0 for unusable images."""
    count = tf.shape(encoded, tf.int64)[0]

    def row(index, raw):
        within = checked(raw, max_pixels)
        return index, turned_size(stored_size(within), orientation(within))

    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded)).map(row).ignore_errors()
    rows = rows.concatenate(tf.data.Dataset.from_tensors((count, tf.zeros(2, tf.int32))))
    indices, sizes = rows.batch(count + 1).get_single_element()
    return tf.scatter_nd(indices[:, None], tf.cast(sizes, tf.int64), [count + 1, 2])[:count]


def _fitting(sizes: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Returns which images, bool (n,), a padded batch of at most `max_pixels` can include, added greedily in order."""
    count = tf.shape(sizes, tf.int64)[0]

    def take(state, size):
        largest, _ = state
        together = tf.maximum(largest, size)
        fits = (count * tf.reduce_prod(together) <= max_pixels) & (tf.reduce_min(size) > 0)
        return tf.where(fits, together, largest), fits

    return tf.scan(take, sizes, initializer=(tf.zeros(2, tf.int64), tf.constant(False)))[1]
