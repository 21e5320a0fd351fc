"""Data sets for segmentation by name."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_widerresnet.data import masks
from keras_widerresnet.data.exif import UPRIGHT, orientation
from keras_widerresnet.data.images import checked, decode_rgb, image_problem
from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.mask_values import check_test_masks, check_training_masks, which_values
from keras_widerresnet.data.names import SEGMENTATION, label_map_of, parse_name, path_and_options
from keras_widerresnet.data.pairs import SegmentationData, SegmentationSplit
from keras_widerresnet.data.sources.entries import Entries
from keras_widerresnet.data.sources.folder import CACHE_BYTES
from keras_widerresnet.data.sources.layouts import LAYOUTS, Pair
from keras_widerresnet.data.sources.parts import TEST, TRAIN, VALIDATION
from keras_widerresnet.data.sources.shapes import shapes
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED, LABEL_MAPS, LabelMap
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.texts import printable, some

logger = logging.getLogger(__name__)


def load_segmentation_data(
    name: str, *, verify: bool = True, cache_bytes: int = CACHE_BYTES, max_pixels: int = MAX_PIXELS
) -> SegmentationData:
    """The data set called `name`.

    `voc:PATH`, `cityscapes:PATH`, `ade20k:PATH` and `pascal_context:PATH` take the public layouts (`layouts` describes each),
    `pairs:PATH` any pairs of folders or lists (`layouts.plain_pairs`), and `shapes` is generated. Options follow the path:
    `train=trainval` and `test=val` choose other parts than the usual ones; of `pairs:`, `names=sky+road` or `classes=2` say what the
    values 0, 1, … mean, `names=background+255=object` what other values do, and `ignore=11` or `ignore=11+12` which are ignored besides
    255. CamVid in SegNet's form is `pairs:PATH,classes=11,ignore=11`.

    Args:
        verify: decode every file once before training, and look what the masks hold (`mask_values`); without it a bad file is found when
            it is reached.
        cache_bytes: splits whose files are no larger in all are held in memory, encoded.
        max_pixels: see `images.checked`; masks are held to it too.

    Raises:
        InputError: for an unknown name or option, for files that are missing or cannot be used, naming them, and for masks whose values
            cannot mean what the name says.
    """
    kind, argument = parse_name(name, SEGMENTATION)
    if kind == "shapes":
        return shapes()
    path, options = path_and_options(argument, SEGMENTATION[kind])
    labels = label_map_of(options) if kind == "pairs" else LABEL_MAPS[kind]
    layout = LAYOUTS[kind]
    root = layout.root(pathlib.Path(path))
    usual = layout.default_parts(root)
    chosen = tuple(options.get(key, part) for key, part in zip(("train", "test"), usual, strict=True))
    entries = Entries()
    parts = [layout.pairs(root, part, entries) for part in chosen]
    # Other parts than the usual ones may share images with it.
    if chosen == usual and (validation_part := layout.validation_part(root)):
        parts.append(layout.pairs(root, validation_part, entries))
    entries.log(root)
    if chosen == usual and (shared := set(parts[0]) & set(parts[1])):
        logger.warning("%d test images are training images too: %s", len(shared), some(sorted(image for image, _ in shared)))
    every_pair: list[Pair] = []

    def check(pairs: list[Pair]) -> None:
        every_pair.extend(pairs)
        problems = unusable(pairs, labels, max_pixels) if verify else {}
        if problems:
            lines = some(f"{file} {problem}" for file, problem in problems.items())
            are_values = kind == "pairs" and any(problem.startswith("holds the value") for problem in problems.values())
            hint = f". {which_values([mask for _, mask in pairs], labels.class_names)}" if are_values else ""
            raise InputError(f"{len(problems)} of {len(pairs)} pairs of image and mask cannot be used: {lines}{hint}")

    def split(pairs: list[Pair], part: str) -> SegmentationSplit:
        """`train` is the training part; what the others are called is for messages."""
        files = [mask for _, mask in pairs]
        if not verify:
            occurs = None
        elif part == TRAIN:
            is_void_said = kind != "pairs" or str(IGNORED) in options.get("ignore", "").split("+")
            occurs = check_training_masks(files, labels, is_void_said=is_void_said)
        else:
            occurs = check_test_masks(files, labels, part)
        return _file_split(pairs, root, labels, cache_bytes, max_pixels, occurs)

    def part(part_name: str) -> SegmentationSplit:
        pairs = layout.pairs(root, part_name, Entries())
        shared = set(pairs) & set(parts[0])
        if shared:
            raise InputError(f"{len(shared)} images of the part {part_name!r} are training images too: take another part")
        check(pairs)
        return split(pairs, part_name)

    check([pair for pairs in parts for pair in pairs])
    train, test, *own = (split(pairs, part) for pairs, part in zip(parts, (TRAIN, TEST, VALIDATION), strict=False))
    return SegmentationData(
        name,
        labels,
        train,
        test,
        find_unreadable=lambda: unusable(list(dict.fromkeys(every_pair)), labels, max_pixels),
        validation=own[0] if own else None,
        part=part,
    )


def unusable(pairs: list[Pair], labels: LabelMap, max_pixels: int = MAX_PIXELS) -> dict[str, str]:
    """File -> what is wrong with it, for pairs that cannot be trained on; shows a progress bar.

    Images that their EXIF data turn are told of in a warning: their masks must be of what is seen, and a size does not always tell.
    """
    split = SegmentationSplit([""] * len(pairs), _reader(pairs, max_pixels), labels)

    def index_of_usable(index):
        raw_image, raw_mask = split.read(index)
        image, mask = split.decode(raw_image, raw_mask)  # as training will: what passes here decodes there
        return tf.where(tf.size(image) + tf.size(mask) > 0, index, -1), orientation(raw_image)

    found = tf.data.Dataset.range(len(pairs)).map(index_of_usable, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    turns = dict(progress_bar(found.as_numpy_iterator(), desc="verifying images and masks", total=len(pairs), delay=2))
    turned = [image for index, (image, _) in enumerate(pairs) if turns.get(index, UPRIGHT) != UPRIGHT]
    if turned:
        logger.warning("%d images are turned upright by their EXIF data, as their masks must be already: %s", len(turned), some(turned))
    return dict(_problem(*pair, labels, max_pixels) for index, pair in enumerate(pairs) if index not in turns)


def _problem(image: pathlib.Path, mask: pathlib.Path, labels: LabelMap, max_pixels: int) -> tuple[str, str]:
    contents = []
    for file in (image, mask):
        try:
            contents.append(file.read_bytes())
        except OSError as error:
            return str(file), f"cannot be read ({error.strerror})"
    encoded, encoded_mask = contents
    if problem := image_problem(encoded, max_pixels=max_pixels):
        return str(image), problem
    if problem := masks.mask_problem(encoded_mask, labels):
        return str(mask), problem
    rows, columns = masks.stored_values(tf.constant(encoded_mask)).shape
    height, width = decode_rgb(tf.constant(encoded)).shape[:2]
    turn = int(orientation(tf.constant(encoded)))
    of_turned = f" upright (by EXIF orientation {turn}; the mask must be of the upright image)" if turn != UPRIGHT else ""
    return str(mask), f"is {columns}×{rows} pixels, its image {image.name} {width}×{height}{of_turned}; they must be of one size"


def _file_split(
    pairs: list[Pair], root: pathlib.Path, labels: LabelMap, cache_bytes: int, max_pixels: int, occurs: np.ndarray | None
) -> SegmentationSplit:
    names = [printable(image.stem) for image, _ in pairs]
    if len(set(names)) < len(names):
        names = ["_".join(pathlib.Path(printable(os.path.relpath(image, root))).with_suffix("").parts) for image, _ in pairs]
    try:
        if sum(os.path.getsize(file) for pair in pairs for file in pair) > cache_bytes:
            return SegmentationSplit(names, _reader(pairs, max_pixels), labels, occurs)
        images, encoded_masks = (tf.constant([file.read_bytes() for file in files]) for files in zip(*pairs, strict=True))
    except OSError as error:
        raise InputError(f"'{printable(error.filename)}' cannot be read: {error.strerror}") from None

    def read(index):
        return checked(images[index], max_pixels), checked(encoded_masks[index], max_pixels)

    return SegmentationSplit(names, read, labels, occurs)


def _reader(pairs: list[Pair], max_pixels: int) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    images, mask_files = (tf.constant([bytes(file) for file in files]) for files in zip(*pairs, strict=True))

    def read(index):
        return checked(tf.io.read_file(images[index]), max_pixels), checked(tf.io.read_file(mask_files[index]), max_pixels)

    return read
