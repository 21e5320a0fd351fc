"""TensorFlow Datasets by name."""

from __future__ import annotations

import tensorflow as tf

from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.problems import unreadable_records
from keras_widerresnet.data.sources.parts import check_two_classes
from keras_widerresnet.data.split import ImageData, ShardedSplit, record_names
from keras_widerresnet.errors import InputError

TEST_SPLITS = ("validation", "test")


def tfds_images(name: str, data_dir: str | None = None, *, max_pixels: int = MAX_PIXELS) -> ImageData:
    """Loads a TFDS classification data set with an `image` and a `label` feature, e.g. `"cifar10"` or `"imagenet2012"`.

    Images are decoded after shuffling, so that only the encoded images in the shuffle buffer are kept in memory.

    Args:
        name: name as in `tfds.builder`.
        data_dir: TFDS's data directory; None for its default.
        max_pixels: see `images.checked`.

    Raises:
        InputError: if TFDS does not know the name, or the data set cannot be prepared or has no image and label.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise InputError(f"TensorFlow Datasets has no data set {name!r}: {str(error).splitlines()[0]}") from None
    missing = {"image", "label"} - set(builder.info.features or {})
    if missing:
        raise InputError(f"tfds:{name} has no {' and no '.join(sorted(missing))}. Its features: {sorted(builder.info.features or {})}")
    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(f"tfds:{name} could not be prepared in {builder.data_path}: {' '.join(str(error).split())}") from None
    test = next((split for split in TEST_SPLITS if split in builder.info.splits), None)
    if test is None or "train" not in builder.info.splits:
        raise InputError(f"tfds:{name} must have a train split and a validation or test split. Its splits: {list(builder.info.splits)}")
    if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
        raise InputError(f"tfds:{name} is stored in {builder.info.file_format.value} format; prepare it with file_format='tfrecord'")

    def part(split: str) -> ShardedSplit:
        others = [known for known in builder.info.splits if known != "train"]
        if split not in others:
            raise InputError(f"tfds:{name} has no split {split!r} other than its training images. Its other splits: {', '.join(others)}")
        return _split(builder, split, max_pixels)

    class_names = check_two_classes(builder.info.features["label"].names, f"tfds:{name}")
    parts = _split(builder, "train", max_pixels), _split(builder, test, max_pixels)
    return ImageData(f"tfds:{name}", class_names, *parts, find_unreadable=lambda: unreadable_records(parts, max_pixels), part=part)


def _split(builder, split: str, max_pixels: int) -> ShardedSplit:
    import tensorflow_datasets as tfds

    def parse(record):
        example = builder.info.features.deserialize_example(record, decoders={"image": tfds.decode.SkipDecoding()})
        return example["image"], tf.cast(example["label"], tf.int32)

    info = builder.info.splits[split]
    paths, lengths = [str(path) for path in info.filepaths], info.shard_lengths
    return ShardedSplit(paths, lengths, parse, name_of=record_names(paths, lengths), max_pixels=max_pixels)
