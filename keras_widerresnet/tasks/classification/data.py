"""Loading of classification data sets by name."""

from __future__ import annotations

from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.data.sources import arrays
from keras_widerresnet.data.sources.contents import CACHE_BYTES
from keras_widerresnet.data.sources.folder import folder
from keras_widerresnet.data.sources.tfds import tfds_images
from keras_widerresnet.data.sources.tfrecord import tfrecords
from keras_widerresnet.data.split import ImageData

FAKE_SIZE = 224


def load_data(
    name: str,
    *,
    skip_corrupt: bool = False,
    convert_rgb: bool = False,
    verify: bool = True,
    cache_bytes: int = CACHE_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> ImageData:
    """Loads the data set called `name`: `digits`, `folder:PATH`, `idx:PATH`, `tfds:NAME`, `tfrecord:PATH`, `fake` or `fake:SIZE`.

    The options are those of `folder`; other sources ignore all of them except `max_pixels`.

    Raises:
        InputError: for an unknown name, or data that is missing or damaged.
    """
    kind, argument = parse_name(name, CLASSIFICATION)
    if kind == "folder":
        options = {"skip_corrupt": skip_corrupt, "convert_rgb": convert_rgb, "verify": verify}
        return folder(argument, **options, cache_bytes=cache_bytes, max_pixels=max_pixels)
    if kind == "idx":
        return arrays.idx(argument)
    if kind == "tfds":
        return tfds_images(argument, max_pixels=max_pixels)
    if kind == "tfrecord":
        return tfrecords(argument, max_pixels=max_pixels)
    return arrays.fake(int(argument or FAKE_SIZE)) if kind == "fake" else arrays.digits()
