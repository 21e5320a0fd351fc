"""Folders of TFRecord shards, `train-00000-of-01024` and `validation-…`, with the feature names of TensorFlow's ImageNet shards."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import re

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.problems import UNREADABLE, cannot_be_read, unreadable_records
from keras_widerresnet.data.sources.entries import is_junk, problem_of_file
from keras_widerresnet.data.sources.parts import check_two_classes
from keras_widerresnet.data.split import ImageData, ShardedSplit, record_names
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.files import remove, replacing
from keras_widerresnet.imagenet import imagenet_classes
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.texts import check_class_names, some
from keras_widerresnet.tracing import without_autograph

logger = logging.getLogger(__name__)

IMAGE, LABEL = "image/encoded", "image/class/label"
INDEX_FILE = "index.json"
PARTS = {"train": ("train",), "test": ("validation", "val", "valid", "test")}
MOST_CLASSES = 100_000  # for shards without an index, where a damaged label of 10⁹ would create as many names


def tfrecords(path: str, *, max_pixels: int = MAX_PIXELS) -> ImageData:
    """Loads TFRecord shards: `image/encoded` (JPEG or PNG bytes) and `image/class/label` (from 0, or from 1 as in TensorFlow's shards).

    `index.json` contains the numbers of records, the first label and the class names. If it is missing, all records are read once to
    write it; if the folder is read-only, the index is kept in memory, with a warning. Other shards in the folder, `NAME-…`, are parts
    that can be selected by name; those that are not in the index are read once each time.

    Args:
        path: the folder.
        max_pixels: see `images.checked`.

    Raises:
        InputError: if something is missing or damaged; the message names it.
    """
    root = pathlib.Path(os.path.expanduser(path))
    shards = {part: _shards(root, names) for part, names in PARTS.items()}
    index = _index(root, shards)
    first = index["first_label"]

    def parse(record):
        features = {IMAGE: tf.io.FixedLenFeature([], tf.string), LABEL: tf.io.FixedLenFeature([], tf.int64)}
        example = tf.io.parse_single_example(record, features)
        return example[IMAGE], tf.cast(example[LABEL] - first, tf.int32)

    def split(files, records):
        unknown = [file.name for file in files if file.name not in records]
        if unknown:
            raise InputError(f"{root / INDEX_FILE} does not list {unknown[0]}: delete the index to have it rebuilt")
        paths, lengths = [str(file) for file in files], [records[file.name] for file in files]
        return ShardedSplit(paths, lengths, parse, name_of=record_names(paths, lengths), max_pixels=max_pixels)

    def part(name):
        files = _shards(root, (name,))
        if set(files) & set(shards["train"]):
            raise InputError(f"The shards {name}-* in {str(root)!r} contain training images: choose another part")
        # The index only covers the default parts.
        counted, labels = _counted([file for file in files if file.name not in index["records"]])
        if not labels <= set(range(first, first + len(index["classes"]))):
            raise InputError(f"The shards {name}-* in {str(root)!r} contain labels that belong to no class: {sorted(labels)}")
        return split(files, index["records"] | counted)

    class_names = check_two_classes(index["classes"], f"tfrecord:{path}")
    train, test = (split(shards[name], index["records"]) for name in PARTS)
    return ImageData(
        f"tfrecord:{path}",
        class_names,
        train,
        test,
        find_unreadable=lambda: unreadable_records((train, test), max_pixels),
        part=part,
    )


def write_tfrecords(data: ImageData, path: str, *, train_shards: int, test_shards: int, overwrite: bool = False) -> pathlib.Path:
    """Writes a data set as TFRecord shards, with the training images in random order, and their `index.json`.

    Args:
        data: the data set; encoded images are written unchanged, others as PNG.
        path: folder to write; it is written completely or not at all.
        train_shards, test_shards: number of files; training on several workers needs at least one per worker.
        overwrite: whether to replace an existing folder of shards.

    Raises:
        InputError: if the folder exists, there are fewer images than shards, or an image cannot be read; the message names it.
    """
    root = pathlib.Path(path)
    if root.exists() and not (overwrite and (root / INDEX_FILE).is_file()):
        raise InputError(f"{root} already exists; --overwrite replaces only a folder of shards")
    for split, shards in ((data.train, train_shards), (data.test, test_shards)):
        if not 1 <= shards <= split.size:
            raise InputError(f"The number of shards must be between 1 and {split.size}, the number of images. Received: {shards}")
    records: dict[str, int] = {}
    with replacing(root) as temporary:
        temporary.mkdir(parents=True)
        shuffled = data.train.shuffled(0, batch_size=1).map(without_autograph(lambda _, raw, label: (raw, label))).take(data.train.size)
        try:
            records |= _write_shards(shuffled, data.train.size, temporary, "train", train_shards)
            records |= _write_shards(data.test.ordered(), data.test.size, temporary, "validation", test_shards)
        except UNREADABLE as error:
            raise cannot_be_read(data, error) from None
        _write_index(temporary, data.class_names, 0, records)
        if root.exists():
            remove(root)
    return root


def _write_shards(examples, size: int, folder: pathlib.Path, part: str, shards: int) -> dict[str, int]:
    """Writes consecutive images to consecutive files whose lengths differ by at most one."""
    names = [f"{part}-{shard:05d}-of-{shards:05d}" for shard in range(shards)]
    bounds = [size * shard // shards for shard in range(shards + 1)]
    read = iter(progress_bar(elements(examples.prefetch(tf.data.AUTOTUNE)), desc=f"writing {part}", total=size))
    for name, first, end in zip(names, bounds, bounds[1:], strict=False):
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for _ in range(first, end):
                writer.write(_record(*next(read)))
    return {name: end - first for name, first, end in zip(names, bounds, bounds[1:], strict=False)}


def _record(raw, label) -> bytes:
    encoded = raw if isinstance(raw, bytes) else tf.io.encode_png(raw).numpy()
    feature = {
        IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[int(label)])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _shards(root: pathlib.Path, names) -> list[pathlib.Path]:
    files = sorted(file for file in root.glob("*") if not is_junk(file.name) and not os.path.isdir(file))
    for name in names:
        if found := [file for file in files if file.name.startswith(f"{name}-")]:
            if unreadable := [f"{file.name} {problem}" for file in found if (problem := problem_of_file(file))]:
                raise InputError(f"{len(unreadable)} shards in {str(root)!r} cannot be read: {some(unreadable)}")
            _say_missing(root, [file.name for file in found])
            return found
    raise InputError(f"No TFRecord shards {names[0]}-* in {str(root)!r}; a tfrecord: folder must contain train-* and validation-* files")


def _say_missing(root: pathlib.Path, names: list[str]) -> None:
    """Warns if shards numbered as in `-00003-of-00016` are missing; it may be on purpose."""
    counted = {int(match[1]) for name in names if (match := re.search(r"-\d+-of-(\d+)$", name))}
    if len(counted) == 1 and (missing := counted.pop() - len(names)) > 0:
        logger.warning("%d shards of the series of %s are missing in %s: only those present are used", missing, names[0], root)


def _index(root: pathlib.Path, shards) -> dict:
    path = root / INDEX_FILE
    if path.is_file():
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            index = {key: index[key] for key in ("classes", "first_label", "records")}
        except (ValueError, KeyError, TypeError):
            index = {}
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from None
        if not _is_index(index):
            raise InputError(f"{path} is damaged: delete it to have it rebuilt")
        check_class_names(index["classes"], str(path))
        return index
    records, labels = _counted([file for part in shards.values() for file in part])
    if not labels:
        raise InputError(f"The shards in {str(root)!r} contain no records")
    first = min(labels)
    if first not in (0, 1):
        raise InputError(f"Labels in {str(root)!r} must start at 0 or 1. Smallest label: {first}")
    count = max(labels) + 1 - first
    if count > MOST_CLASSES:
        raise InputError(f"Labels in {str(root)!r} go up to {max(labels):,}: for more than {MOST_CLASSES:,} classes write an {INDEX_FILE}")
    is_imagenet = count == len(imagenet_classes())
    classes = [name for _, name in imagenet_classes()] if is_imagenet else [str(label) for label in range(count)]
    try:
        _write_index(root, classes, first, records)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the records will be counted again each time", path, error.strerror)
    return {"classes": classes, "first_label": first, "records": records}


def _is_index(index: dict) -> bool:
    records = index.get("records")
    return (
        isinstance(records, dict)
        and all(type(count) is int and count >= 0 for count in records.values())
        and isinstance(index["classes"], list)
        and type(index["first_label"]) is int
    )


def _counted(files: list[pathlib.Path]) -> tuple[dict[str, int], set[int]]:
    """Reads the files, and returns the number of records in each file and the set of all labels."""
    records: dict[str, int] = {}
    labels: set[int] = set()
    for file in progress_bar(files, desc="counting records", unit="files"):
        counted = _labels(file)
        records[file.name] = len(counted)
        labels.update(np.unique(counted).tolist())
    return records, labels


@without_autograph
def _labels(file: pathlib.Path) -> np.ndarray:
    parsed = tf.data.TFRecordDataset(str(file)).map(
        lambda record: tf.io.parse_single_example(record, {LABEL: tf.io.FixedLenFeature([], tf.int64)})[LABEL],
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    try:
        return np.fromiter(elements(parsed), np.int64)
    except UNREADABLE as error:
        raise InputError(f"{file} is not a TFRecord file with {IMAGE} and {LABEL}: {first_line(error)}") from None


def _write_index(folder: pathlib.Path, classes, first_label: int, records: dict[str, int]) -> None:
    with replacing(folder / INDEX_FILE) as temporary:
        temporary.write_text(json.dumps({"classes": list(classes), "first_label": first_label, "records": records}, indent=1) + "\n")
