"""Data sets as the input pipeline sees them: raw images that can be streamed from any step of an endless shuffled order.

The order is a function of (seed, position) alone, so a resumed run continues exactly where it stopped.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import checked, decode_rgb
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError
from keras_widerresnet.tracing import without_autograph

ENDLESS = np.iinfo(np.int64).max
READERS = 16
_FIFTH = 0.2


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of every batch that one of several workers reads."""

    index: int = 0
    count: int = 1

    def positions(self, step: int, batch_size: int) -> tf.data.Dataset:
        """Returns the endless positions, int64, from a step on: rows `index`/`count` to (`index` + 1)/`count` of each batch."""
        rows = batch_size // self.count
        local = tf.data.Dataset.range(step * rows, ENDLESS)
        return local.map(lambda q: q // rows * batch_size + self.index * rows + q % rows)


WHOLE = Share()


def shuffled_indices(positions: tf.data.Dataset, size: int, seed: int | tf.Tensor) -> tf.data.Dataset:
    """Maps positions to image indices, int64; every pass over the `size` images has a different order."""

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
        name_of: returns the name of image `index` for reports.
    """

    labels: np.ndarray
    read: Callable[[tf.Tensor], tf.Tensor]
    name_of: Callable[[int], str] = str

    @property
    def size(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> tf.Tensor:
        """Returns one image, uint8 (H, W, 3), for figures."""
        return decode_rgb(self.read(tf.constant(index, tf.int64)))

    def ordered(self) -> tf.data.Dataset:
        """Returns each example once: raw image, int32 label."""
        return self._examples(tf.data.Dataset.range(self.size))

    @without_autograph
    def shuffled(self, seed: int | tf.Tensor, *, batch_size: int, step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """Returns endless (position, raw image, label) from a step on; every pass over the data has a different order."""
        positions = share.positions(step, batch_size)
        examples = self._examples(shuffled_indices(positions, self.size, seed))
        return tf.data.Dataset.zip(positions, examples).map(lambda p, example: (p, *example))

    def subset(self, indices: np.ndarray) -> IndexedSplit:
        """Returns the split of the images at the given indices, int64 (n,), in this order; the images keep their names."""
        chosen = tf.constant(indices, tf.int64)

        def read(index):  # not a lambda: AutoGraph cannot distinguish two lambdas on one line
            return self.read(chosen[index])

        return IndexedSplit(self.labels[indices], read, lambda index: self.name_of(int(indices[index])))

    @without_autograph
    def _examples(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        labels = tf.constant(self.labels, tf.int32)
        return indices.map(lambda i: (self.read(i), labels[i]), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class ShardedSplit:
    """Images in TFRecord files, which are read sequentially: the files are shuffled, then their records in a buffer.

    Args:
        files: paths.
        lengths: number of the split's records in each file.
        parse: graph function from a serialised record to (raw image, int32 label).
        buffer: number of records in the shuffle buffer; they are kept encoded.
        name_of: returns the name of image `index` for reports.
        records: graph function from a path to the split's serialised records in that file.
        max_pixels: see `images.checked`; None to skip the check.
    """

    files: Sequence[str]
    lengths: Sequence[int]
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    buffer: int = 16384
    name_of: Callable[[int], str] = str
    records: Callable[[tf.Tensor], tf.data.Dataset] = tf.data.TFRecordDataset
    max_pixels: int | None = None

    @property
    def size(self) -> int:
        return sum(self.lengths)

    @property
    @without_autograph
    def labels(self) -> np.ndarray:
        """All labels, int32 (size,), in stored order; reads the whole split."""
        labels = self._stored().map(lambda record: self.parse(record)[1], num_parallel_calls=tf.data.AUTOTUNE)
        return np.fromiter(elements(labels), np.int32, self.size)

    def image(self, index: int) -> tf.Tensor:
        """Returns one image, uint8 (H, W, 3), for figures; reads through the preceding records of its file."""
        shard, number = _place(index, self.lengths)
        record = next(iter(self.records(tf.constant(self.files[shard])).skip(number)))
        return decode_rgb(self._example(record)[0])

    @without_autograph
    def ordered(self) -> tf.data.Dataset:
        """Returns each example once: raw image, int32 label."""
        return self._stored().map(self._example, num_parallel_calls=tf.data.AUTOTUNE)

    @without_autograph
    def unchecked(self, file: str) -> tf.data.Dataset:
        """Returns each raw image of one file, without any check of its bytes."""
        return self.records(tf.constant(file)).map(lambda record: self.parse(record)[0])

    @without_autograph
    def shuffled(self, seed: int | tf.Tensor, *, batch_size: int, step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """Returns endless (position, raw image, label) from a step on; earlier passes are not read, the step's own pass is skipped through.

        One of several workers reads only its own files.

        Raises:
            InputError: if there are fewer files than workers.
        """
        files, size = self.files[share.index :: share.count], sum(self.lengths[share.index :: share.count])
        if not size:
            raise InputError(f"{len(self.files)} shards are too few for {share.count} workers: write at least one shard per worker")

        def one_pass(number):
            tf.random.set_seed(1)  # for this graph only: without it, TensorFlow compares the seeds with (0, 0), which fails for a tensor
            order = tf.random.experimental.stateless_shuffle(tf.constant(files), seed=tf.stack([tf.cast(seed, tf.int64), number]))
            records = tf.data.Dataset.from_tensor_slices(order).interleave(
                self.records, cycle_length=min(READERS, len(files)), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
            return records.shuffle(self.buffer, seed=seed * 1_000_003 + number, reshuffle_each_iteration=False)

        start = step * (batch_size // share.count)
        records = tf.data.Dataset.range(start // size, ENDLESS).flat_map(one_pass).skip(start % size)
        examples = records.map(self._example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return tf.data.Dataset.zip(share.positions(step, batch_size), examples).map(lambda p, example: (p, *example))

    def spread(self, share: fractions.Fraction) -> tuple[ShardedSplit, ShardedSplit]:
        """Divides the records into two splits: the rest, and a share spread evenly over each file.

        The share contains ⌊n · `share`⌋ records of a file of n: record i belongs to it if ⌊(i + 1) · `share`⌋ > ⌊i · `share`⌋.
        """
        return self._part(share, is_share=False), self._part(share, is_share=True)

    def _part(self, share: fractions.Fraction, is_share: bool) -> ShardedSplit:
        def holds(index):
            numerator, denominator = share.numerator, share.denominator
            return ((index + 1) * numerator // denominator > index * numerator // denominator) == is_share

        def records(file):
            return self.records(file).enumerate().filter(lambda index, _: holds(index)).map(lambda _, record: record)

        in_files = [np.flatnonzero(holds(np.arange(length))) for length in self.lengths]
        starts = np.cumsum([0, *self.lengths[:-1]])
        stored = np.concatenate([indices + start for indices, start in zip(in_files, starts, strict=True)])
        used = [(file, len(indices)) for file, indices in zip(self.files, in_files, strict=True) if len(indices)]
        return dataclasses.replace(
            self,
            files=[file for file, _ in used],
            lengths=[length for _, length in used],
            records=records,
            name_of=lambda index: self.name_of(int(stored[index])),
        )

    def _example(self, record) -> tuple[tf.Tensor, tf.Tensor]:
        raw, label = self.parse(record)
        return (raw if self.max_pixels is None else checked(raw, self.max_pixels)), label

    def _stored(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(tf.constant(self.files, tf.string)).flat_map(self.records)


def record_names(files: Sequence[str], lengths: Sequence[int]) -> Callable[[int], str]:
    """Returns the function from a record's index in all TFRecord files to its name: file name and zero-based record number."""

    def name_of(index: int) -> str:
        shard, number = _place(index, lengths)
        return f"{os.path.basename(files[shard])}, record {number}"

    return name_of


def _place(index: int, lengths: Sequence[int]) -> tuple[int, int]:
    """Returns the index of a record's file, and the record's index within it."""
    ends = np.cumsum(lengths)
    shard = int(np.searchsorted(ends, index, side="right"))
    return shard, index - int(ends[shard]) + lengths[shard]


def without_parts(name: str) -> NoReturn:
    """The `part` of data sets without named parts: always raises `InputError`."""
    raise InputError(f"This data set has no named parts: give a share of the training images, auto or none. Received: {name!r}")


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set for classification.

    Args:
        name: the data set's name.
        class_names: class names in label order.
        train, test: the training and the test split.
        find_unreadable: returns the files that cannot be decoded, and why (called when decoding fails during training).
        validation: the data set's own validation split, if it has one in addition; see `validation.with_validation`.
        part: returns the split of a given name; raises `InputError` if there is none.
    """

    name: str
    class_names: Sequence[str]
    train: IndexedSplit | ShardedSplit
    test: IndexedSplit | ShardedSplit
    find_unreadable: Callable[[], dict[str, str]] = dict
    validation: IndexedSplit | ShardedSplit | None = None
    part: Callable[[str], IndexedSplit | ShardedSplit] = without_parts

    @property
    def classes(self) -> int:
        return len(self.class_names)


def held_out_fifth(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of a training and a test part for data sets without a test split: a fifth of every class, at least one image.

    Args:
        labels: int (images,), at least two images per class.
        seed: random seed of the split.
    """
    from sklearn.model_selection import train_test_split

    _, counts = np.unique(labels, return_counts=True)
    size = math.ceil(_FIFTH * len(labels))
    if min(size, len(labels) - size) >= len(counts):
        _, test = train_test_split(np.arange(len(labels)), test_size=_FIFTH, stratify=labels, random_state=seed)
    else:
        test = np.zeros(0, np.int64)  # scikit-learn raises an error if a part has fewer images than there are classes
    generator = np.random.default_rng(seed)
    for label in np.setdiff1d(labels, labels[test]):
        own = np.flatnonzero(labels == label)
        test = np.append(test, generator.choice(own, max(1, len(own) // 5), replace=False))
    return np.setdiff1d(np.arange(len(labels)), test), np.sort(test)
