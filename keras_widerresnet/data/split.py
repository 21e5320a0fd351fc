"""What a data set is to the input pipeline: raw images that can be streamed from any step of an endless shuffled order.

The order is a function of (seed, position) alone, so a resumed run reads on exactly where it stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.errors import InputError

ENDLESS = np.iinfo(np.int64).max
READERS = 16


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of every batch that one worker of several reads."""

    index: int = 0
    count: int = 1

    def positions(self, step: int, batch_size: int) -> tf.data.Dataset:
        """Endless positions in the run's order, int64, from the step on: rows `index`/`count` to (`index` + 1)/`count` of each batch."""
        rows = batch_size // self.count
        local = tf.data.Dataset.range(step * rows, ENDLESS)
        return local.map(lambda q: q // rows * batch_size + self.index * rows + q % rows)


WHOLE = Share()


def shuffled_indices(positions: tf.data.Dataset, size: int, seed: int | tf.Tensor) -> tf.data.Dataset:
    """The index, int64, of the image at each position; each pass over the `size` images is in an order of its own."""

    def index_at(position):
        shuffle_seed = tf.stack([tf.cast(seed, tf.int64), position // size])
        return tf.random.experimental.index_shuffle(position % size, tf.cast(shuffle_seed, tf.uint32), size - 1)

    return positions.map(index_at)


@dataclasses.dataclass(frozen=True)
class IndexedSplit:
    """Images that can be read in any order.

    Args:
        labels: int32 array (size,).
        read: graph function from an int64 index to one raw image, see `images`.
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
        return decode_rgb(self.read(tf.constant(index, tf.int64)))

    def ordered(self) -> tf.data.Dataset:
        """Each example once: raw image, int32 label."""
        return self._examples(tf.data.Dataset.range(self.size))

    def shuffled(self, seed: int | tf.Tensor, *, batch_size: int, step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """Endless (position, raw image, label) from a step on, each pass over the data in an order of its own."""
        positions = share.positions(step, batch_size)
        examples = self._examples(shuffled_indices(positions, self.size, seed))
        return tf.data.Dataset.zip(positions, examples).map(lambda p, example: (p, *example))

    def _examples(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        labels = tf.constant(self.labels, tf.int32)
        return indices.map(lambda i: (self.read(i), labels[i]), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class ShardedSplit:
    """Images in TFRecord files, which can only be read one after the other: the files are shuffled, then their records through a buffer.

    Args:
        files: paths.
        lengths: number of records in each.
        parse: graph function from a serialised record to (raw image, int32 label).
        buffer: records in the shuffle buffer; they are held encoded.
    """

    files: Sequence[str]
    lengths: Sequence[int]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    buffer: int = 16384
    name_of: Callable[[int], str] = str

    @property
    def size(self) -> int:
        return sum(self.lengths)

    @property
    def labels(self) -> np.ndarray:
        """Int32 array (size,) in stored order; reads the whole split."""
        labels = tf.data.TFRecordDataset(self.files).map(lambda record: self.parse(record)[1], num_parallel_calls=tf.data.AUTOTUNE)
        return np.fromiter(labels.as_numpy_iterator(), np.int32, self.size)

    def image(self, index: int) -> tf.Tensor:
        """One uint8 image (H, W, 3), for pictures; skips through the records before it."""
        record = next(iter(tf.data.TFRecordDataset(self.files).skip(index)))
        return decode_rgb(self.parse(record)[0])

    def ordered(self) -> tf.data.Dataset:
        """Each example once: raw image, int32 label."""
        return tf.data.TFRecordDataset(self.files).map(self.parse, num_parallel_calls=tf.data.AUTOTUNE)

    def shuffled(self, seed: int | tf.Tensor, *, batch_size: int, step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """Endless (position, raw image, label) from a step on; passes before it are not read, its own is skipped through.

        A worker of several reads its own files only.

        Raises:
            InputError: if there are fewer files than workers.
        """
        files, size = self.files[share.index :: share.count], sum(self.lengths[share.index :: share.count])
        if not size:
            raise InputError(f"{len(self.files)} shards cannot be shared out among {share.count} workers: write more shards")

        def one_pass(number):
            tf.random.set_seed(1)  # of this graph alone: TensorFlow compares the pair of seeds with (0, 0), which a tensor cannot be
            order = tf.random.experimental.stateless_shuffle(tf.constant(files), seed=tf.stack([tf.cast(seed, tf.int64), number]))
            records = tf.data.Dataset.from_tensor_slices(order).interleave(
                tf.data.TFRecordDataset, cycle_length=min(READERS, len(files)), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
            return records.shuffle(self.buffer, seed=seed * 1_000_003 + number, reshuffle_each_iteration=False)

        start = step * (batch_size // share.count)
        records = tf.data.Dataset.range(start // size, ENDLESS).flat_map(one_pass).skip(start % size)
        examples = records.map(self.parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return tf.data.Dataset.zip(share.positions(step, batch_size), examples).map(lambda p, example: (p, *example))


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set for classification: what it is called, its classes in the order of the labels, and its two splits.

    `find_unreadable` gives the files that cannot be decoded, and why (for when decoding failed in the middle of training).
    """

    name: str
    class_names: Sequence[str]
    train: IndexedSplit | ShardedSplit
    test: IndexedSplit | ShardedSplit
    find_unreadable: Callable[[], dict[str, str]] = dict

    @property
    def classes(self) -> int:
        return len(self.class_names)


def held_out_fifth(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a training and a test part, a fifth of every class, drawn by `seed` (for sets without a test split)."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    return np.sort(train), np.sort(test)
