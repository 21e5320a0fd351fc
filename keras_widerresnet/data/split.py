"""What a data set is to the input pipeline: raw images that can be streamed from any step of an endless shuffled order.

The order is a function of (seed, position) alone, so a resumed run reads on exactly where it stopped.
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
from keras_widerresnet.errors import InputError

ENDLESS = np.iinfo(np.int64).max
READERS = 16
_FIFTH = 0.2


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

    def subset(self, indices: np.ndarray) -> IndexedSplit:
        """The images at some indices, int64 (n,), in their order, under the names that they have here."""
        chosen = tf.constant(indices, tf.int64)

        def read(index):  # no lambda: AutoGraph cannot tell two in one line apart
            return self.read(chosen[index])

        return IndexedSplit(self.labels[indices], read, lambda index: self.name_of(int(indices[index])))

    def _examples(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        labels = tf.constant(self.labels, tf.int32)
        return indices.map(lambda i: (self.read(i), labels[i]), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class ShardedSplit:
    """Images in TFRecord files, which can only be read one after the other: the files are shuffled, then their records through a buffer.

    Args:
        files: paths.
        lengths: number of the split's records in each.
        parse: graph function from a serialised record to (raw image, int32 label).
        buffer: records in the shuffle buffer; they are held encoded.
        name_of: what to call image `index` in a report.
        records: graph function from a path to the split's serialised records in that file.
        max_pixels: see `images.checked`; None where images are not to be checked.
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
    def labels(self) -> np.ndarray:
        """Int32 array (size,) in stored order; reads the whole split."""
        labels = self._stored().map(lambda record: self.parse(record)[1], num_parallel_calls=tf.data.AUTOTUNE)
        return np.fromiter(labels.as_numpy_iterator(), np.int32, self.size)

    def image(self, index: int) -> tf.Tensor:
        """One uint8 image (H, W, 3), for pictures; skips through the records before it in its own file."""
        shard, number = _place(index, self.lengths)
        record = next(iter(self.records(tf.constant(self.files[shard])).skip(number)))
        return decode_rgb(self._example(record)[0])

    def ordered(self) -> tf.data.Dataset:
        """Each example once: raw image, int32 label."""
        return self._stored().map(self._example, num_parallel_calls=tf.data.AUTOTUNE)

    def unchecked(self, file: str) -> tf.data.Dataset:
        """Each raw image of one of the files, whatever its bytes are."""
        return self.records(tf.constant(file)).map(lambda record: self.parse(record)[0])

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
                self.records, cycle_length=min(READERS, len(files)), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
            )
            return records.shuffle(self.buffer, seed=seed * 1_000_003 + number, reshuffle_each_iteration=False)

        start = step * (batch_size // share.count)
        records = tf.data.Dataset.range(start // size, ENDLESS).flat_map(one_pass).skip(start % size)
        examples = records.map(self._example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return tf.data.Dataset.zip(share.positions(step, batch_size), examples).map(lambda p, example: (p, *example))

    def spread(self, share: fractions.Fraction) -> tuple[ShardedSplit, ShardedSplit]:
        """Two splits: all records but a share of them, spread evenly over each file, and that share.

        Of a file of n records the share has ⌊n · `share`⌋: record i is in it if ⌊(i + 1) · `share`⌋ > ⌊i · `share`⌋.
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
    """What to call a record of TFRecord files, by its index among all: its file, and its number there from 0 on."""

    def name_of(index: int) -> str:
        shard, number = _place(index, lengths)
        return f"{os.path.basename(files[shard])}, record {number}"

    return name_of


def _place(index: int, lengths: Sequence[int]) -> tuple[int, int]:
    """The file in which a record lies, and its number there."""
    ends = np.cumsum(lengths)
    shard = int(np.searchsorted(ends, index, side="right"))
    return shard, index - int(ends[shard]) + lengths[shard]


def without_parts(name: str) -> NoReturn:
    """The `part` of data sets whose images are not in parts with names: always an `InputError`."""
    raise InputError(f"This data set has no parts by name: give a share of the training images, auto or none. Received: {name!r}")


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set for classification.

    Args:
        name: what it is called.
        class_names: in the order of the labels.
        train, test: its two splits.
        find_unreadable: the files that cannot be decoded, and why (for when decoding failed in the middle of training).
        validation: its own validation images, where it has some besides the two splits; see `validation.with_validation`.
        part: a split by its name in the data set; raises `InputError` where there is none of that name.
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
    """Indices of a training and a test part, a fifth of every class and one image at least, for sets without a test split.

    Args:
        labels: int (images,), two images or more of each class.
        seed: draws the part.
    """
    from sklearn.model_selection import train_test_split

    _, counts = np.unique(labels, return_counts=True)
    size = math.ceil(_FIFTH * len(labels))
    if min(size, len(labels) - size) >= len(counts):
        _, test = train_test_split(np.arange(len(labels)), test_size=_FIFTH, stratify=labels, random_state=seed)
    else:
        test = np.zeros(0, np.int64)  # fewer images than classes: scikit-learn would refuse
    generator = np.random.default_rng(seed)
    for label in np.setdiff1d(labels, labels[test]):
        own = np.flatnonzero(labels == label)
        test = np.append(test, generator.choice(own, max(1, len(own) // 5), replace=False))
    return np.setdiff1d(np.arange(len(labels)), test), np.sort(test)
