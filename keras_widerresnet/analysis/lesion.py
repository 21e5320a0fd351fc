"""Lesion studies (Veit et al. 2016): what it costs a trained network to lose units, or to have two of them in each other's place."""

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
    """What is done to the units, numbered from 0.

    Args:
        dropped: units whose block gives zero; their shortcut, with its projection, stays.
        swapped: two units that change places.
    """

    dropped: tuple[int, ...] = ()
    swapped: tuple[int, int] | None = None

    @property
    def first(self) -> int | None:
        """The first unit that is touched."""
        return min((*self.dropped, *(self.swapped or ())), default=None)


INTACT = Lesion()


def single_lesions(chain: ResidualChain) -> list[Lesion]:
    """Every unit dropped alone."""
    return [Lesion((index,)) for index in range(len(chain.links))]


def random_lesions(chain: ResidualChain, counts: Sequence[int], samples: int, seed: int = 0) -> list[Lesion]:
    """For each count `samples` random sets of units to drop, drawn by `seed`."""
    units, generator = len(chain.links), np.random.default_rng(seed)
    if not all(1 <= count <= units for count in counts):
        raise InputError(f"Between 1 and {units} units can be dropped. Received: {list(counts)}")
    drawn = [generator.choice(units, count, replace=False) for count in counts for _ in range(samples)]
    return [Lesion(tuple(sorted(map(int, chosen)))) for chosen in drawn]


def swappable(chain: ResidualChain) -> list[Lesion]:
    """Every pair of units that can change places: equal shapes, and identity shortcuts."""
    same = [(k, link.shapes) for k, link in enumerate(chain.links) if link.shortcut is None]
    return [Lesion(swapped=(a, b)) for a, shape in same for b, other in same if a < b and shape == other]


def lesion_errors(
    chain: ResidualChain, images: np.ndarray, labels: np.ndarray, lesions: Sequence[Lesion], *, batch_size: int = BATCH
) -> np.ndarray:
    """Share of wrongly classified images under each lesion, float (lesions,); shows a progress bar.

    What comes before the first unit that a lesion touches is computed once for all lesions.

    Args:
        images: float (images, …) as the network takes them.
        labels: int (images,).

    Raises:
        InputError: for a lesion that the network does not have, or no images.
    """
    if len(images) < 1 or len(images) != len(labels):
        raise InputError(f"As many images as labels are needed, one at least. Received: {len(images)} images, {len(labels)} labels")
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
            raise InputError(f"Only units of one shape and with identity shortcuts can be swapped: {sorted(pairs)}. Received: {lesion}")
