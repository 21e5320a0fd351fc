"""Batches of a split: crop, augment, normalise. All random draws, except keras-cv's, are functions of (seed, position).

The draws of MixUp and CutMix, which are made for a batch, are functions of the position of its first image.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data import augment, keras_cv_layers, keras_layers, rand_augment
from keras_widerresnet.data.images import decode_rgb, decode_window
from keras_widerresnet.data.resize import normalise, resize_shorter_side, test_view
from keras_widerresnet.data.split import WHOLE, IndexedSplit, ShardedSplit, Share
from keras_widerresnet.data.streams import streamed, test_steps, unsharded
from keras_widerresnet.tasks.classification.config import KERAS, Augmentation
from keras_widerresnet.tracing import without_autograph


def training_crop(raw: tf.Tensor, size: int, crop: str, seed: tf.Tensor) -> tf.Tensor:
    """Returns the training crop of a raw image, float32 (size, size, 3) of values 0..255; a JPEG is only decoded as far as needed.

    Args:
        crop: one of `config.TRAINING_CROPS`.
        seed: int64 pair.
    """
    if crop == "center":
        return test_view(decode_rgb(raw), size)
    if crop == "padded":
        return augment.padded_crop(resize_shorter_side(decode_rgb(raw), size), size, augment.uniform([2], seed, "crop"))
    draws = augment.uniform([augment.CROP_TRIES, 5], seed, "crop")
    window = decode_window(raw, lambda shape: augment.random_sized_window(shape, draws))
    return tf.ensure_shape(_quickly_resized(window, size), [size, size, 3])


def _quickly_resized(window: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes by area averaging if both sides shrink, bicubic otherwise: four times as fast as antialiased bicubic (our choice)."""

    def bicubic():
        enlarged = tf.raw_ops.ResizeBicubic(images=window[None], size=[size, size], half_pixel_centers=True)
        return tf.clip_by_value(enlarged, 0.0, 255.0)

    def area():
        return tf.raw_ops.ResizeArea(images=window[None], size=[size, size])

    return tf.cond(tf.reduce_min(tf.shape(window)[:2]) >= size, area, bicubic)[0]


def finish(augmentation: Augmentation) -> Callable[..., tf.Tensor]:
    """Returns the last steps for training images (colour, flip, normalisation), fused into one loop over the pixels: ten times as fast.

    Returns:
        Function to the networks' input from a float32 image (S, S, 3) of values 0..255, its seed, an int64 pair, and its draw for
        `augment.random_flip`, which is derived from the seed if it is not given.
    """

    @tf.function(jit_compile=True, autograph=False)
    def finished(image, color_draws, flip_draw):
        image = augment.random_color(image, augmentation.color_jitter, augmentation.lighting, color_draws)
        return normalise(augment.random_flip(image, flip_draw) if augmentation.flip else image)

    def from_seed(image, seed, flip_draw=None):
        # Random numbers are drawn outside, because XLA's differ from TensorFlow's.
        draw = augment.uniform([], seed, "flip") if flip_draw is None else flip_draw
        return finished(image, augment.uniform([7], seed, "color"), draw)

    return from_seed


def image_steps(augmentation: Augmentation, state: int) -> list[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
    """Returns the steps between crop and `finish`: RandAugment and RandomErasing, if enabled.

    Args:
        state: seed of keras-cv's generator.

    Returns:
        Functions of a float32 image (S, S, 3) of values 0..255, and its seed, an int64 pair.

    Raises:
        InputError: if keras-cv is needed but not installed.
    """
    steps, operations, magnitude = [], augmentation.rand_augment, augmentation.magnitude
    if operations and augmentation.augmentations == KERAS:
        steps.append(rand_augment.rand_augment(operations, magnitude))
    elif operations:
        steps.append(keras_cv_layers.rand_augment(operations, magnitude, state))
    if augmentation.random_erasing:
        steps.append(keras_layers.random_erasing(augmentation.random_erasing))
    return steps


def batch_step(augmentation: Augmentation, state: int) -> keras_layers.Mix | None:
    """Returns MixUp, CutMix, or one of them at random for each batch; None if neither is enabled.

    Args:
        state: as in `image_steps`.

    Returns:
        Function of normalised images (batch, S, S, 3), labels (batch, classes), and the batch's seed, an int64 pair.

    Raises:
        InputError: if keras-cv is needed but not installed.
    """
    alphas = augmentation.mixup, augmentation.cutmix
    if not any(alphas):
        return None
    return keras_layers.mix_batches(*alphas) if augmentation.augmentations == KERAS else keras_cv_layers.mix_batches(*alphas, state)


def train_batches(
    split: IndexedSplit | ShardedSplit,
    *,
    classes: int,
    crop_size: int,
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
        classes: length of the label vectors.
        batch_size: images per step, over all workers and their devices.
        share: the part of each batch that this worker reads.
        parts: number of elements into which this part is divided, one per device; MixUp and CutMix mix within an element.
        data_service: address of a `tf.data` service (`grpc://host:port`) that prepares the batches; each of its workers reads in its own
            order, which is not reproducible.

    Returns:
        Data set of (float32 images (batch / count / parts, S, S, 3), normalised as network input; float32 labels (…, classes)).

    Raises:
        InputError: if keras-cv is needed but not installed, or there are fewer shards than workers.
    """
    state = hash((seed, start_step, share.index)) % (1 << 31)
    steps, finishing, mix = image_steps(augmentation, state), finish(augmentation), batch_step(augmentation, state)
    # keras-cv's state gives its draws to the batches in the order in which they are mixed.
    parallel_batches = tf.data.AUTOTUNE if augmentation.augmentations == KERAS else None

    def seed_of(run_seed, position):
        return tf.stack([tf.cast(run_seed, tf.int64), position])

    def example(run_seed, position, raw, label):
        image_seed = seed_of(run_seed, position)
        image = training_crop(raw, crop_size, augmentation.crop, image_seed)
        for step in steps:
            image = step(image, image_seed)
        flip_draw = augment.alternating_draw(raw, position // split.size, run_seed) if augmentation.alternating_flip else None
        label = tf.one_hot(label, classes) * (1 - augmentation.label_smoothing) + augmentation.label_smoothing / classes
        return position, finishing(image, image_seed, flip_draw), label

    def mixed(run_seed, positions, images, labels):
        return mix(images, labels, seed_of(run_seed, positions[0])) if mix else (images, labels)

    def batches(run_seed):
        examples = split.shuffled(run_seed, batch_size=batch_size, step=start_step, share=share)
        examples = examples.map(lambda *item: example(run_seed, *item), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batched = examples.batch(batch_size // share.count // parts, drop_remainder=True)
        return batched.map(lambda *batch: mixed(run_seed, *batch), num_parallel_calls=parallel_batches)

    # keras-cv's layers do need AutoGraph.
    return streamed(without_autograph(batches) if augmentation.augmentations == KERAS else batches, seed, data_service)


@without_autograph
def test_batches(
    split: IndexedSplit | ShardedSplit, *, classes: int, crop_size: int, batch_size: int, share: Share = WHOLE, parts: int = 1
) -> tf.data.Dataset:
    """Returns every image once, with its shorter side resized and centre-cropped; the last batch is padded with images of weight 0.

    Args:
        classes, batch_size, share, parts: as in `train_batches`.

    Returns:
        Data set of (float32 images (batch / count / parts, S, S, 3), float32 labels (…, classes), float32 weights (…,)), of
        `test_steps(split.size, batch_size) * parts` elements for every share.
    """
    rows = batch_size // share.count
    examples = split.ordered().shard(share.count, share.index) if share.count > 1 else split.ordered()
    views = examples.map(
        lambda raw, label: (normalise(test_view(decode_rgb(raw), crop_size)), tf.one_hot(label, classes), 1.0),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    filling = (tf.zeros((crop_size, crop_size, 3)), tf.zeros(classes), 0.0)
    filled = views.concatenate(tf.data.Dataset.from_tensors(filling).repeat()).take(test_steps(split.size, batch_size) * rows)
    return unsharded(filled.batch(rows // parts, drop_remainder=True))
