"""Images that cannot be read, named."""

from __future__ import annotations

import tensorflow as tf

from keras_widerresnet.data.pairs import SegmentationData
from keras_widerresnet.data.split import ImageData
from keras_widerresnet.errors import InputError

SHOWN = 5
UNREADABLE = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.DataLossError)


def cannot_be_read(data: ImageData | SegmentationData, error: tf.errors.OpError) -> InputError:
    """What to raise where reading a data set's images failed: it names the files."""
    unreadable = [f"{file} {problem}" for file, problem in data.find_unreadable().items()]
    reason = "; ".join(unreadable[:SHOWN]) or error.message.splitlines()[0]
    return InputError(f"Images of {data.name!r} cannot be read: {reason}")
