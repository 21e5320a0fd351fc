"""The images on which every epoch is scored and the best one chosen, so that the test images are kept for the end."""

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
# So that the arithmetic of `ShardedSplit.spread` stays exact in 64 bits.
_MAX_DENOMINATOR = 1_000_000

Data = TypeVar("Data", ImageData, SegmentationData)
Split = TypeVar("Split", IndexedSplit | ShardedSplit, SegmentationSplit)


def with_validation(data: Data, choice: str, seed: int) -> tuple[Data, str]:
    """A data set with `validation`, and without those of its training images that are held out for it.

    Args:
        data: as it was loaded; its test images stay as they are.
        choice: `"none"` for the test images; `"auto"` for the set's own validation images, or a tenth of the training images where it has
            none; a share of the training images between 0 and 1, such as `"0.1"`, which is held out; or the name of a part of the set.
        seed: draws the held-out images. In TFRecord files they are spread evenly, whatever the seed and the classes.

    Returns:
        The data set, and what its validation images are in words, e.g. `"10 % of the training images, held out"`.

    Raises:
        InputError: if nothing would be left to train on, of some class or at all, or to validate on, or there is no part of that name.
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
    """What is left of a split, and a share of it: of every class where images have one."""
    exact = fractions.Fraction(str(share)).limit_denominator(_MAX_DENOMINATOR)
    if isinstance(split, ShardedSplit):
        train, validation = split.spread(exact)
        if not train.size or not validation.size:
            raise _too_few(split.size, share, f"of each file of n images it takes ⌊n · {share:g}⌋, {validation.size} in all")
        return train, validation
    labels = split.labels if isinstance(split, IndexedSplit) else np.zeros(split.size, np.int32)
    counts = np.unique(labels, return_counts=True)[1]
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    drawn = _drawn(groups, exact, seed)
    kept = np.setdiff1d(np.arange(split.size), drawn)
    if lost := len(groups) - len(np.unique(labels[kept])):
        of = f" of {lost} of the {len(groups)} classes, of which the smallest has {counts.min()}" if len(groups) > 1 else ""
        raise _too_few(split.size, share, f"none would be left to train on{of}")
    return split.subset(kept), split.subset(drawn)


def _drawn(groups: list[np.ndarray], share: fractions.Fraction, seed: int) -> np.ndarray:
    """A share of the indices in each group, rounded, but one at least, in order."""
    generator = np.random.default_rng(seed)
    drawn = [generator.choice(group, round(len(group) * share), replace=False) for group in groups]
    # Drawn last, so that a split in which no share is rounded to nothing is what it was before this was so.
    drawn += [generator.choice(group, 1) for group, found in zip(groups, list(drawn), strict=True) if not len(found)]
    return np.sort(np.concatenate(drawn))


def _too_few(size: int, share: float, why: str) -> InputError:
    return InputError(
        f"{100 * share:g} % of {size} training images cannot be held out for validation: {why}. "
        "Choose another share, or --validation=none, which takes the test images"
    )
