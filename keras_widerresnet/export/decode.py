"""Batches of encoded images inside a graph, where an image that does not decode is a row with a flag, not an error."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data.images import decode_rgb


def decoded_rows(encoded: tf.Tensor, prepare: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes and prepares every image of a batch by itself, several at a time.

    Args:
        encoded: strings (n,), JPEG or PNG bytes of any sizes, or anything else.
        prepare: graph function of a uint8 image (H, W, 3) to one of any size (h, w, 3).

    Returns:
        The prepared images (n, h, w, 3), those smaller than the largest of the batch filled up at the right and bottom with 0; their sizes
        (h, w), int32 (n, 2); and which are valid, bool (n,). An image that does not decode has size 0 and is filled with 0.
    """
    count = tf.shape(encoded)[0]

    def row(index, raw):
        image = prepare(decode_rgb(raw))
        return index, image, tf.shape(image)[:2]

    # The decoding operations can only raise; inside tf.data what raises can be left out, which the row's index then tells.
    slices = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    rows = slices.map(row, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    spec = rows.element_spec[1]
    last = tf.zeros([side or 0 for side in spec.shape[:2]] + [3], spec.dtype)  # so that there is always one
    rows = rows.concatenate(tf.data.Dataset.from_tensors((count, last, tf.zeros(2, tf.int32))))
    padded = rows.padded_batch(tf.cast(count, tf.int64) + 1, ([], spec.shape, [2]))
    indices, images, sizes = padded.get_single_element()

    def placed(values):
        shape = tf.concat([[count + 1], tf.shape(values)[1:]], axis=0)
        return tf.scatter_nd(indices[:, None], values, shape)[:count]

    images = tf.ensure_shape(placed(images), [None, *spec.shape])
    return images, placed(sizes), placed(tf.ones_like(indices)) > 0
