"""Speed of the input pipeline: the release's full augmentation compared with decoding alone and with the same steps in PIL."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_widerresnet.data import augment, images
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.tasks.classification import batches
from keras_widerresnet.tasks.classification.config import Augmentation

SIZE = 224
WARM_UP = 50


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
    for _ in range(WARM_UP):
        next(stream)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(stream)
        count += 1
    return count / (time.perf_counter() - begin)


def _stream(encoded: list[bytes], function: Callable) -> Iterator:
    """Yields images on one thread without prefetching, as in PIL's loop."""
    stored = tf.constant(encoded)
    positions = tf.data.Dataset.range(1 << 40)
    dataset = positions.map(lambda position: function(stored[position % len(encoded)], tf.stack([tf.constant(0, tf.int64), position])))
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    return iter(dataset.with_options(options))


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
