"""Batches of a segmentation split as in the official release: rescale, crop, flip, with labels at cell centres.

All random draws are functions of (seed, position).
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data import augment
from keras_widerresnet.data.pairs import SegmentationSplit
from keras_widerresnet.data.resize import normalise, resize_longer_side, scaled_sides
from keras_widerresnet.data.split import WHOLE, Share
from keras_widerresnet.data.streams import streamed, test_steps, unsharded
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED
from keras_widerresnet.preprocessing import MEAN
from keras_widerresnet.tasks.segmentation.config import Augmentation
from keras_widerresnet.tracing import without_autograph


def rounded_up(size: int, stride: int) -> int:
    """Rounds `size` up to a multiple of `stride`."""
    return -(-size // stride) * stride


def rescaled_size(shape: tf.Tensor, augmentation: Augmentation, draw: tf.Tensor) -> tf.Tensor:
    """Returns height and width, int32, of an image of `shape` (2,) after random rescaling by `draw` in [0, 1); halves up, at least 1."""
    lowest, highest = augmentation.scale_low, augmentation.scale_high
    longer = tf.cast(augmentation.origin_size * (lowest + draw * (highest - lowest)) + 0.5, tf.int32)
    return tf.maximum(1, scaled_sides(shape, tf.reduce_max(shape), longer))


def window_offset(rescaled: tf.Tensor, size: int, draws: tf.Tensor) -> tf.Tensor:
    """Returns top and left, int32, of the window in the rescaled image for `draws` (2,) in [0, 1); negative if the image is smaller."""
    room = rescaled - size
    return tf.minimum(room, 0) + tf.cast(draws * tf.cast(tf.abs(room) + 1, tf.float32), tf.int32)


def resampled_window(image: tf.Tensor, rescaled: tf.Tensor, offset: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes an image to `rescaled` (bilinear, antialiased; our choice) and crops a window; only the window's pixels are computed.

    Args:
        image: uint8 (H, W, 3).
        rescaled: int32 (height, width) after resizing.
        offset: int32 (top, left) of the window.
        size: side of the square window.

    Returns:
        Float32 (size, size, 3), values 0..255, zero outside the image.
    """
    window = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=[size, size],
        scale=tf.cast(rescaled / tf.shape(image)[:2], tf.float32),
        translation=tf.cast(-offset, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    return tf.ensure_shape(window[0], [size, size, 3])


def labels_at(mask: tf.Tensor, rescaled: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Samples a mask (H, W) at pixels of its image resized to `rescaled`: the nearest pixel's label, 255 outside the image.

    Args:
        rows, columns: int32 (n,) and (m,), the pixels' coordinates.

    Returns:
        Int32 (n, m).
    """

    def source(pixels, side, rescaled_side):
        # The pixel centre, (p + ½) · side / rescaled side, in integer arithmetic.
        nearest = (2 * pixels + 1) * side // (2 * rescaled_side)
        return tf.clip_by_value(nearest, 0, side - 1), (pixels >= 0) & (pixels < rescaled_side)

    shape = tf.shape(mask)
    row_source, row_inside = source(rows, shape[0], rescaled[0])
    column_source, column_inside = source(columns, shape[1], rescaled[1])
    labels = tf.gather(tf.gather(mask, row_source), column_source, axis=1)
    return tf.where(row_inside[:, None] & column_inside, tf.cast(labels, tf.int32), IGNORED)


def training_example(
    split: SegmentationSplit, augmentation: Augmentation, size: int, stride: int
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns the graph function from a raw image, a raw mask and a seed (an int64 pair) to the network's input and labels.

    Returns:
        Function that returns the input, float32 (size, size, 3), 0 (the mean colour) outside the image, and the labels at the pixels
        `i * stride + stride // 2` of the window, int32 (size / stride, size / stride), 255 outside; both may be mirrored.
    """

    @tf.function(jit_compile=True, autograph=False)  # fused into one loop over the pixels: takes a tenth of the time
    def finished(window, inside, flipped, color_draws):
        if augmentation.color_jitter:
            window = tf.where(inside, window, 255 * tf.constant(MEAN))
            window = augment.random_color(window, augmentation.color_jitter, 0.0, color_draws)
        window = tf.where(inside, normalise(window), 0.0)
        return tf.where(flipped, window[:, ::-1], window)

    def example(raw_image, raw_mask, seed):
        image, mask = split.decode(raw_image, raw_mask)
        rescaled = rescaled_size(tf.shape(mask), augmentation, augment.uniform([], seed, "scale"))
        offset = window_offset(rescaled, size, augment.uniform([2], seed, "crop"))
        flipped = augmentation.flip & (augment.uniform([], seed, "flip") >= 0.5)
        rows, columns = (offset[k] + tf.range(size) for k in range(2))
        inside = ((rows >= 0) & (rows < rescaled[0]))[:, None] & (columns >= 0) & (columns < rescaled[1])
        window = resampled_window(image, rescaled, offset, size)
        centres = slice(stride // 2, None, stride)
        # Labels are sampled in the mirrored window, at the same positions as in testing.
        labels = labels_at(mask, rescaled, rows[centres], tf.where(flipped, columns[::-1], columns)[centres])
        return finished(window, inside[..., None], flipped, augment.uniform([7], seed, "color")), labels

    return example


@without_autograph
def train_batches(
    split: SegmentationSplit,
    *,
    crop_size: int,
    stride: int,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    start_step: int = 0,
    share: Share = WHOLE,
    parts: int = 1,
    data_service: str = "",
) -> tf.data.Dataset:
    """Returns endless training batches from step `start_step` on.

    Args:
        crop_size: side of the window; rounded up to a multiple of `stride`, it is S.
        stride: the network's output stride; there is one label per cell of `stride` x `stride` pixels.
        batch_size, share, parts, data_service: as in `tasks.classification.batches.train_batches`.

    Returns:
        Data set of (float32 images (batch / count / parts, S, S, 3), normalised as network input; int32 labels (…, S / stride,
        S / stride), 255 where ignored).
    """
    example = training_example(split, augmentation, rounded_up(crop_size, stride), stride)

    def batches(run_seed):
        examples = split.shuffled(run_seed, batch_size=batch_size, step=start_step, share=share).map(
            lambda position, raw_image, raw_mask: example(raw_image, raw_mask, tf.stack([tf.cast(run_seed, tf.int64), position])),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return examples.batch(batch_size // share.count // parts, drop_remainder=True)

    return streamed(batches, seed, data_service)


@without_autograph
def test_batches(
    split: SegmentationSplit, *, origin_size: int, stride: int, batch_size: int, share: Share = WHOLE, parts: int = 1
) -> tf.data.Dataset:
    """Returns every image once, uncropped, its longer side resized to `origin_size`; the last batch is padded with cells of weight 0.

    Args:
        batch_size: images per step, over all workers and their devices; must be one per device, because images differ in size.
        share, parts: as in `train_batches`.

    Returns:
        Data set of (float32 images (1, H, W, 3), int32 labels (1, H / stride, W / stride), float32 weights (1,)), of
        `test_steps(split.size, batch_size) * parts` elements for every share. H and W are multiples of `stride`: images are padded at the
        right and bottom with zeros (the mean colour) and label 255.

    Raises:
        InputError: if the batch is not one image for each device.
    """
    if batch_size != share.count * parts:
        raise InputError(f"The test batch must be one image for each of {share.count * parts} devices. Received: batch_size={batch_size}")

    def example(raw_image, raw_mask):
        image, mask = split.decode(raw_image, raw_mask)
        image = resize_longer_side(image, origin_size)
        resized = tf.shape(image)[:2]
        missing = -resized % stride
        image = tf.pad(normalise(image), [[0, missing[0]], [0, missing[1]], [0, 0]])
        rows, columns = (tf.range(stride // 2, resized[k] + missing[k], stride) for k in range(2))
        return image, labels_at(mask, resized, rows, columns), 1.0

    examples = split.ordered().shard(share.count, share.index) if share.count > 1 else split.ordered()
    views = examples.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    filling = (tf.zeros((stride, stride, 3)), tf.fill((1, 1), IGNORED), 0.0)
    filled = views.concatenate(tf.data.Dataset.from_tensors(filling).repeat()).take(test_steps(split.size, batch_size) * parts)
    return unsharded(filled.batch(1, drop_remainder=True))
