"""Loading of segmentation data sets by name."""

from __future__ import annotations

import logging
import os
import pathlib

import numpy as np
import tensorflow as tf

from keras_widerresnet.data import masks
from keras_widerresnet.data.exif import UPRIGHT, orientation
from keras_widerresnet.data.images import decode_rgb, image_problem
from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.mask_values import check_test_masks, check_training_masks, which_values
from keras_widerresnet.data.names import SBD, SEGMENTATION, label_map_of, parse_name, path_and_options
from keras_widerresnet.data.pairs import SegmentationData, SegmentationSplit
from keras_widerresnet.data.sources.contents import CACHE_BYTES, from_disk, readers
from keras_widerresnet.data.sources.entries import Entries
from keras_widerresnet.data.sources.layouts import LAYOUTS, Pair, with_sbd
from keras_widerresnet.data.sources.parts import TEST, TRAIN, VALIDATION
from keras_widerresnet.data.sources.shapes import shapes
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED, LABEL_MAPS, LabelMap
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.texts import printable, some
from keras_widerresnet.tracing import without_autograph

logger = logging.getLogger(__name__)


def load_segmentation_data(
    name: str, *, verify: bool = True, cache_bytes: int = CACHE_BYTES, max_pixels: int = MAX_PIXELS
) -> SegmentationData:
    """Loads the data set called `name`.

    `voc:PATH`, `sbd:PATH`, `cityscapes:PATH`, `camvid:PATH`, `ade20k:PATH` and `pascal_context:PATH` read the public layouts (each is
    described in `layouts`); `voc:PATH,sbd=PATH` trains on SBD's images too,
    `pairs:PATH` reads any pairs of folders or lists (`layouts.plain_pairs`), and `shapes` is generated. Options follow the path:
    `train=trainval` and `test=val` select other parts than the default ones. For `pairs:`, `names=sky+road` or `classes=2` define the
    classes of the values 0, 1, …, `names=background+255=object` assigns other values, and `ignore=11` or `ignore=11+12` adds ignored
    values to 255. CamVid in SegNet's form is `pairs:PATH,classes=11,ignore=11`.

    Args:
        name: as above.
        verify: whether to decode every file once before training and to check the masks' values (`mask_values`); otherwise a bad file is
            only found when it is reached.
        cache_bytes: splits whose files have at most this total size are kept in memory, encoded.
        max_pixels: see `images.checked`; the limit also applies to masks.

    Raises:
        InputError: for an unknown name or option, for files that are missing or cannot be used (the message names them), and for masks
            whose values contradict the name's options.
    """
    kind, argument = parse_name(name, SEGMENTATION)
    if kind == "shapes":
        return shapes()
    path, options = path_and_options(argument, SEGMENTATION[kind])
    layout = LAYOUTS[kind]
    root = layout.root(pathlib.Path(path))
    usual = layout.default_parts(root) if SBD not in options else ("train", "val")
    chosen = tuple(options.get(key, part) for key, part in zip(("train", "test"), usual, strict=True))
    entries = Entries()
    parts = [layout.pairs(root, part, entries) for part in chosen]
    # With other parts than the default ones, the validation part may share images with them.
    if chosen == usual and (validation_part := layout.validation_part(root)):
        parts.append(layout.pairs(root, validation_part, entries))
    if SBD in options:
        parts[0] = with_sbd(parts[0], parts[1], pathlib.Path(options[SBD]), entries)
    label_map = layout.labels([pair for pairs in parts for pair in pairs]) or kind
    labels = label_map_of(options) if kind == "pairs" else LABEL_MAPS[label_map]
    entries.log(root)
    if chosen == usual and (shared := set(parts[0]) & set(parts[1])):
        logger.warning("%d test images are also training images: %s", len(shared), some(sorted(image for image, _ in shared)))
    every_pair: list[Pair] = []

    def check(pairs: list[Pair]) -> None:
        every_pair.extend(pairs)
        problems = unusable(pairs, labels, max_pixels) if verify else {}
        if problems:
            lines = some(f"{file} {problem}" for file, problem in problems.items())
            are_values = kind == "pairs" and any(masks.is_of_values(problem) for problem in problems.values())
            hint = f". {which_values([mask for _, mask in pairs], labels.class_names)}" if are_values else ""
            raise InputError(f"{len(problems)} of {len(pairs)} pairs of image and mask cannot be used: {lines}{hint}")

    def split(pairs: list[Pair], part: str) -> SegmentationSplit:
        """Checks and loads a part; names other than `train` are only used in messages."""
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
        # SBD has the same images in other files.
        key = (lambda pair: pair[0].stem) if SBD in options else (lambda pair: pair)
        shared = set(map(key, pairs)) & set(map(key, parts[0]))
        if shared:
            raise InputError(f"{len(shared)} images of the part {part_name!r} are also training images: choose another part")
        layout.labels([*parts[0], *pairs])
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


@without_autograph
def unusable(pairs: list[Pair], labels: LabelMap, max_pixels: int = MAX_PIXELS) -> dict[str, str]:
    """Maps the files of pairs that cannot be used to the reasons; shows a progress bar.

    A warning lists the images that have an EXIF orientation: their masks must match the upright images, which the size alone does not
    always show.
    """
    read_image, read_mask = (from_disk(files, max_pixels) for files in zip(*pairs, strict=True))
    split = SegmentationSplit([""] * len(pairs), lambda index: (read_image(index), read_mask(index)), labels)

    def index_of_usable(index):
        raw_image, raw_mask = split.read(index)
        image, mask = split.decode(raw_image, raw_mask)  # as in training, so that what passes here can be decoded there
        return tf.where(tf.size(image) + tf.size(mask) > 0, index, -1), orientation(raw_image)

    found = tf.data.Dataset.range(len(pairs)).map(index_of_usable, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    turns = dict(progress_bar(elements(found), desc="verifying images and masks", total=len(pairs), delay=2))
    turned = [image for index, (image, _) in enumerate(pairs) if turns.get(index, UPRIGHT) != UPRIGHT]
    if turned:
        logger.warning(
            "%d images are turned upright by their EXIF data; their masks must be upright already: %s", len(turned), some(turned)
        )
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
    rows, columns = masks.stored_values(tf.constant(encoded_mask), labels).shape
    height, width = decode_rgb(tf.constant(encoded)).shape[:2]
    turn = int(orientation(tf.constant(encoded)))
    of_turned = f" upright (EXIF orientation {turn}; the mask must match the upright image)" if turn != UPRIGHT else ""
    return str(mask), f"has {columns}×{rows} pixels, its image {image.name} {width}×{height}{of_turned}; the sizes must be equal"


def _file_split(
    pairs: list[Pair], root: pathlib.Path, labels: LabelMap, cache_bytes: int, max_pixels: int, occurs: np.ndarray | None
) -> SegmentationSplit:
    names = [printable(image.stem) for image, _ in pairs]
    if len(set(names)) < len(names):
        names = ["_".join(pathlib.Path(printable(os.path.relpath(image, root))).with_suffix("").parts) for image, _ in pairs]
    read_image, read_mask = readers(*zip(*pairs, strict=True), cache_bytes=cache_bytes, max_pixels=max_pixels)
    return SegmentationSplit(names, lambda index: (read_image(index), read_mask(index)), labels, occurs)
