"""Images that cannot be read, named."""

from __future__ import annotations

import tensorflow as tf

from keras_widerresnet.data.pairs import SegmentationData
from keras_widerresnet.data.split import ImageData
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import printable

SHOWN = 5
UNREADABLE = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.DataLossError, tf.errors.PermissionDeniedError)


def cannot_be_read(data: ImageData | SegmentationData, error: tf.errors.OpError) -> InputError:
    """What to raise where reading a data set's images failed: it names the files."""
    _, shown = unreadable_files(data)
    return InputError(f"Images of {data.name!r} cannot be read: {shown or error.message.splitlines()[0]}")


def unreadable_files(data: ImageData | SegmentationData) -> tuple[int, str]:
    """How many of a data set's files cannot be read, and the first of them with what is wrong with each."""
    unreadable = [f"{printable(file)} {problem}" for file, problem in data.find_unreadable().items()]
    return len(unreadable), "; ".join(unreadable[:SHOWN])
