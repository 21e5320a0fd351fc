"""What a data set is to the input pipeline: images that can be streamed from any position of an endless shuffled order.

The order is a function of (seed, position) alone, so a resumed run reads on exactly where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class IndexedSplit:
    """Images that can be read in any order.

    Args:
        labels: int32 array (size,).
        read: graph function from an int64 index to one uint8 RGB image (H, W, 3).
        name_of: what to call image `index` in a report.
    """

    labels: np.ndarray
    read: Callable[[tf.Tensor], tf.Tensor]
    name_of: Callable[[int], str] = str

    @property
    def size(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> tf.Tensor:
        """One uint8 image (H, W, 3), for pictures."""
        return self.read(tf.constant(index, tf.int64))

    def ordered(self) -> tf.data.Dataset:
        """Each example once: uint8 image (H, W, 3), int32 label."""
        return self._examples(tf.data.Dataset.range(self.size))

    def shuffled(self, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless (position, image, label) from position `start`, each pass over the data in an order of its own."""

        def index_at(position):
            shuffle_seed = tf.stack([tf.cast(seed, tf.int64), position // self.size])
            return tf.random.experimental.index_shuffle(position % self.size, tf.cast(shuffle_seed, tf.uint32), self.size - 1)

        positions = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
        return tf.data.Dataset.zip(positions, self._examples(positions.map(index_at))).map(lambda p, example: (p, *example))

    def _examples(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        labels = tf.constant(self.labels, tf.int32)
        return indices.map(lambda i: (self.read(i), labels[i]), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class StreamSplit:
    """Images that can only be read one after the other, shuffled through a buffer.

    Args:
        size: number of examples.
        stream: makes a data set of (encoded example, label) in stored order.
        decode: from an encoded example to a uint8 RGB image (H, W, 3).
        buffer: examples in the shuffle buffer; they are held encoded.
    """

    size: int
    stream: Callable[[], tf.data.Dataset]
    decode: Callable[[tf.Tensor], tf.Tensor]
    buffer: int = 16384
    name_of: Callable[[int], str] = str

    @property
    def labels(self) -> np.ndarray:
        """Int32 array (size,) in stored order; reads the whole split."""
        return np.fromiter((label for _, label in self.stream().as_numpy_iterator()), np.int32, self.size)

    def image(self, index: int) -> tf.Tensor:
        """One uint8 image (H, W, 3), for pictures; skips through the encoded images before it."""
        encoded, _ = next(iter(self.stream().skip(index)))
        return self.decode(encoded)

    def ordered(self) -> tf.data.Dataset:
        """Each example once: uint8 image (H, W, 3), int32 label."""
        return self.stream().map(lambda encoded, label: (self.decode(encoded), label), num_parallel_calls=tf.data.AUTOTUNE)

    def shuffled(self, seed: int, start: int = 0) -> tf.data.Dataset:
        """Endless (position, image, label) from position `start`; passes before it are not read, its own is skipped through."""
        passes = tf.data.Dataset.range(start // self.size, np.iinfo(np.int64).max)
        encoded = passes.flat_map(lambda p: self.stream().shuffle(self.buffer, seed=seed * 1_000_003 + p, reshuffle_each_iteration=False))
        first = start - start % self.size
        positions = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
        return (
            tf.data.Dataset.zip(positions, encoded)
            .skip(start - first)
            .map(lambda p, example: (p, self.decode(example[0]), example[1]), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        )


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set for classification: what it is called, its classes in the order of the labels, and its two splits.

    `find_unreadable` gives the files that cannot be decoded, and why (for when decoding failed in the middle of training).
    """

    name: str
    class_names: Sequence[str]
    train: IndexedSplit | StreamSplit
    test: IndexedSplit | StreamSplit
    find_unreadable: Callable[[], dict[str, str]] = dict

    @property
    def classes(self) -> int:
        return len(self.class_names)


def held_out_fifth(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a training and a test part, a fifth of every class, drawn by `seed` (for sets without a test split)."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    return np.sort(train), np.sort(test)
