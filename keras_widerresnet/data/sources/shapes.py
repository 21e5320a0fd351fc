"""A small generated data set with exact masks: textured shapes on crops of scikit-learn's two photographs (our own design)."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.pairs import SegmentationData, SegmentationSplit
from keras_widerresnet.label_maps import LabelMap, numbered

SIZE = 96
TRAIN_IMAGES, TEST_IMAGES = 320, 48
CLASS_NAMES = ("background", "disc", "square", "triangle", "ring")
COUNTS = (1, 3)  # minimum and maximum number of shapes in an image
RADII = (20, 28)  # half the height and width of a shape, in pixels
# Each class has its own mean colour; shapes differ from it by at most the spread in each channel.
COLORS = ((40, 90, 220), (230, 190, 30), (200, 40, 160), (30, 200, 190))
COLOR_SPREAD = 35
STRIPE = 30  # strength of the stripes over a shape


def shapes(seed: int = 0) -> SegmentationData:
    """Generates images of 96 x 96 pixels with one to three discs, squares, triangles or rings, 40 to 56 pixels wide.

    Later shapes cover earlier ones. There are 320 training images and 48 test images on different crops, the same for the same seed.
    """
    labels = numbered("shapes", CLASS_NAMES)
    train, test = _split(seed, "train", TRAIN_IMAGES, labels), _split(seed, "test", TEST_IMAGES, labels)
    return SegmentationData("shapes", labels, train, test)


def example(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Generates one image, uint8 (96, 96, 3), and its mask, uint8 (96, 96)."""
    photograph = _photographs()[generator.integers(2)]
    top, left = (generator.integers(side - SIZE + 1) for side in photograph.shape[:2])
    image = photograph[top : top + SIZE, left : left + SIZE].astype(np.float32)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(generator.integers(COUNTS[0], COUNTS[1] + 1)):
        label = int(generator.integers(1, len(CLASS_NAMES)))
        inside = _outline(CLASS_NAMES[label], generator)
        image[inside] = _texture(COLORS[label - 1], generator)[inside]
        mask[inside] = label
    return np.clip(np.round(image), 0, 255).astype(np.uint8), mask


def _outline(name: str, generator: np.random.Generator) -> np.ndarray:
    radius = generator.uniform(*RADII)
    y, x = np.mgrid[:SIZE, :SIZE] - generator.uniform(radius, SIZE - radius, (2, 1, 1))
    distance = np.hypot(y, x)
    if name == "disc":
        return distance <= radius
    if name == "ring":
        return (distance <= radius) & (distance >= radius / 2)
    if name == "square":
        return np.maximum(np.abs(y), np.abs(x)) <= radius
    return (np.abs(y) <= radius) & (2 * np.abs(x) <= y + radius)  # a triangle on its base


def _texture(color, generator: np.random.Generator) -> np.ndarray:
    base = np.asarray(color) + generator.uniform(-COLOR_SPREAD, COLOR_SPREAD, 3)
    direction, period = generator.uniform(0, np.pi), generator.uniform(4, 10)
    y, x = np.mgrid[:SIZE, :SIZE]
    stripes = np.sin(2 * np.pi / period * (x * np.cos(direction) + y * np.sin(direction)))
    return base + STRIPE * stripes[..., None] + generator.normal(0, 8, (SIZE, SIZE, 3))


def _split(seed: int, part: str, count: int, labels: LabelMap) -> SegmentationSplit:
    generator = np.random.default_rng((seed, part == "test"))
    images, masks = (tf.constant(np.stack(arrays)) for arrays in zip(*(example(generator) for _ in range(count)), strict=True))
    return SegmentationSplit([f"{part}_{k:03d}" for k in range(count)], lambda index: (images[index], masks[index]), labels)


@functools.cache
def _photographs() -> tuple[np.ndarray, ...]:
    from sklearn.datasets import load_sample_images

    return tuple(load_sample_images().images)
