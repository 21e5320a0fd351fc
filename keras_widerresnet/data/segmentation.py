"""Data sets for segmentation by name: images with a mask each, that can be streamed from any step of an endless shuffled order."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_widerresnet.data import masks
from keras_widerresnet.data.folder import CACHE_BYTES
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.layouts import LAYOUTS, Pair, some
from keras_widerresnet.data.split import WHOLE, Share, shuffled_indices
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import LABEL_MAPS, LabelMap, numbered
from keras_widerresnet.progress import progress_bar

NAMES = (
    "voc:PATH, cityscapes:PATH, ade20k:PATH, pascal_context:PATH, pairs:PATH,classes=N or pairs:PATH,names=sky+road+… "
    "(each with train=PART, test=PART where other parts are wanted; pairs: also with ignore=VALUE), or shapes"
)


@dataclasses.dataclass(frozen=True)
class SegmentationSplit:
    """Images with their masks, that can be read in any order.

    Args:
        names: what to call each image in a report, and its prediction's file.
        read: graph function from an int64 index to a raw image (see `images`) and a raw mask: PNG bytes, or uint8 (H, W) of train ids.
        labels: what the masks' values mean.
    """

    names: Sequence[str]
    read: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    labels: LabelMap

    @property
    def size(self) -> int:
        return len(self.names)

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

    def _examples(self, indices: tf.data.Dataset) -> tf.data.Dataset:
        return indices.map(self.read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@dataclasses.dataclass(frozen=True)
class SegmentationData:
    """A data set for segmentation: what it is called, its classes, and its two splits.

    `find_unreadable` gives the files that cannot be used, and why (for when decoding failed in the middle of training).
    """

    name: str
    labels: LabelMap
    train: SegmentationSplit
    test: SegmentationSplit
    find_unreadable: Callable[[], dict[str, str]] = dict

    @property
    def classes(self) -> int:
        return self.labels.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labels.class_names


def load_segmentation_data(name: str, *, verify: bool = True, cache_bytes: int = CACHE_BYTES) -> SegmentationData:
    """The data set called `name`.

    `voc:PATH`, `cityscapes:PATH`, `ade20k:PATH` and `pascal_context:PATH` take the public layouts (`layouts` describes each),
    `pairs:PATH` any pairs of folders or lists (`layouts.plain_pairs`), and `shapes` is generated. Options follow the path:
    `train=trainval` and `test=val` choose other parts than the usual ones; of `pairs:`, `names=sky+road` or `classes=2` say what the
    values 0, 1, … mean, and `ignore=11` or `ignore=11+12` which values are ignored besides 255. CamVid in SegNet's form is
    `pairs:PATH,classes=11,ignore=11`.

    Args:
        verify: decode every file once before training; without it a bad file is found when it is reached.
        cache_bytes: splits whose files are no larger in all are held in memory, encoded.

    Raises:
        InputError: for an unknown name or option, and for files that are missing or cannot be used, naming them.
    """
    kind, _, argument = name.partition(":")
    if name == "shapes":
        from keras_widerresnet.data.shapes import shapes

        return shapes()
    if kind not in LAYOUTS or not argument:
        raise InputError(f"Unknown segmentation data set {name!r}; a data set is one of: {NAMES}")
    path, options = _path_and_options(kind, argument)
    labels = _pairs_labels(options) if kind == "pairs" else LABEL_MAPS[kind]
    layout = LAYOUTS[kind]
    root = layout.root(pathlib.Path(path).expanduser())
    usual_train, usual_test = layout.default_parts(root)
    parts = [layout.pairs(root, part) for part in (options.get("train", usual_train), options.get("test", usual_test))]
    every_pair = [pair for part in parts for pair in part]
    if verify:
        problems = unusable(every_pair, labels)
        if problems:
            lines = some(f"{file} {problem}" for file, problem in problems.items())
            raise InputError(f"{len(problems)} of {len(every_pair)} pairs of image and mask cannot be used: {lines}")
    train, test = (_file_split(part, root, labels, cache_bytes) for part in parts)
    return SegmentationData(name, labels, train, test, find_unreadable=lambda: unusable(every_pair, labels))


def unusable(pairs: list[Pair], labels: LabelMap) -> dict[str, str]:
    """File -> what is wrong with it, for pairs that cannot be trained on; shows a progress bar."""
    split = SegmentationSplit([""] * len(pairs), _reader(pairs), labels)

    def index_of_usable(index):
        image, mask = split.decode(*split.read(index))  # as training will: what passes here decodes there
        return tf.where(tf.size(image) + tf.size(mask) > 0, index, -1)

    indices = tf.data.Dataset.range(len(pairs)).map(index_of_usable, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    usable = set(progress_bar(indices.as_numpy_iterator(), desc="verifying images and masks", total=len(pairs), delay=2))
    return dict(_problem(*pair, labels) for index, pair in enumerate(pairs) if index not in usable)


def _problem(image: pathlib.Path, mask: pathlib.Path, labels: LabelMap) -> tuple[str, str]:
    try:
        height, width = decode_rgb(tf.constant(image.read_bytes())).shape[:2]
    except OSError as error:
        return str(image), f"cannot be read ({error.strerror})"
    except tf.errors.OpError as error:
        return str(image), f"does not decode ({masks.error_text(error)})"
    try:
        encoded = mask.read_bytes()
    except OSError as error:
        return str(mask), f"cannot be read ({error.strerror})"
    if problem := masks.mask_problem(encoded, labels):
        return str(mask), problem
    rows, columns = masks.stored_values(tf.constant(encoded)).shape
    return str(mask), f"is {columns}×{rows} pixels, its image {image.name} {width}×{height}; they must be of one size"


def _path_and_options(kind: str, argument: str) -> tuple[str, dict[str, str]]:
    allowed = ("train", "test", *(("classes", "names", "ignore") if kind == "pairs" else ()))
    path, *others = re.split(r",(?=[a-z]+=)", argument)
    options = dict(other.split("=", 1) for other in others)
    wrong = [key for key, value in options.items() if key not in allowed or not value]
    if wrong or len(options) < len(others):
        raise InputError(f"{kind}: takes the options {', '.join(f'{key}=…' for key in allowed)}, each once. Received: {argument!r}")
    return path, options


def _pairs_labels(options: dict[str, str]) -> LabelMap:
    if ("classes" in options) == ("names" in options):
        raise InputError("pairs: takes either classes=N or names=sky+road+… (the classes of the masks' values 0, 1, …)")
    numbers = [*options.get("ignore", "").split("+"), options.get("classes", "1")]
    if not all(number.isdecimal() for number in numbers if number):
        raise InputError(f"classes= and ignore= take whole numbers, several separated by +. Received: {options}")
    names = tuple(options["names"].split("+")) if "names" in options else tuple(f"class {k}" for k in range(int(options["classes"])))
    ignored = [int(number) for number in options.get("ignore", "").split("+") if number]
    return numbered(f"classes:{len(names)}", names, tuple(dict.fromkeys([*ignored, 255])))


def _file_split(pairs: list[Pair], root: pathlib.Path, labels: LabelMap, cache_bytes: int) -> SegmentationSplit:
    names = [image.stem for image, _ in pairs]
    if len(set(names)) < len(names):
        names = ["_".join(pathlib.Path(os.path.relpath(image, root)).with_suffix("").parts) for image, _ in pairs]
    if sum(os.path.getsize(file) for pair in pairs for file in pair) > cache_bytes:
        return SegmentationSplit(names, _reader(pairs), labels)
    images, encoded_masks = (tf.constant([file.read_bytes() for file in files]) for files in zip(*pairs, strict=True))
    return SegmentationSplit(names, lambda index: (images[index], encoded_masks[index]), labels)


def _reader(pairs: list[Pair]) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    images, mask_files = (tf.constant([str(file) for file in files]) for files in zip(*pairs, strict=True))
    return lambda index: (tf.io.read_file(images[index]), tf.io.read_file(mask_files[index]))
