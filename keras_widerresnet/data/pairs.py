"""Segmentation data sets as the input pipeline sees them: pairs of image and mask, in the same endless order as in `split`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_widerresnet.data import masks
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.split import WHOLE, Share, shuffled_indices, without_parts
from keras_widerresnet.label_maps import LabelMap
from keras_widerresnet.tracing import without_autograph


@dataclasses.dataclass(frozen=True)
class SegmentationSplit:
    """Images and their masks, which can be read in any order.

    Args:
        names: each image's name in reports, and of the file of its prediction.
        read: graph function from an int64 index to a raw image (see `images`) and a raw mask: PNG bytes, or uint8 (H, W) of train ids.
        labels: the meaning of the masks' values.
        occurs: bool (images, classes), which classes each mask contains; None if the masks were not checked.
    """

    names: Sequence[str]
    read: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    labels: LabelMap
    occurs: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that no mask contains; empty if the masks were not checked."""
        if self.occurs is None:
            return ()
        return tuple(self.labels.class_names[k] for k in np.flatnonzero(self.occurs.sum(axis=0) == 0))

    def name_of(self, index: int) -> str:
        return self.names[index]

    def image(self, index: int) -> np.ndarray:
        """Returns one image, uint8 (H, W, 3)."""
        return decode_rgb(self.read(tf.constant(index, tf.int64))[0]).numpy()

    def mask(self, index: int) -> np.ndarray:
        """Returns one mask, uint8 (H, W) of train ids, 255 where ignored."""
        return self.decode_mask(self.read(tf.constant(index, tf.int64))[1]).numpy()

    def decode_mask(self, raw: tf.Tensor) -> tf.Tensor:
        """Decodes a raw mask to train ids, uint8 (H, W), 255 where ignored; a graph function."""
        return masks.decode_mask(raw, self.labels)

    def decode(self, raw_image: tf.Tensor, raw_mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Decodes a raw image and mask to uint8 (H, W, 3) and (H, W); a graph function.

        Raises:
            tf.errors.InvalidArgumentError: if one cannot be decoded, they differ in size, or the mask contains unknown values.
        """
        image, mask = decode_rgb(raw_image), self.decode_mask(raw_mask)
        same_size = tf.reduce_all(tf.shape(image)[:2] == tf.shape(mask))
        with tf.control_dependencies([tf.debugging.Assert(same_size, ["an image and its mask differ in size"])]):
            return tf.identity(image), mask

    def ordered(self) -> tf.data.Dataset:
        """Returns each example once: raw image, raw mask."""
        return self._examples(tf.data.Dataset.range(self.size))

    @without_autograph
    def shuffled(self, seed: int | tf.Tensor, *, batch_size: int, step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """Returns endless (position, raw image, raw mask) from a step on, in the order of `IndexedSplit.shuffled`."""
        positions = share.positions(step, batch_size)
        examples = self._examples(shuffled_indices(positions, self.size, seed))
        return tf.data.Dataset.zip(positions, examples).map(lambda position, example: (position, *example))

    def subset(self, indices: np.ndarray) -> SegmentationSplit:
        """Returns the split of the examples at the given indices, int64 (n,), in this order; the examples keep their names."""
        chosen = tf.constant(indices, tf.int64)
        occurs = None if self.occurs is None else self.occurs[indices]
        return SegmentationSplit([self.names[index] for index in indices], lambda index: self.read(chosen[index]), self.labels, occurs)

    @without_autograph
    def _examples(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        return indices.map(self.read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class SegmentationData:
    """A data set for segmentation.

    Args:
        name: the data set's name.
        labels: its classes, and the meaning of the masks' values.
        train, test: the training and the test split.
        find_unreadable: returns the files that cannot be used, and why (called when decoding fails during training).
        validation: the data set's own validation split, if it has one in addition; see `validation.with_validation`.
        part: returns the split of a given name; raises `InputError` if there is none.
    """

    name: str
    labels: LabelMap
    train: SegmentationSplit
    test: SegmentationSplit
    find_unreadable: Callable[[], dict[str, str]] = dict
    validation: SegmentationSplit | None = None
    part: Callable[[str], SegmentationSplit] = without_parts

    @property
    def classes(self) -> int:
        return self.labels.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labels.class_names
