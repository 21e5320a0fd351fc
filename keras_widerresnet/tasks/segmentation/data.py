"""Data sets for segmentation by name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import tensorflow as tf

from keras_widerresnet.data import masks
from keras_widerresnet.data.images import decode_rgb
from keras_widerresnet.data.names import SEGMENTATION, parse_name, path_and_options
from keras_widerresnet.data.pairs import SegmentationData, SegmentationSplit
from keras_widerresnet.data.sources.folder import CACHE_BYTES
from keras_widerresnet.data.sources.layouts import LAYOUTS, Pair, some
from keras_widerresnet.data.sources.shapes import shapes
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import LABEL_MAPS, LabelMap, numbered
from keras_widerresnet.progress import progress_bar


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
    kind, argument = parse_name(name, SEGMENTATION)
    if kind == "shapes":
        return shapes()
    path, options = path_and_options(argument, SEGMENTATION[kind])
    labels = _pairs_labels(options) if kind == "pairs" else LABEL_MAPS[kind]
    layout = LAYOUTS[kind]
    root = layout.root(pathlib.Path(path))
    usual = layout.default_parts(root)
    chosen = tuple(options.get(key, part) for key, part in zip(("train", "test"), usual, strict=True))
    parts = [layout.pairs(root, part) for part in chosen]
    # Other parts than the usual ones may share images with it.
    if chosen == usual and (validation_part := layout.validation_part(root)):
        parts.append(layout.pairs(root, validation_part))
    every_pair: list[Pair] = []

    def check(pairs: list[Pair]) -> None:
        every_pair.extend(pairs)
        problems = unusable(pairs, labels) if verify else {}
        if problems:
            lines = some(f"{file} {problem}" for file, problem in problems.items())
            raise InputError(f"{len(problems)} of {len(pairs)} pairs of image and mask cannot be used: {lines}")

    def part(part_name: str) -> SegmentationSplit:
        pairs = layout.pairs(root, part_name)
        shared = set(pairs) & set(parts[0])
        if shared:
            raise InputError(f"{len(shared)} images of the part {part_name!r} are training images too: take another part")
        check(pairs)
        return _file_split(pairs, root, labels, cache_bytes)

    check([pair for pairs in parts for pair in pairs])
    train, test, *own = (_file_split(pairs, root, labels, cache_bytes) for pairs in parts)
    return SegmentationData(
        name,
        labels,
        train,
        test,
        find_unreadable=lambda: unusable(list(dict.fromkeys(every_pair)), labels),
        validation=own[0] if own else None,
        part=part,
    )


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


def _pairs_labels(options: dict[str, str]) -> LabelMap:
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
