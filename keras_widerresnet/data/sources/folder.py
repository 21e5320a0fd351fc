"""Data sets of class folders of JPEG and PNG files."""

from __future__ import annotations

import logging
import os
import pathlib
import unicodedata

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import image_problem
from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.problems import usable_images
from keras_widerresnet.data.sources.contents import CACHE_BYTES, readers
from keras_widerresnet.data.sources.entries import IMAGE_ENDINGS, Entries
from keras_widerresnet.data.sources.parts import find_class_folders, same_part
from keras_widerresnet.data.split import ImageData, IndexedSplit, held_out_fifth, without_parts
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import printable, some
from keras_widerresnet.tracing import without_autograph

logger = logging.getLogger(__name__)


def folder(
    path: str,
    *,
    skip_corrupt: bool = False,
    convert_rgb: bool = False,
    verify: bool = True,
    split_seed: int = 0,
    cache_bytes: int = CACHE_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> ImageData:
    """Loads images from `PATH/<class>/*.jpg` (a fifth of each class held out), or `PATH/train/<class>` and `PATH/test|val/<class>`.

    If there is a `test/`, `val/` contains validation images; other folders next to `train/` are parts that can be selected by name. See
    `parts.find_class_folders` for the names of parts and for layouts that are rejected as ambiguous, and `entries.Entries` for what is
    skipped. A class consists of all images in its folder, at any depth.

    Args:
        path: `~` is expanded.
        skip_corrupt: whether to skip, with a warning, files that cannot be read or decoded or are not RGB.
        convert_rgb: whether to accept grey, alpha and CMYK images, which are converted to RGB when they are read.
        verify: whether to decode every file once before training; otherwise a bad file is only found when it is reached.
        split_seed: random seed of the held-out fifth.
        cache_bytes: splits whose files have at most this total size are kept in memory, encoded.
        max_pixels: see `images.checked`.

    Raises:
        InputError: for empty folders, parts with different classes, or files that cannot be read or decoded or are not RGB; the message
            names them.
    """
    root = pathlib.Path(os.path.expanduser(path))
    entries = Entries()
    layout = find_class_folders(root, entries)
    class_names = layout.class_names
    every_file: list[str] = []

    def stored(part: pathlib.Path) -> tuple[list[str], np.ndarray]:
        names = tuple(inner.name for inner in entries.folders(part))
        if names != class_names:
            different = ", ".join(f"'{printable(name)}'" for name in sorted(set(names) ^ set(class_names)))
            composed, expected = ({unicodedata.normalize("NFC", name) for name in every} for every in (names, class_names))
            why = " (the same letters in two Unicode forms: rename them)" if composed == expected else ""
            raise InputError(f"{printable(part)} and {printable(layout.train)} have different class folders: [{different}]{why}")
        if beside := entries.images_beside(part):
            logger.warning("Skipped %d images outside the class folders, which have no class: %s", len(beside), some(beside))
        return _files(part, class_names, entries)

    def usable(files: list[str], labels: np.ndarray) -> tuple[list[str], np.ndarray]:
        if verify:
            files, labels = _verified(files, labels, skip_corrupt=skip_corrupt, convert_rgb=convert_rgb, max_pixels=max_pixels)
        empty = [name for name, count in zip(class_names, np.bincount(labels, minlength=len(class_names)), strict=True) if not count]
        if empty:
            raise InputError(f"{len(empty)} class folders have no usable images: {some(empty)}")
        every_file.extend(files)
        return files, labels

    def check_entries() -> None:
        if not skip_corrupt:
            entries.check("files, links or folders in place of images")
        elif entries.problems:
            lines = some(f"{file} {problem}" for file, problem in entries.problems.items())
            logger.warning("Skipped %d files, links or folders that cannot be read: %s", len(entries.problems), lines)

    def part(name: str) -> IndexedSplit:
        known = {entry.name: entry for entry in entries.folders(root)}
        meant = [known[name]] if name in known else [entry for entry in known.values() if same_part(entry.name, name)]
        if len(meant) != 1 or meant[0] == layout.train:
            raise InputError(f"{path!r} has no part {name!r} other than its training images. Its folders: {', '.join(known)}")
        found = stored(meant[0])
        check_entries()
        return _split(*usable(*found), cache_bytes, max_pixels)

    # All folders are checked before the first file is decoded.
    found = [stored(part_root) for part_root in (layout.train, layout.test, layout.validation) if part_root]
    check_entries()
    entries.log(root)
    for note in layout.notes:
        logger.warning("%s", note)
    parts = [usable(*one) for one in found]
    if not layout.test:
        files, labels = parts[0]
        counts = np.bincount(labels, minlength=len(class_names))
        if counts.min() < 2:
            few = [name for name, count in zip(class_names, counts, strict=True) if count < 2]
            raise InputError(f"{path!r} has classes with fewer than two images, from which none can be held out for testing: {some(few)}")
        parts = [([files[i] for i in indices], labels[indices]) for indices in held_out_fifth(labels, split_seed)]
    train, test, *own = (_split(*one, cache_bytes, max_pixels) for one in parts)
    return ImageData(
        f"folder:{printable(path)}",
        class_names,
        train,
        test,
        find_unreadable=lambda: unreadable(list(dict.fromkeys(every_file)), convert_rgb=convert_rgb, max_pixels=max_pixels),
        validation=own[0] if own else None,
        part=part if layout.test else without_parts,
    )


@without_autograph
def unreadable(files: list[str], *, convert_rgb: bool, max_pixels: int = MAX_PIXELS) -> dict[str, str]:
    """Maps the files that cannot be used to the reasons; shows a progress bar."""
    paths = tf.constant([os.fsencode(file) for file in files])
    examples = tf.data.Dataset.range(len(files)).map(lambda index: (index, tf.io.read_file(paths[index])), tf.data.AUTOTUNE)
    usable = usable_images(examples, len(files), max_pixels=max_pixels, convert_rgb=convert_rgb)
    return {file: _problem(file, convert_rgb, max_pixels) for index, file in enumerate(files) if index not in usable}


def _problem(file: str, convert_rgb: bool, max_pixels: int) -> str:
    try:
        encoded = pathlib.Path(file).read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return image_problem(encoded, max_pixels=max_pixels, convert_rgb=convert_rgb)


def _files(root: pathlib.Path, class_names, entries: Entries) -> tuple[list[str], np.ndarray]:
    files, labels = [], []
    for label, name in enumerate(class_names):
        before = len(entries.problems)
        found = [str(file) for file in entries.files(root / name)]
        if not found and len(entries.problems) == before:
            raise InputError(f"The class folder '{printable(root / name)}' contains no images ({', '.join(IMAGE_ENDINGS)})")
        files += found
        labels += [label] * len(found)
    return files, np.asarray(labels, np.int32)


def _verified(files, labels, *, skip_corrupt: bool, convert_rgb: bool, max_pixels: int):
    problems = unreadable(files, convert_rgb=convert_rgb, max_pixels=max_pixels)
    if not problems:
        return files, labels
    lines = some(f"{file} {problem}" for file, problem in problems.items())
    if not skip_corrupt:
        raise InputError(f"{len(problems)} of {len(files)} images cannot be used; --skip_corrupt skips them: {lines}")
    logger.warning("Skipped %d of %d images: %s", len(problems), len(files), lines)
    kept = [i for i, file in enumerate(files) if file not in problems]
    return [files[i] for i in kept], labels[kept]


def _split(files: list[str], labels: np.ndarray, cache_bytes: int, max_pixels: int) -> IndexedSplit:
    (read,) = readers(files, cache_bytes=cache_bytes, max_pixels=max_pixels)
    return IndexedSplit(labels, read, lambda index: printable(files[index]))
