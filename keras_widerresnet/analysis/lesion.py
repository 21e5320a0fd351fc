"""Lesion studies (Veit et al. 2016): the error of a trained network after units are dropped or swapped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.analysis.chain import ResidualChain
from keras_widerresnet.errors import InputError
from keras_widerresnet.progress import progress_bar

BATCH = 250


@dataclasses.dataclass(frozen=True)
class Lesion:
    """A change of the units, numbered from 0.

    Args:
        dropped: units whose block is replaced by zero; their shortcut, with its projection, stays.
        swapped: two units that are swapped.
    """

    dropped: tuple[int, ...] = ()
    swapped: tuple[int, int] | None = None

    @property
    def first(self) -> int | None:
        """The first unit that is changed; None if there is none."""
        return min((*self.dropped, *(self.swapped or ())), default=None)


INTACT = Lesion()


def single_lesions(chain: ResidualChain) -> list[Lesion]:
    """Returns one lesion per unit, which drops only that unit."""
    return [Lesion((index,)) for index in range(len(chain.links))]


def random_lesions(chain: ResidualChain, counts: Sequence[int], samples: int, seed: int = 0) -> list[Lesion]:
    """Returns, for each count, `samples` random sets of units to drop, drawn with `seed`."""
    units, generator = len(chain.links), np.random.default_rng(seed)
    if not all(1 <= count <= units for count in counts):
        raise InputError(f"Between 1 and {units} units can be dropped. Received: {list(counts)}")
    drawn = [generator.choice(units, count, replace=False) for count in counts for _ in range(samples)]
    return [Lesion(tuple(sorted(map(int, chosen)))) for chosen in drawn]


def swappable(chain: ResidualChain) -> list[Lesion]:
    """Returns every swap of two units with equal shapes and identity shortcuts."""
    same = [(k, link.shapes) for k, link in enumerate(chain.links) if link.shortcut is None]
    return [Lesion(swapped=(a, b)) for a, shape in same for b, other in same if a < b and shape == other]


def lesion_errors(
    chain: ResidualChain, images: np.ndarray, labels: np.ndarray, lesions: Sequence[Lesion], *, batch_size: int = BATCH
) -> np.ndarray:
    """Returns the share of misclassified images under each lesion, float (lesions,); shows a progress bar.

    The layers before the first unit that a lesion changes are computed once for all lesions.

    Args:
        images: input of the network, float (images, …).
        labels: int (images,).

    Raises:
        InputError: if a lesion does not suit the network, or there are no images.
    """
    if len(images) < 1 or len(images) != len(labels):
        raise InputError(f"Images and labels must be of equal number, at least one. Received: {len(images)} images, {len(labels)} labels")
    _check(chain, lesions)
    links = chain.links

    def unit(place, y, lesion):
        index = dict([lesion.swapped, lesion.swapped[::-1]]).get(place, place) if lesion.swapped else place
        x = _applied(links[place].before, y)
        around = _applied(links[index].shortcut, x)
        return around if place in lesion.dropped else around + _applied(links[index].block, x)

    wrong = np.zeros(len(lesions), int)
    with progress_bar(desc="lesions", total=len(images) * len(lesions)) as bar:
        for start in range(0, len(images), batch_size):
            truth = labels[start : start + batch_size]
            reached = [tf.convert_to_tensor(images[start : start + batch_size])]
            for place in range(len(links)):
                reached.append(unit(place, reached[-1], INTACT))
            for number, lesion in enumerate(lesions):
                first = len(links) if lesion.first is None else lesion.first
                y = reached[first]
                for place in range(first, len(links)):
                    y = unit(place, y, lesion)
                wrong[number] += int((chain.head(y, training=False).numpy().argmax(axis=-1) != truth).sum())
                bar.update(len(truth))
    return wrong / len(images)


def _applied(model: keras.Model | None, x: tf.Tensor) -> tf.Tensor:
    return x if model is None else model(x, training=False)


def _check(chain: ResidualChain, lesions: Sequence[Lesion]) -> None:
    pairs = {lesion.swapped for lesion in swappable(chain) if lesion.swapped}
    for lesion in lesions:
        if any(not 0 <= index < len(chain.links) for index in lesion.dropped):
            raise InputError(f"The network has {len(chain.links)} units, numbered from 0. Received: {lesion}")
        if lesion.swapped and tuple(sorted(lesion.swapped)) not in pairs:
            raise InputError(f"Only units of the same shape with identity shortcuts can be swapped: {sorted(pairs)}. Received: {lesion}")
