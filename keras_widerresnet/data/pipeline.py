"""From a split to batches: crop, flip, normalise. Every draw is a function of (seed, position)."""

from __future__ import annotations

import tensorflow as tf

from keras_widerresnet.data.split import IndexedSplit, StreamSplit
from keras_widerresnet.errors import InputError
from keras_widerresnet.preprocessing import MEAN, STD

_METHODS = {"bicubic": "bicubic", "lanczos": "lanczos3", "bilinear": "bilinear"}
INTERPOLATIONS = (*_METHODS, "auto")
CROPS = ("center", "padded", "random_sized")
PADDING_FRACTION = 8
AREA_RANGE = (0.08, 1.0)
ASPECT_RANGE = (3 / 4, 4 / 3)
CROP_TRIES = 10
FLIP_STREAM = 1 << 32  # keeps the flip's draws apart from the crop's


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
    target = tf.maximum(size, (2 * size * shape + shorter) // (2 * shorter))  # halves round up
    if interpolation != "auto":
        return _resized(image, target, interpolation)
    return tf.cond(shorter > size, lambda: _resized(image, target, "lanczos"), lambda: _resized(image, target, "bicubic"))


def center_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """The middle `size` x `size` pixels, the offset rounded up (official release)."""
    top, left = tf.unstack((tf.shape(image)[:2] - size + 1) // 2)
    return _crop(image, top, left, size, size)


def test_view(image: tf.Tensor, size: int, interpolation: str = "bicubic") -> tf.Tensor:
    """What the network sees in testing: the shorter side resized to `size`, then the centre crop; float32 (size, size, 3), 0..255."""
    return center_crop(resize_shorter_side(image, size, interpolation), size)


def padded_crop(image: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """The shorter side resized to `size`, an eighth of `size` mirrored on every side, then a random crop (usual for CIFAR: 4 of 32)."""
    image = resize_shorter_side(image, size)
    padding = size // PADDING_FRACTION
    image = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]], mode="REFLECT")
    room = tf.shape(image)[:2] - size + 1
    top, left = tf.unstack(tf.cast(tf.random.stateless_uniform([2], seed) * tf.cast(room, tf.float32), tf.int32))
    return _crop(image, top, left, size, size)


def random_sized_crop(image: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """A crop of 8-100 % of the area and aspect 3/4-4/3, resized to `size`; after ten tries the centre crop (official release)."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    draws = tf.random.stateless_uniform([CROP_TRIES, 5], seed)
    area = height * width * (AREA_RANGE[0] + draws[:, 0] * (AREA_RANGE[1] - AREA_RANGE[0]))
    aspect = ASPECT_RANGE[0] + draws[:, 1] * (ASPECT_RANGE[1] - ASPECT_RANGE[0])
    sides = tf.round(tf.stack([tf.sqrt(area / aspect), tf.sqrt(area * aspect)], axis=1))
    sides = tf.where(draws[:, 2:3] < 0.5, sides, sides[:, ::-1])
    fits = tf.reduce_all(sides <= [height, width], axis=1)

    def crop():
        first = tf.argmax(fits)
        crop_height, crop_width = tf.unstack(tf.cast(sides[first], tf.int32))
        room = tf.shape(image)[:2] - [crop_height, crop_width] + 1
        top, left = tf.unstack(tf.cast(draws[first, 3:5] * tf.cast(room, tf.float32), tf.int32))
        return _resampled(image[top : top + crop_height, left : left + crop_width], [size, size], "bicubic")

    cropped = tf.cond(tf.reduce_any(fits), crop, lambda: test_view(image, size))
    return tf.ensure_shape(cropped, [size, size, 3])


def random_flip(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The image, mirrored left to right half the time."""
    return tf.cond(tf.random.stateless_uniform([], seed) < 0.5, lambda: image, lambda: image[:, ::-1])


def train_batches(
    split: IndexedSplit | StreamSplit, *, crop_size: int, batch_size: int, crop: str, flip: bool, seed: int, start_step: int = 0
) -> tf.data.Dataset:
    """Endless training batches from step `start_step` on.

    Args:
        crop: `"center"`, `"padded"` (`padded_crop`) or `"random_sized"` (`random_sized_crop`).
        flip: mirror half the images.

    Returns:
        Data set of (float32 images (batch, S, S, 3) as the networks take them, int32 labels (batch,)).

    Raises:
        InputError: for an unknown crop.
    """
    crops = {
        "center": lambda image, _: test_view(image, crop_size),
        "padded": lambda image, draw: padded_crop(image, crop_size, draw),
        "random_sized": lambda image, draw: random_sized_crop(image, crop_size, draw),
    }
    if crop not in crops:
        raise InputError(f"`crop` must be one of {CROPS}. Received: {crop!r}")

    def example(position, image, label):
        image = crops[crop](image, tf.stack([tf.cast(seed, tf.int64), position]))
        if flip:
            image = random_flip(image, tf.stack([tf.cast(seed + FLIP_STREAM, tf.int64), position]))
        return normalise(image), label

    examples = split.shuffled(seed, start_step * batch_size)
    batches = examples.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(batch_size, drop_remainder=True)
    return batches.with_options(_options()).prefetch(tf.data.AUTOTUNE)


def test_batches(split: IndexedSplit | StreamSplit, *, crop_size: int, batch_size: int) -> tf.data.Dataset:
    """Every image once, shorter side resized and centre cropped: (float32 images (batch, S, S, 3), int32 labels (batch,))."""
    examples = split.ordered().map(
        lambda image, label: (normalise(test_view(image, crop_size)), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return examples.batch(batch_size).with_options(_options()).prefetch(tf.data.AUTOTUNE)


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


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
