"""Finding and naming images that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import tensorflow as tf

from keras_widerresnet.data.images import checked, decode_rgb, has_three_channels, image_problem
from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.pairs import SegmentationData
from keras_widerresnet.data.resize import test_view
from keras_widerresnet.data.split import ImageData, ShardedSplit
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.texts import some
from keras_widerresnet.tracing import without_autograph

UNREADABLE = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.DataLossError,
    tf.errors.PermissionDeniedError,
    tf.errors.FailedPreconditionError,
    UnicodeDecodeError,  # raised if TensorFlow's message quotes a damaged record
)
_VIEW = 32  # pixels; any size would do


def cannot_be_read(data: ImageData | SegmentationData, error: Exception) -> InputError:
    """Returns the error to raise after reading a data set's images failed; it names the files."""
    _, shown = unreadable_files(data)
    return InputError(f"Images of {data.name!r} cannot be read: {shown or first_line(error)}")


def unreadable_files(data: ImageData | SegmentationData) -> tuple[int, str]:
    """Returns how many of a data set's files cannot be read, and the first of them with the reason for each."""
    unreadable = data.find_unreadable()
    return len(unreadable), some(f"{file} {problem}" for file, problem in unreadable.items())


@without_autograph
def usable_images(examples: tf.data.Dataset, size: int, *, max_pixels: int = MAX_PIXELS, convert_rgb: bool = True) -> set[int]:
    """Returns the indices of the usable images; every image is decoded once, as in training and testing. Shows a progress bar.

    Args:
        examples: (int64 index, raw image) of each image; examples that cannot be read are skipped.
        size: number of images.
        max_pixels: see `images.checked`.
        convert_rgb: whether grey, alpha and CMYK images are accepted.
    """

    def index_of_usable(index, raw):
        view = test_view(decode_rgb(checked(raw, max_pixels)), _VIEW)
        is_usable = tf.reduce_all(tf.math.is_finite(view)) & (has_three_channels(raw) if not convert_rgb else True)
        return tf.where(is_usable, index, -1)

    indices = examples.map(index_of_usable, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    return set(progress_bar(elements(indices), desc="verifying images", total=size, delay=2))


def unreadable_records(splits: Iterable[ShardedSplit], max_pixels: int) -> dict[str, str]:
    """Maps the names of the records whose images cannot be used to the reasons."""
    return {
        name: problem for split in splits for shard in range(len(split.files)) for name, problem in _unreadable_in(split, shard, max_pixels)
    }


def _unreadable_in(split: ShardedSplit, shard: int, max_pixels: int) -> Iterator[tuple[str, str]]:
    """Yields these pairs for one of the split's files."""
    examples = split.unchecked(split.files[shard]).enumerate()
    usable = usable_images(examples, split.lengths[shard], max_pixels=max_pixels)
    first = sum(split.lengths[:shard])
    number = -1
    try:
        for number, raw in elements(examples):
            if number not in usable:
                yield split.name_of(first + int(number)), image_problem(raw, max_pixels=max_pixels)
    except UNREADABLE as error:  # records after a damaged one cannot be read
        yield split.name_of(first + int(number) + 1), f"is damaged ({first_line(error)})"
