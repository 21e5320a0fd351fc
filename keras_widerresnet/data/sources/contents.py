"""Reading of the files of a split, from the disk or from memory."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_widerresnet.data.images import checked
from keras_widerresnet.data.mat import MAT_SUFFIX, is_mat
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import printable

CACHE_BYTES = 256 << 20

Files = Sequence[str] | Sequence[pathlib.Path]
Reader = Callable[[tf.Tensor], tf.Tensor]


def readers(*lists: Files, cache_bytes: int, max_pixels: int) -> list[Reader]:
    """Returns, for each list of files, the graph function from an index to that file's raw image, checked as by `images.checked`.

    Args:
        lists: the files of a split, e.g. its images and its masks.
        cache_bytes: files of at most this total size are read at once and kept in memory, encoded.
        max_pixels: see `images.checked`.

    Raises:
        InputError: if a file cannot be read; the message names it.
    """
    try:
        is_small = sum(os.path.getsize(file) for files in lists for file in files) <= cache_bytes
        return [(_from_memory if is_small else from_disk)(files, max_pixels) for files in lists]
    except OSError as error:
        raise InputError(f"'{printable(error.filename)}' cannot be read: {error.strerror}") from None


def from_disk(files: Files, max_pixels: int) -> Reader:
    """Returns the same function for one list, whose files are read whenever they are needed."""
    paths = tf.constant([os.fsencode(file) for file in files])
    return _checked(lambda index: tf.io.read_file(paths[index]), files, max_pixels)


def _from_memory(files: Files, max_pixels: int) -> Reader:
    encoded = tf.constant([pathlib.Path(file).read_bytes() for file in files])
    return _checked(lambda index: encoded[index], files, max_pixels)


def _checked(read: Reader, files: Files, max_pixels: int) -> Reader:
    """Returns the same function with a check of the image's size; MATLAB files do not state it where it can be read."""
    if not any(os.fspath(file).endswith(MAT_SUFFIX) for file in files):
        return lambda index: checked(read(index), max_pixels)

    def read_checked(index):
        raw = read(index)
        return tf.cond(is_mat(raw), lambda: raw, lambda: checked(raw, max_pixels))

    return read_checked
