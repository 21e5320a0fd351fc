"""From a split to batches: crop, augment, normalise. Every draw but keras-cv's is a function of (seed, position)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data import augment
from keras_widerresnet.data.images import decode_rgb, decode_window
from keras_widerresnet.data.split import WHOLE, IndexedSplit, ShardedSplit, Share
from keras_widerresnet.errors import InputError
from keras_widerresnet.preprocessing import MEAN, STD

_METHODS = {"bicubic": "bicubic", "lanczos": "lanczos3", "bilinear": "bilinear"}
INTERPOLATIONS = (*_METHODS, "auto")
CROPS = ("center", "padded", "random_sized")


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


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to a training image, in this order; the defaults are the release's.

    Args:
        crop: `"center"`, `"padded"` (`augment.padded_crop`) or `"random_sized"` (`augment.random_sized_window`).
        rand_augment: keras-cv operations for each image, 0 for none.
        magnitude: of RandAugment, 0..1.
        color_jitter: strength of `augment.color_jitter`.
        lighting: standard deviation of PCA lighting.
        flip: mirror half the images.
        mixup, cutmix: alpha of keras-cv's MixUp and CutMix, 0 for none; with both, each batch gets one of them.
        label_smoothing: share of each label spread over all classes.

    Raises:
        InputError: for an unknown crop.
    """

    crop: str = "random_sized"
    rand_augment: int = 0
    magnitude: float = 0.3
    color_jitter: float = 0.4
    lighting: float = 0.1
    flip: bool = True
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self):
        if self.crop not in CROPS:
            raise InputError(f"`crop` must be one of {CROPS}. Received: {self.crop!r}")


def training_crop(raw: tf.Tensor, size: int, crop: str, seed: tf.Tensor) -> tf.Tensor:
    """A raw image to its training crop, float32 (size, size, 3) of values 0..255; a JPEG is decoded no further than needed.

    Args:
        crop: one of `CROPS`.
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
    """Area average where both sides shrink, bicubic otherwise: a quarter of antialiased bicubic's time (the release names none)."""

    def bicubic():
        enlarged = tf.raw_ops.ResizeBicubic(images=window[None], size=[size, size], half_pixel_centers=True)
        return tf.clip_by_value(enlarged, 0.0, 255.0)

    def area():
        return tf.raw_ops.ResizeArea(images=window[None], size=[size, size])

    return tf.cond(tf.reduce_min(tf.shape(window)[:2]) >= size, area, bicubic)[0]


def finish(augmentation: Augmentation) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The last steps of training images, colour, flip and normalisation, compiled to one loop over the pixels: a tenth of the time.

    Returns:
        Function of a float32 image (S, S, 3) of values 0..255 and its seed, an int64 pair, to the networks' input.
    """

    @tf.function(jit_compile=True)
    def finished(image, color_draws, flip_draw):
        image = augment.random_color(image, augmentation.color_jitter, augmentation.lighting, color_draws)
        return normalise(augment.random_flip(image, flip_draw) if augmentation.flip else image)

    # XLA would draw other numbers than TensorFlow: they are drawn outside.
    return lambda image, seed: finished(image, augment.uniform([7], seed, "color"), augment.uniform([], seed, "flip"))


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
    """Endless training batches from step `start_step` on.

    Args:
        classes: length of the labels.
        batch_size: images a step, over all workers and their devices.
        share: the part of each batch that is read here.
        parts: into how many elements that part is divided, one for each device.
        data_service: address of a `tf.data` service (`grpc://host:port`) that does the work; its workers read in orders of their own,
            which are not repeatable.

    Returns:
        Data set of (float32 images (batch / count / parts, S, S, 3) as the networks take them, float32 labels (…, classes)).

    Raises:
        InputError: if keras-cv is asked for and not installed, or there are fewer shards than workers.
    """
    keras_cv_seed = hash((seed, start_step, share.index)) % (1 << 31)
    operations = augmentation.rand_augment
    rand_augment = augment.rand_augment(operations, augmentation.magnitude, keras_cv_seed) if operations else None
    mixes = augmentation.mixup or augmentation.cutmix
    mix = augment.mix_batches(augmentation.mixup, augmentation.cutmix, keras_cv_seed) if mixes else None

    finishing = finish(augmentation)

    def example(run_seed, position, raw, label):
        image_seed = tf.stack([tf.cast(run_seed, tf.int64), position])
        image = training_crop(raw, crop_size, augmentation.crop, image_seed)
        if rand_augment:
            image = tf.ensure_shape(rand_augment(image), image.shape)
        label = tf.one_hot(label, classes) * (1 - augmentation.label_smoothing) + augmentation.label_smoothing / classes
        return finishing(image, image_seed), label

    def batches(run_seed):
        examples = split.shuffled(run_seed, batch_size=batch_size, step=start_step, share=share)
        examples = examples.map(lambda *item: example(run_seed, *item), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batched = examples.batch(batch_size // share.count // parts, drop_remainder=True)
        return batched.map(mix) if mix else batched

    return streamed(batches, seed, data_service)


def streamed(batches: Callable[[int | tf.Tensor], tf.data.Dataset], seed: int, data_service: str) -> tf.data.Dataset:
    """`batches(seed)`, made ahead; or, by a `tf.data` service at the address `data_service`, those of a seed that each worker draws."""
    if not data_service:
        return unsharded(batches(seed))
    # Unseeded whatever TensorFlow's global seed: each of the service's workers must draw an order of its own.
    seeds = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.raw_ops.RandomUniformInt(shape=tf.zeros(0, tf.int32), minval=0, maxval=1 << 30)
    )
    served = seeds.flat_map(lambda drawn: batches(tf.cast(drawn, tf.int64)))
    off = tf.data.experimental.service.ShardingPolicy.OFF
    return served.apply(tf.data.experimental.service.distribute(off, data_service)).prefetch(tf.data.AUTOTUNE)


def unsharded(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Made ahead, and not shared out by TensorFlow, as every worker reads its share already."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def test_batches(
    split: IndexedSplit | ShardedSplit, *, classes: int, crop_size: int, batch_size: int, share: Share = WHOLE, parts: int = 1
) -> tf.data.Dataset:
    """Every image once, shorter side resized and centre cropped; the last batch is filled up with images of weight 0.

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


def test_steps(images: int, batch_size: int) -> int:
    """Batches of `test_batches` over all workers."""
    return -(-images // batch_size)


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
