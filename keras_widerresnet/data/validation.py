"""Validation images, on which every epoch is scored and the best one chosen; the test images are only used at the end."""

from __future__ import annotations

import dataclasses
import fractions
from typing import TypeVar

import numpy as np

from keras_widerresnet.data.names import NO_VALIDATION, OWN_VALIDATION, held_out_share
from keras_widerresnet.data.pairs import SegmentationData, SegmentationSplit
from keras_widerresnet.data.split import ImageData, IndexedSplit, ShardedSplit
from keras_widerresnet.errors import InputError

DEFAULT_SHARE = 0.1
# Keeps the arithmetic of `ShardedSplit.spread` exact in 64 bits.
_MAX_DENOMINATOR = 1_000_000

Data = TypeVar("Data", ImageData, SegmentationData)
Split = TypeVar("Split", IndexedSplit | ShardedSplit, SegmentationSplit)


def with_validation(data: Data, choice: str, seed: int) -> tuple[Data, str]:
    """Adds `validation` to a data set, and removes images held out for it from the training images.

    Args:
        data: the data set as loaded; its test images are not changed.
        choice: `"none"` for the test images; `"auto"` for the data set's own validation images or, if it has none, a tenth of the training
            images; a share of the training images between 0 and 1 to hold out, such as `"0.1"`; or the name of a part of the data set.
        seed: random seed of the held-out images. In TFRecord files they are evenly spaced, regardless of the seed and the classes.

    Returns:
        The data set, and a description of its validation images, e.g. `"10 % of the training images, held out"`.

    Raises:
        InputError: if no images, or none of some class, would be left for training, if there would be none for validation, or if there
            is no part of that name.
    """
    if choice == NO_VALIDATION:
        return dataclasses.replace(data, validation=data.test), "the test images"
    if choice == OWN_VALIDATION and data.validation is not None:
        return data, "its validation images"
    share = DEFAULT_SHARE if choice == OWN_VALIDATION else held_out_share(choice)
    if share is None:
        return dataclasses.replace(data, validation=data.part(choice)), f"its part {choice!r}"
    train, validation = _held_out(data.train, share, seed)
    return dataclasses.replace(data, train=train, validation=validation), f"{100 * share:g} % of the training images, held out"


def _held_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Divides a split into the rest and a share, which is stratified by class if images have one."""
    exact = fractions.Fraction(str(share)).limit_denominator(_MAX_DENOMINATOR)
    if isinstance(split, ShardedSplit):
        train, validation = split.spread(exact)
        if not train.size or not validation.size:
            raise _too_few(split.size, share, f"it consists of ⌊n · {share:g}⌋ images of each file of n images, {validation.size} in total")
        return train, validation
    labels = split.labels if isinstance(split, IndexedSplit) else np.zeros(split.size, np.int32)
    counts = np.unique(labels, return_counts=True)[1]
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    drawn = _drawn(groups, exact, seed)
    kept = np.setdiff1d(np.arange(split.size), drawn)
    if lost := len(groups) - len(np.unique(labels[kept])):
        of = f" of {lost} of the {len(groups)} classes (the smallest has {counts.min()})" if len(groups) > 1 else ""
        raise _too_few(split.size, share, f"no images{of} would be left for training")
    return split.subset(kept), split.subset(drawn)


def _drawn(groups: list[np.ndarray], share: fractions.Fraction, seed: int) -> np.ndarray:
    """Draws a share of the indices of each group, rounded, at least one; sorted."""
    generator = np.random.default_rng(seed)
    drawn = [generator.choice(group, round(len(group) * share), replace=False) for group in groups]
    # Drawn last, so that splits in which no share is rounded to zero are the same as in earlier versions.
    drawn += [generator.choice(group, 1) for group, found in zip(groups, list(drawn), strict=True) if not len(found)]
    return np.sort(np.concatenate(drawn))


def _too_few(size: int, share: float, why: str) -> InputError:
    return InputError(
        f"{100 * share:g} % of {size} training images cannot be held out for validation: {why}. "
        "Choose another share, or --validation=none to validate on the test images"
    )
