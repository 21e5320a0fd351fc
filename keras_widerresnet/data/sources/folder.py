"""Class folders of JPEG and PNG files."""

from __future__ import annotations

import logging
import os
import pathlib

import numpy as np
import tensorflow as tf

from keras_widerresnet.data.images import checked, image_problem
from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.problems import usable_images
from keras_widerresnet.data.split import ImageData, IndexedSplit, held_out_fifth, without_parts
from keras_widerresnet.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png")
TEST_FOLDERS = ("test", "val", "validation")
CACHE_BYTES = 256 << 20
_SHOWN = 5


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
    """Images in `PATH/<class>/*.jpg`, a fifth of each class held out; or in `PATH/train/<class>` and `PATH/test|val/<class>`.

    Beside `test/`, `val/` or `validation/` holds validation images; other folders beside `train/` are parts to be had by name.

    Args:
        skip_corrupt: leave out, with a warning, files that do not decode or are not RGB.
        convert_rgb: take grey, alpha and CMYK images too, converted to RGB as they are read.
        verify: decode every file once before training; without it a bad file is found when it is reached.
        split_seed: draws the held-out fifth.
        cache_bytes: splits whose files are no larger in all are held in memory, encoded.
        max_pixels: see `images.checked`.

    Raises:
        InputError: naming the empty or unequal folders, or the files that do not decode or are not RGB.
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise InputError(f"No folder at {path!r}; folder: takes a folder with one sub-folder of JPEG or PNG files for each class")
    present = [name for name in TEST_FOLDERS if (root / name).is_dir()]
    is_split = (root / "train").is_dir() and bool(present)
    others = present[: 2 if present[0] == "test" else 1] if is_split else []
    train_root, *other_roots = [root / name for name in ("train", *others)] if is_split else [root]
    class_names = _class_names(train_root)
    every_file: list[str] = []

    def stored(part: pathlib.Path) -> tuple[list[str], np.ndarray]:
        names = _class_names(part)
        if names != class_names:
            raise InputError(f"{part} and {train_root} have different class folders: {sorted(set(names) ^ set(class_names))}")
        return _files(part, class_names)

    def usable(files: list[str], labels: np.ndarray) -> tuple[list[str], np.ndarray]:
        if verify:
            files, labels = _verified(files, labels, skip_corrupt=skip_corrupt, convert_rgb=convert_rgb, max_pixels=max_pixels)
        every_file.extend(files)
        return files, labels

    def part(name: str) -> IndexedSplit:
        known = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if name not in known or name == "train":
            raise InputError(f"{path!r} has no part {name!r} beside its training images; its folders: {', '.join(known)}")
        return _split(*usable(*stored(root / name)), cache_bytes, max_pixels)

    # All folders are looked at before the first file is decoded.
    parts = [usable(*found) for found in [stored(part_root) for part_root in (train_root, *other_roots)]]
    if not is_split:
        files, labels = parts[0]
        if np.bincount(labels, minlength=len(class_names)).min() < 2:
            raise InputError(f"{path!r} has a class with fewer than two images: none could be held out for testing")
        parts = [([files[i] for i in indices], labels[indices]) for indices in held_out_fifth(labels, split_seed)]
    train, test, *own = (_split(*found, cache_bytes, max_pixels) for found in parts)
    return ImageData(
        f"folder:{path}",
        class_names,
        train,
        test,
        find_unreadable=lambda: unreadable(list(dict.fromkeys(every_file)), convert_rgb=convert_rgb, max_pixels=max_pixels),
        validation=own[0] if own else None,
        part=part if is_split else without_parts,
    )


def unreadable(files: list[str], *, convert_rgb: bool, max_pixels: int = MAX_PIXELS) -> dict[str, str]:
    """File -> what is wrong with it, for those that cannot be used; shows a progress bar."""
    paths = tf.constant(files)
    examples = tf.data.Dataset.range(len(files)).map(lambda index: (index, tf.io.read_file(paths[index])), tf.data.AUTOTUNE)
    usable = usable_images(examples, len(files), max_pixels=max_pixels, convert_rgb=convert_rgb)
    return {file: _problem(file, convert_rgb, max_pixels) for index, file in enumerate(files) if index not in usable}


def _problem(file: str, convert_rgb: bool, max_pixels: int) -> str:
    try:
        encoded = pathlib.Path(file).read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return image_problem(encoded, max_pixels=max_pixels, convert_rgb=convert_rgb)


def _class_names(root: pathlib.Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if not names:
        raise InputError(f"{str(root)!r} has no class folders; folder: takes one sub-folder of JPEG or PNG files for each class")
    return names


def _files(root: pathlib.Path, class_names) -> tuple[list[str], np.ndarray]:
    files, labels = [], []
    for label, name in enumerate(class_names):
        found = sorted(str(file) for file in (root / name).rglob("*") if file.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"Class folder {str(root / name)!r} holds no image ({', '.join(SUFFIXES)})")
        files += found
        labels += [label] * len(found)
    return files, np.asarray(labels, np.int32)


def _verified(files, labels, *, skip_corrupt: bool, convert_rgb: bool, max_pixels: int):
    problems = unreadable(files, convert_rgb=convert_rgb, max_pixels=max_pixels)
    if not problems:
        return files, labels
    lines = [f"{file} {problem}" for file, problem in list(problems.items())[:_SHOWN]]
    lines += [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    if not skip_corrupt:
        raise InputError(f"{len(problems)} of {len(files)} images cannot be used; --skip_corrupt leaves them out: " + "; ".join(lines))
    logger.warning("Left out %d of %d images: %s", len(problems), len(files), "; ".join(lines))
    kept = [i for i, file in enumerate(files) if file not in problems]
    missing = set(np.unique(labels)) - set(np.unique(labels[kept]))
    if missing:
        raise InputError(f"No usable image is left in {len(missing)} class folders")
    return [files[i] for i in kept], labels[kept]


def _split(files: list[str], labels: np.ndarray, cache_bytes: int, max_pixels: int) -> IndexedSplit:
    name_of = files.__getitem__
    if sum(os.path.getsize(file) for file in files) > cache_bytes:
        paths = tf.constant(files)
        return IndexedSplit(labels, lambda index: checked(tf.io.read_file(paths[index]), max_pixels), name_of)
    encoded = tf.constant([pathlib.Path(file).read_bytes() for file in files])
    return IndexedSplit(labels, lambda index: checked(encoded[index], max_pixels), name_of)
