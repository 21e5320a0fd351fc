"""What the masks of a part hold, against what a label map says: classes that are in no mask, masks of nothing, other palettes."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_widerresnet.data.masks import ranges, stored_values
from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED, LabelMap, voc_palette
from keras_widerresnet.progress import progress_bar
from keras_widerresnet.texts import some

logger = logging.getLogger(__name__)

VALUES = 256
# Label maps whose own mask files are palette PNGs: other colours mean other classes.
WITH_PALETTE = ("voc",)
NEAR = 8  # levels in which a colour may differ; VOC's differ by 32 and more


def check_training_masks(files: Sequence[pathlib.Path], labels: LabelMap, *, is_void_said: bool) -> np.ndarray:
    """Which classes are in each mask, bool (masks, classes); shows a progress bar.

    Masks without a labelled pixel are counted in the log, and classes that are in no mask are named in one line.

    Args:
        files: masks that decode.
        labels: what their values mean.
        is_void_said: whether the user, or the data set, says that 255 is ignored; else it may be a class that nobody named.

    Raises:
        InputError: if a mask has another palette than the data set's own, no pixel of all masks is of a class, or 255 occurs that nothing
            was said about, while a class does not occur or there is one class alone.
    """
    occurs, pixels = _occurring(files, labels, "training")
    absent = [labels.class_names[k] for k in np.flatnonzero(occurs.sum(axis=0) == 0)]
    only = labels.class_names if labels.classes == 1 else ()
    if (absent or only) and pixels[IGNORED] and IGNORED in labels.ignored_ids and not is_void_said:
        names = ("background", *only) if only else labels.class_names
        meant = [f"{IGNORED}={name}" if name == (absent or names)[-1] else name for name in names]
        raise InputError(
            f"The training masks hold the values {ranges(np.flatnonzero(pixels))}: 255 would be ignored, and "
            f"{f'{_named(only)} be all that there is' if only else f'{_named(absent)} never be learned'}. If 255 is a class, say which: "
            f"names={'+'.join(meant)}. If it is to be ignored, say ignore=255"
        )
    if absent:
        logger.warning(
            "NEVER LEARNED: no pixel of the training masks is of %s; the values in them are %s",
            _named(absent),
            ranges(np.flatnonzero(pixels)),
        )
    return occurs


def check_test_masks(files: Sequence[pathlib.Path], labels: LabelMap, part: str) -> np.ndarray:
    """As `check_training_masks`, but a class need not occur.

    Raises:
        InputError: if a mask has another palette than the data set's own, or no pixel of all masks is of a class.
    """
    return _occurring(files, labels, part)[0]


def which_values(files: Sequence[pathlib.Path], class_names: Sequence[str]) -> str:
    """What to write where masks hold other values than 0, 1, …: which they hold, and how names say what they mean."""
    values = np.flatnonzero(sum(_counts(files).ignore_errors().as_numpy_iterator(), np.zeros(VALUES, np.int64)))
    held = f"All masks together hold the values {ranges(values)}; names=VALUE=NAME+… says which value a class has"
    example = "+".join(f"{value}={name}" for value, name in zip(values, class_names, strict=False))
    return f"{held}, such as names={example}" if 1 < len(values) == len(class_names) else held


def palette_problem(file: pathlib.Path, used: np.ndarray, labels: LabelMap) -> str:
    """How the colours of the values that a palette mask uses, int (n,), differ from its data set's; "" where they do not.

    A palette in which each value is the grey level of that number is none.
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
        f"has another palette: its value {value} has the colour {_color(palette[value])}, where {labels.name}'s is "
        f"{_color(expected[value])} ({name})"
    )


def _occurring(files: Sequence[pathlib.Path], labels: LabelMap, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Which classes are in each mask, bool (masks, classes), and the pixels of each value in all, int64 (256,)."""
    occurs, pixels = np.zeros((len(files), labels.classes), bool), np.zeros(VALUES, np.int64)
    problems = []
    counted = progress_bar(_counts(files).as_numpy_iterator(), desc=f"counting {part} masks", total=len(files), delay=2)
    for index, (file, counts) in enumerate(zip(files, counted, strict=True)):
        occurs[index] = counts[list(labels.stored_ids)] > 0
        pixels += counts
        if labels.name in WITH_PALETTE and (problem := palette_problem(file, np.flatnonzero(counts), labels)):
            problems.append(f"{file} {problem}")
    if problems:
        raise InputError(
            f"{len(problems)} of {len(files)} {part} masks cannot be used, as other colours mean other classes; masks have {labels.name}'s "
            f"palette, or none and are grey: {some(problems)}"
        )
    void = [files[index] for index in np.flatnonzero(occurs.sum(axis=1) == 0).tolist()]
    if len(void) == len(files):
        raise InputError(
            f"No pixel of the {len(files)} {part} masks is of a class: they hold the values {ranges(np.flatnonzero(pixels))}, and "
            f"{ranges(labels.ignored_ids)} are ignored"
        )
    if void:
        logger.warning("%d of %d %s masks have no pixel of a class: %s", len(void), len(files), part, some(void))
    return occurs, pixels


def _counts(files: Sequence[pathlib.Path]) -> tf.data.Dataset:
    """The pixels of each value, int64 (256,), of each mask."""

    def counted(path):
        values = tf.cast(stored_values(tf.io.read_file(path)), tf.int32)
        return tf.math.bincount(tf.reshape(values, [-1]), minlength=VALUES, maxlength=VALUES, dtype=tf.int64)

    paths = tf.data.Dataset.from_tensor_slices([bytes(file) for file in files])
    return paths.map(counted, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _color(color: Sequence[int]) -> str:
    return f"({', '.join(str(int(level)) for level in color)})"
