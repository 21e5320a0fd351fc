"""What a data set is to the input pipeline of segmentation: images with a mask each, in the same endless order as those of `split`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_widerresnet.data import masks
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.split import WHOLE, Share, shuffled_indices, without_parts
from keras_widerresnet.label_maps import LabelMap


@dataclasses.dataclass(frozen=True)
class SegmentationSplit:
    """Images with their masks, that can be read in any order.

    Args:
        names: what to call each image in a report, and its prediction's file.
        read: graph function from an int64 index to a raw image (see `images`) and a raw mask: PNG bytes, or uint8 (H, W) of train ids.
        labels: what the masks' values mean.
        occurs: bool (images, classes), which classes are in each mask; None where nobody has looked.
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
        """The classes that are in no mask; none where nobody has looked."""
        if self.occurs is None:
            return ()
        return tuple(self.labels.class_names[k] for k in np.flatnonzero(self.occurs.sum(axis=0) == 0))

    def name_of(self, index: int) -> str:
        return self.names[index]

    def image(self, index: int) -> np.ndarray:
        """One image, uint8 (H, W, 3)."""
        return decode_rgb(self.read(tf.constant(index, tf.int64))[0]).numpy()

    def mask(self, index: int) -> np.ndarray:
        """One mask, uint8 (H, W) of train ids, 255 where ignored."""
        return self.decode_mask(self.read(tf.constant(index, tf.int64))[1]).numpy()

    def decode_mask(self, raw: tf.Tensor) -> tf.Tensor:
        """A raw mask to train ids, uint8 (H, W), 255 where ignored; a graph function."""
        return masks.decode_mask(raw, self.labels)

    def decode(self, raw_image: tf.Tensor, raw_mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Raw image and mask to uint8 (H, W, 3) and (H, W); a graph function.

        Raises:
            tf.errors.InvalidArgumentError: if one does not decode, they differ in size, or values in the mask are of no class.
        """
        image, mask = decode_rgb(raw_image), self.decode_mask(raw_mask)
        same_size = tf.reduce_all(tf.shape(image)[:2] == tf.shape(mask))
        with tf.control_dependencies([tf.debugging.Assert(same_size, ["an image and its mask differ in size"])]):
            return tf.identity(image), mask

    def ordered(self) -> tf.data.Dataset:
        """Each example once: raw image, raw mask."""
        return self._examples(tf.data.Dataset.range(self.size))

    def shuffled(self, seed: int | tf.Tensor, *, batch_size: int, step: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        """Endless (position, raw image, raw mask) from a step on, in the order of `IndexedSplit.shuffled`."""
        positions = share.positions(step, batch_size)
        examples = self._examples(shuffled_indices(positions, self.size, seed))
        return tf.data.Dataset.zip(positions, examples).map(lambda position, example: (position, *example))

    def subset(self, indices: np.ndarray) -> SegmentationSplit:
        """The examples at some indices, int64 (n,), in their order, under the names that they have here."""
        chosen = tf.constant(indices, tf.int64)
        occurs = None if self.occurs is None else self.occurs[indices]
        return SegmentationSplit([self.names[index] for index in indices], lambda index: self.read(chosen[index]), self.labels, occurs)

    def _examples(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        return indices.map(self.read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class SegmentationData:
    """A data set for segmentation.

    Args:
        name: what it is called.
        labels: its classes, and what the masks' values mean.
        train, test: its two splits.
        find_unreadable: the files that cannot be used, and why (for when decoding failed in the middle of training).
        validation: its own validation images, where it has some besides the two splits; see `validation.with_validation`.
        part: a split by its name in the data set; raises `InputError` where there is none of that name.
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
