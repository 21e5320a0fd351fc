"""Checks of mask values against a label map: classes that no mask contains, masks without labelled pixels, unexpected palettes."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_widerresnet.data.masks import ranges, stored_values
from keras_widerresnet.data.mat import MAT_SUFFIX
from keras_widerresnet.data.streams import elements
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED, LabelMap, voc_palette
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.texts import some
from keras_widerresnet.tracing import without_autograph

logger = logging.getLogger(__name__)

VALUES = 256
# Label maps whose original mask files are palette PNGs: a different palette means a different set of classes.
WITH_PALETTE = ("voc",)
NEAR = 8  # tolerance per colour channel; VOC's colours differ by at least 32


def check_training_masks(files: Sequence[pathlib.Path], labels: LabelMap, *, is_void_said: bool) -> np.ndarray:
    """Returns which classes each mask contains, bool (masks, classes); shows a progress bar.

    Logs the number of masks without labelled pixels and, in one line, the names of the classes that no mask contains.

    Args:
        files: masks that can be decoded.
        labels: what their values mean.
        is_void_said: whether the user or the data set states that 255 is ignored; otherwise it may be a class that was not named.

    Raises:
        InputError: if a mask's palette differs from the data set's, if no pixel of any mask belongs to a class, or if 255 occurs without
            a stated meaning while a class does not occur or there is only one class.
    """
    occurs, pixels = _occurring(files, labels, "training")
    absent = [labels.class_names[k] for k in np.flatnonzero(occurs.sum(axis=0) == 0)]
    only = labels.class_names if labels.classes == 1 else ()
    if (absent or only) and pixels[IGNORED] and IGNORED in labels.ignored_ids and not is_void_said:
        names = ("background", *only) if only else labels.class_names
        meant = [f"{IGNORED}={name}" if name == (absent or names)[-1] else name for name in names]
        raise InputError(
            f"The training masks contain the values {ranges(np.flatnonzero(pixels))}: 255 would be ignored, and "
            f"{f'{_named(only)} would be the only class' if only else f'{_named(absent)} would never be learned'}. If 255 is a class, "
            f"write names={'+'.join(meant)}. If it is to be ignored, write ignore=255"
        )
    if absent:
        logger.warning(
            "NEVER LEARNED: no pixel of the training masks belongs to %s; the masks contain the values %s",
            _named(absent),
            ranges(np.flatnonzero(pixels)),
        )
    return occurs


def check_test_masks(files: Sequence[pathlib.Path], labels: LabelMap, part: str) -> np.ndarray:
    """Same as `check_training_masks`, but classes may be absent.

    Raises:
        InputError: if a mask's palette differs from the data set's, or if no pixel of any mask belongs to a class.
    """
    return _occurring(files, labels, part)[0]


def which_values(files: Sequence[pathlib.Path], class_names: Sequence[str]) -> str:
    """Returns a hint for masks with values other than 0, 1, …: the values that they contain, and how to assign names to them."""
    values = np.flatnonzero(sum(elements(_counts(files).ignore_errors()), np.zeros(VALUES, np.int64)))
    held = f"Together, the masks contain the values {ranges(values)}; names=VALUE=NAME+… assigns values to classes"
    example = "+".join(f"{value}={name}" for value, name in zip(values, class_names, strict=False))
    return f"{held}, e.g. names={example}" if 1 < len(values) == len(class_names) else held


def palette_problem(file: pathlib.Path, used: np.ndarray, labels: LabelMap) -> str:
    """Returns how a palette mask's colours for the values that it uses, int (n,), differ from its data set's; "" if they do not.

    A palette that maps each value to the grey level of that number is ignored.
    """
    with Image.open(file) as image:
        palette = np.reshape(image.getpalette("RGB") or [], (-1, 3)) if image.mode == "P" else np.zeros((0, 3), int)
    used = used[used < len(palette)]
    expected = voc_palette().astype(int)
    expected[list(labels.stored_ids)] = labels.colors
    other = used[(np.abs(palette[used] - expected[used]) > NEAR).any(axis=1)]
    if not len(other) or (palette[used] == used[:, None]).all():
        return ""
    value = int(other[0])
    name = labels.class_names[labels.to_train()[value]] if labels.to_train()[value] != IGNORED else "ignored"
    return (
        f"has a different palette: its value {value} has the colour {_color(palette[value])} instead of {labels.name}'s "
        f"{_color(expected[value])} ({name})"
    )


def _occurring(files: Sequence[pathlib.Path], labels: LabelMap, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns which classes each mask contains, bool (masks, classes), and the total pixels of each value, int64 (256,)."""
    occurs, pixels = np.zeros((len(files), labels.classes), bool), np.zeros(VALUES, np.int64)
    problems = []
    counted = progress_bar(elements(_counts(files, labels)), desc=f"counting {part} masks", total=len(files), delay=2)
    for index, (file, counts) in enumerate(zip(files, counted, strict=True)):
        occurs[index] = counts[list(labels.stored_ids)] > 0
        pixels += counts
        has_palette = labels.name in WITH_PALETTE and file.suffix != MAT_SUFFIX
        if has_palette and (problem := palette_problem(file, np.flatnonzero(counts), labels)):
            problems.append(f"{file} {problem}")
    if problems:
        raise InputError(
            f"{len(problems)} of {len(files)} {part} masks cannot be used, because different colours mean different classes; masks must "
            f"have {labels.name}'s palette or be grey: {some(problems)}"
        )
    void = [files[index] for index in np.flatnonzero(occurs.sum(axis=1) == 0).tolist()]
    if len(void) == len(files):
        raise InputError(
            f"No pixel of the {len(files)} {part} masks belongs to a class: they contain the values {ranges(np.flatnonzero(pixels))}; "
            f"ignored are {ranges(labels.ignored_ids)}"
        )
    if void:
        logger.warning("%d of %d %s masks have no labelled pixel: %s", len(void), len(files), part, some(void))
    return occurs, pixels


@without_autograph
def _counts(files: Sequence[pathlib.Path], labels: LabelMap | None = None) -> tf.data.Dataset:
    """Returns the number of pixels of each value, int64 (256,), for each mask."""

    def counted(path):
        values = tf.cast(stored_values(tf.io.read_file(path), labels), tf.int32)
        return tf.math.bincount(tf.reshape(values, [-1]), minlength=VALUES, maxlength=VALUES, dtype=tf.int64)

    paths = tf.data.Dataset.from_tensor_slices([bytes(file) for file in files])
    return paths.map(counted, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _color(color: Sequence[int]) -> str:
    return f"({', '.join(str(int(level)) for level in color)})"
