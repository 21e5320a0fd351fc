"""Effective depth: how many successive residual blocks the gradient still crosses with a magnitude that matters (paper)."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from keras_widerresnet.analysis.chain import ResidualChain, residual_chain
from keras_widerresnet.analysis.config import THRESHOLD
from keras_widerresnet.analysis.gradients import Decomposition, Loss, cross_entropy
from keras_widerresnet.errors import InputError

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class EffectiveDepth:
    """Effective depth of a network on some images.

    The magnitude of a term is the norm of its gradient with respect to all weights of the unit's block together, for one image's own
    loss; magnitudes are summed over the images. The effective depth of unit i is the smallest l >= 1 such that the terms that cross l later
    blocks or more hold less than `threshold` of the sum over all terms of that unit: its gradient crosses l - 1 later blocks, and with its
    own block trains paths of l blocks. That of the network is the largest of its units'.

    Args:
        names: of the units, first to last.
        threshold: share of the gradient below which it does not matter.
        magnitudes: (images, n, n): image, unit, number of later blocks crossed; 0 where there are not so many.
        units: effective depth of each unit, at most n - i + 1 for unit i.
        interval: bootstrap interval of the network's, lowest and highest, for the choice of the images.
    """

    names: tuple[str, ...]
    threshold: float
    magnitudes: np.ndarray
    units: tuple[int, ...]
    interval: tuple[int, int]

    @property
    def depth(self) -> int:
        """Effective depth l of the network."""
        return max(self.units)

    @property
    def shares(self) -> np.ndarray:
        """Float (n, n): share of unit i's gradient in the terms that cross m later blocks; a row of zeros where there is no gradient."""
        return shares(self.magnitudes.sum(axis=0))

    def over_deepened(self) -> str:
        """In words, whether the network is over-deepened: deeper than its gradient trains end to end."""
        count, low, high = len(self.names), *self.interval
        measured = f"effective depth {self.depth} ({low} to {high}, {CONFIDENCE:.0%} of resamplings of {len(self.magnitudes)} images)"
        limit = f"terms that hold less than {self.threshold:.0%} of a unit's gradient do not count"
        if self.depth >= count:
            return f"Not over-deepened: {count} units, {measured}; {limit}. The gradient of its first unit crosses all later blocks."
        return (
            f"Over-deepened: {count} units, {measured}; {limit}. None of its sub-networks is trained end to end deeper than {self.depth} "
            f"units: by the paper's argument, further units widen the ensemble, and wider ones would serve better."
        )


def effective_depth(
    network: keras.Model | ResidualChain,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    threshold: float = THRESHOLD,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> EffectiveDepth:
    """Measures a network's effective depth; see `EffectiveDepth` for what that is.

    Args:
        network: a model that `residual_chain` takes, or the chain.
        images: float (images, …) as the network takes them.
        labels: of each image, as the loss takes them.
        threshold: in (0, 1).
        loss: function of labels and outputs to a scalar.
        seed: of the bootstrap.

    Raises:
        InputError: for a network that is no chain of units, no images, or a threshold out of range.
    """
    if not 0 < threshold < 1:
        raise InputError(f"`threshold` must be between 0 and 1. Received: {threshold}")
    if len(images) < 1 or len(images) != len(labels):
        raise InputError(f"As many images as labels are needed, one at least. Received: {len(images)} images, {len(labels)} labels")
    chain = network if isinstance(network, ResidualChain) else residual_chain(network)
    magnitudes = Decomposition(chain, loss).image_norms(images, labels)
    return from_magnitudes(magnitudes, chain.names, threshold=threshold, seed=seed)


def from_magnitudes(magnitudes: np.ndarray, names: tuple[str, ...], *, threshold: float = THRESHOLD, seed: int = 0) -> EffectiveDepth:
    """Effective depth from `Decomposition.image_norms`, (images, n, n), with the bootstrap over the images drawn by `seed`."""
    if not np.isfinite(magnitudes).all():
        raise InputError("The gradient is not finite: the network's weights are damaged, or its loss is no number on these images")
    count = len(magnitudes)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    resampled = depths(np.tensordot(drawn.astype(float), magnitudes, 1), threshold).max(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, (tail, 100 - tail), method="nearest")
    units = depths(magnitudes.sum(axis=0), threshold)
    return EffectiveDepth(tuple(names), threshold, magnitudes, tuple(units.tolist()), (int(low), int(high)))


def shares(magnitudes: np.ndarray) -> np.ndarray:
    """Magnitudes (…, n) as shares of their sum over the last axis; zeros where that is 0."""
    total = magnitudes.sum(axis=-1, keepdims=True)
    return np.divide(magnitudes, total, out=np.zeros(magnitudes.shape), where=total > 0)


def depths(magnitudes: np.ndarray, threshold: float) -> np.ndarray:
    """Smallest l >= 1 with a share below the threshold in m >= l, int (…), of magnitudes (…, n) by number m of later blocks crossed."""
    reversed_sums = shares(magnitudes)[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return np.maximum(1, (reversed_sums >= threshold).sum(axis=-1))
