"""Speed of the input pipeline: the release's full augmentation compared with decoding alone and with the same steps in PIL, and the modern
augmentation by Keras' layers compared with keras-cv's."""

from __future__ import annotations

import functools
import importlib.util
import io
import logging
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_widerresnet.data import augment, images
from keras_widerresnet.data.keras_layers import Mix
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.tasks.classification import batches
from keras_widerresnet.tasks.classification.config import KERAS, KERAS_CV, Augmentation

SIZE = 224
CLASSES = 1000
BATCH = 32  # where batches are mixed
WARM_UP = 200  # images, of which each operation of RandAugment compiles at its first
MODERN = {"rand_augment": 2, "color_jitter": 0.0, "lighting": 0.0}
MIXED = {"mixup": 0.2, "cutmix": 1.0}


def input_speeds(encoded: list[bytes], repeats: int = 3, seconds: float = 5.0) -> list[dict[str, object]]:
    """Measures the throughput on one thread of several pipelines that read the same JPEG files.

    Args:
        encoded: contents of JPEG files.
        repeats: number of rounds; each round runs every pipeline once, so that noise affects all alike.
        seconds: duration of each measurement.

    Returns:
        For each pipeline its `name`, the median `images_per_second`, and `share_of_decoding`, the ratio to decoding alone.
    """
    ways = {
        "decoding alone (tf.io.decode_jpeg)": lambda: _stream(encoded, _decoded),
        "ours: crop, resize, jitter, lighting, flip, normalise": lambda: _stream(encoded, _ours()),
        "ours: crop, resize": lambda: _stream(encoded, lambda raw, seed: batches.training_crop(raw, SIZE, "random_sized", seed)),
        "ours: crop (decoded no further)": lambda: _stream(encoded, _window),
        "PIL and NumPy: the same steps": lambda: _pil_stream(encoded, _pil),
        **_modern_ways(encoded),
    }
    speeds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            speeds[name].append(_speed(way(), seconds))
    decoding = np.median(next(iter(speeds.values())))
    return [
        {"name": name, "images_per_second": float(np.median(found)), "share_of_decoding": float(np.median(found) / decoding)}
        for name, found in speeds.items()
    ]


def _speed(stream: Iterator, seconds: float) -> float:
    """Returns the images per second of a stream of images or of (images, labels)."""
    warm = 0
    while warm < WARM_UP:
        warm += _images_in(next(stream))
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        count += _images_in(next(stream))
    return count / (time.perf_counter() - begin)


def _images_in(element: object) -> int:
    return len(element[0]) if isinstance(element, tuple) else 1


def _modern_ways(encoded: list[bytes]) -> dict[str, Callable[[], Iterator]]:
    """Returns the modern recipe's steps, by Keras' layers and, if it is installed, by keras-cv's."""
    libraries = {"Keras": KERAS, "keras-cv": KERAS_CV}
    if importlib.util.find_spec("keras_cv") is None:
        logging.getLogger("keras_widerresnet").warning("keras-cv is skipped: it is not installed")
        libraries.pop("keras-cv")
    ways = {}
    for mixing, alphas in (("", {}), (" and MixUp or CutMix", MIXED)):
        for name, library in libraries.items():
            augmentation = Augmentation(augmentations=library, **MODERN, **alphas)
            ways[f"{name}: crop, resize, RandAugment, flip, normalise{mixing}"] = functools.partial(_modern, encoded, augmentation)
    return ways


def _modern(encoded: list[bytes], augmentation: Augmentation) -> Iterator:
    steps, finishing = batches.image_steps(augmentation, 0), batches.finish(augmentation)

    def image(raw, seed):
        changed = batches.training_crop(raw, SIZE, "random_sized", seed)
        for step in steps:
            changed = step(changed, seed)
        return finishing(changed, seed)

    return _stream(encoded, image, batches.batch_step(augmentation, 0))


def _stream(encoded: list[bytes], function: Callable, mix: Mix | None = None) -> Iterator:
    """Yields images, or mixed batches, on one thread without prefetching, as in PIL's loop."""
    stored = tf.constant(encoded)
    positions = tf.data.Dataset.range(1 << 40)
    dataset = positions.map(lambda position: function(stored[position % len(encoded)], _seed(position)))
    if mix:
        batched = tf.data.Dataset.zip(positions, dataset).batch(BATCH, drop_remainder=True)
        dataset = batched.map(lambda numbers, images: mix(images, tf.one_hot(numbers % CLASSES, CLASSES), _seed(numbers[0])))
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    return iter(dataset.with_options(options))


def _seed(position: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(0, tf.int64), position])


def _decoded(raw, seed):
    return tf.io.decode_jpeg(raw, channels=3, dct_method=images.DCT_METHOD)


def _window(raw, seed):
    draws = augment.uniform([augment.CROP_TRIES, 5], seed, "crop")
    return images.decode_window(raw, lambda size: augment.random_sized_window(size, draws))


def _ours() -> Callable:
    finishing = batches.finish(Augmentation())
    return lambda raw, seed: finishing(batches.training_crop(raw, SIZE, "random_sized", seed), seed)


def _pil_stream(encoded: list[bytes], function: Callable) -> Iterator:
    from PIL import Image

    generator = np.random.default_rng(0)
    while True:
        for raw in encoded:
            with Image.open(io.BytesIO(raw)) as opened:
                yield function(opened.convert("RGB"), generator)


def _pil(image, generator) -> np.ndarray:
    """Applies the release's augmentation with PIL and a few NumPy operations."""
    from PIL import Image, ImageEnhance

    left, top, columns, rows = _pil_window(image.size, generator)
    image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + columns, top + rows))
    for index in generator.permutation(3):
        enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[index]
        image = enhancer(image).enhance(generator.uniform(0.6, 1.4))
    if generator.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    noise = generator.normal(0, 0.1, 3).astype(np.float32) * np.float32(augment.EIGENVALUES)
    values = np.asarray(image, np.float32) / 255 + np.float32(augment.EIGENVECTORS) @ noise
    return (np.clip(values, 0, 1) - np.float32(MEAN)) / np.float32(STD)


def _pil_window(size: tuple[int, int], generator) -> tuple[int, int, int, int]:
    """Returns left, top, width and height; in plain Python, as eager TensorFlow would slow PIL down."""
    width, height = size
    for _ in range(augment.CROP_TRIES):
        area = width * height * generator.uniform(*augment.AREA_RANGE)
        aspect = generator.uniform(*augment.ASPECT_RANGE)
        sides = [round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)]
        columns, rows = sides if generator.random() < 0.5 else sides[::-1]
        if columns <= width and rows <= height:
            return int(generator.integers(width - columns + 1)), int(generator.integers(height - rows + 1)), columns, rows
    side = min(size)
    return (width - side) // 2, (height - side) // 2, side, side
