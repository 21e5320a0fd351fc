"""Images to predict: all those of a folder, or the test images of a data set. Damaged ones are flagged, not fatal."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import checked, image_problem
from keras_widerresnet.data.sources.entries import IMAGE_ENDINGS, Entries, problem_of_file
from keras_widerresnet.data.split import ImageData, IndexedSplit, ShardedSplit
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import printable
from keras_widerresnet.tracing import without_autograph

PARALLEL = 32  # images that are read and prepared at the same time, at most


@dataclasses.dataclass(frozen=True)
class Listing:
    """Images in a fixed order.

    Args:
        name: the data set's name.
        split: the images; their raw bytes are not checked yet.
        max_pixels: see `images.checked`.
        class_names: names of the labels; empty if the images have none.
        problem_of_file: returns why the file of image `index` cannot be read, as a predicate; "" if it can be read, or there is none.
    """

    name: str
    split: IndexedSplit | ShardedSplit
    max_pixels: int
    class_names: tuple[str, ...] = ()
    problem_of_file: Callable[[int], str] = lambda index: ""

    @property
    def size(self) -> int:
        return self.split.size

    def name_of(self, index: int) -> str:
        return self.split.name_of(index)

    @without_autograph
    def prepared(
        self, first: int, prepare: Callable[[tf.Tensor], tuple[tf.Tensor, ...]], fill: tuple[tf.Tensor, ...] | None = None
    ) -> tf.data.Dataset:
        """Returns one element for each image from index `first` on, in order; several images are read and prepared at the same time.

        Args:
            prepare: graph function from a raw image to tensors.
            fill: the tensors for an image that cannot be read or prepared, of the same types and shapes; this takes 0.4 ms an image. None
                if such an image is to raise an error instead.

        Returns:
            Data set of (bool whether the image can be used, int32 label, *tensors). Reading it raises `tf.errors.DataLossError` if a
            TFRecord is damaged.
        """

        split = self.split
        if isinstance(split, IndexedSplit):
            read, labels = split.read, tf.constant(split.labels, tf.int32)
            examples = tf.data.Dataset.range(first, split.size).map(lambda index: (index, labels[index]))
        else:
            read, examples = tf.identity, split.ordered().skip(first)

        def plain(item, label):
            return (True, label, *prepare(checked(read(item), self.max_pixels)))

        def safe(item, label):
            # A graph cannot catch errors, but a data set can skip the elements that raise them: here its only one.
            usable = tf.data.Dataset.from_tensors(0).map(lambda _: plain(item, label))
            return usable.ignore_errors().concatenate(tf.data.Dataset.from_tensors((False, label, *(fill or ())))).take(1)

        if fill is None:
            return examples.map(plain, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return examples.interleave(safe, cycle_length=PARALLEL, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def problem_of(self, index: int) -> str:
        """Returns why image `index` cannot be used, as a predicate to follow its name; "" if no reason is found."""
        if problem := self.problem_of_file(index):
            return problem
        if isinstance(self.split, IndexedSplit):
            raw = self.split.read(tf.constant(index, tf.int64))
        else:
            raw, _ = next(iter(self.split.ordered().skip(index)))
        return image_problem(raw.numpy(), max_pixels=self.max_pixels)


def images_below(path: str, max_pixels: int) -> Listing:
    """Lists every JPEG and PNG file in a folder, at any depth, sorted by path; hidden files and those of other programs are skipped.

    Args:
        path: the folder; `~` is expanded.
        max_pixels: see `images.checked`.

    Raises:
        InputError: if there is no such folder, or no image in it.
    """
    root = pathlib.Path(os.path.expanduser(path))
    if not root.is_dir():
        raise InputError(f"No folder at {path!r}; folder: needs the path of a folder")
    entries = Entries()
    # Links and files that cannot be read are listed too: each image gets a row.
    files = sorted({*map(str, entries.files(root)), *entries.problems})
    entries.log(root)
    if not files:
        raise InputError(f"{path!r} contains no images ({', '.join(IMAGE_ENDINGS)})")
    names = [printable(os.path.relpath(file, root)) for file in files]
    paths = tf.constant([os.fsencode(file) for file in files])
    split = IndexedSplit(np.zeros(len(files), np.int32), lambda index: tf.io.read_file(paths[index]), names.__getitem__)
    return Listing(f"folder:{printable(root)}", split, max_pixels, problem_of_file=lambda index: problem_of_file(files[index]))


def test_images(data: ImageData, max_pixels: int) -> Listing:
    """Lists the test images of a data set, with their labels."""
    split = data.test
    if isinstance(split, ShardedSplit):
        split = dataclasses.replace(split, max_pixels=None)  # checked image by image instead
    return Listing(data.name, split, max_pixels, tuple(data.class_names))
