"""Data sets by name, and the `tf.data` pipelines over them."""

from __future__ import annotations

from keras_widerresnet.data import arrays
from keras_widerresnet.data.folder import CACHE_BYTES, folder
from keras_widerresnet.data.split import ImageData
from keras_widerresnet.data.tfds_source import tfds_images
from keras_widerresnet.data.tfrecord_source import tfrecords
from keras_widerresnet.errors import InputError

NAMES = "digits, folder:PATH, idx:PATH, tfds:NAME, tfrecord:PATH, fake or fake:SIZE"
FAKE_SIZE = 224


def load_data(
    name: str, *, skip_corrupt: bool = False, convert_rgb: bool = False, verify: bool = True, cache_bytes: int = CACHE_BYTES
) -> ImageData:
    """The data set called `name`: `digits`, `folder:PATH`, `idx:PATH`, `tfds:NAME`, `tfrecord:PATH`, `fake` or `fake:SIZE`.

    The options are those of `folder`, and mean nothing to the other sources.

    Raises:
        InputError: for an unknown name, or data that is missing or damaged.
    """
    kind, _, argument = name.partition(":")
    if name == "digits":
        return arrays.digits()
    if kind == "fake" and (not argument or argument.isdecimal()):
        return arrays.fake(int(argument or FAKE_SIZE))
    if kind == "folder" and argument:
        return folder(argument, skip_corrupt=skip_corrupt, convert_rgb=convert_rgb, verify=verify, cache_bytes=cache_bytes)
    if kind == "idx" and argument:
        return arrays.idx(argument)
    if kind == "tfds" and argument:
        return tfds_images(argument)
    if kind == "tfrecord" and argument:
        return tfrecords(argument)
    raise InputError(f"Unknown data set {name!r}; a data set is one of: {NAMES}")
