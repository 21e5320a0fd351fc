"""Effective depth: the number of successive residual blocks that the gradient crosses with a non-negligible magnitude (paper)."""

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

    The magnitude of a term is the norm of its gradient with respect to all weights of the unit's block together, for the loss of one
    image; magnitudes are summed over the images. The effective depth of unit i is the smallest l >= 1 such that the terms that cross l or
    more later blocks make up less than `threshold` of the sum over all terms of that unit: its gradient crosses l - 1 later blocks, and
    trains paths of l blocks including its own. The effective depth of the network is the largest one of its units.

    Args:
        names: names of the units, first to last.
        threshold: share of the gradient below which it is negligible.
        magnitudes: (images, n, n): image, unit, number of later blocks crossed; 0 if there are fewer later blocks.
        units: effective depth of each unit, at most n - i + 1 for unit i.
        interval: lower and upper end of the network's bootstrap interval over the choice of images.
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
        """Share of unit i's gradient in the terms that cross m later blocks, float (n, n); zeros for units without a gradient."""
        return shares(self.magnitudes.sum(axis=0))

    def over_deepened(self) -> str:
        """States in words whether the network is over-deepened, i.e. deeper than its gradient trains end to end."""
        count, low, high = len(self.names), *self.interval
        measured = f"effective depth {self.depth} ({low} to {high}, {CONFIDENCE:.0%} of resamplings of {len(self.magnitudes)} images)"
        limit = f"terms with less than {self.threshold:.0%} of a unit's gradient do not count"
        if self.depth >= count:
            return f"Not over-deepened: {count} units, {measured}; {limit}. The gradient of its first unit crosses all later blocks."
        return (
            f"Over-deepened: {count} units, {measured}; {limit}. None of its sub-networks is trained end to end deeper than {self.depth} "
            f"units: by the paper's argument, additional units only widen the ensemble, and wider units would be more effective."
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
    """Measures a network's effective depth, as defined in `EffectiveDepth`.

    Args:
        network: a model that `residual_chain` accepts, or its chain.
        images: input of the network, float (images, …).
        labels: label of each image, as the loss expects them.
        threshold: share in (0, 1), see `EffectiveDepth`.
        loss: function of labels and outputs that returns a scalar.
        seed: seed of the bootstrap.

    Raises:
        InputError: if the network is not a chain of units, there are no images, or the threshold is out of range.
    """
    if not 0 < threshold < 1:
        raise InputError(f"`threshold` must be between 0 and 1. Received: {threshold}")
    if len(images) < 1 or len(images) != len(labels):
        raise InputError(f"Images and labels must be of equal number, at least one. Received: {len(images)} images, {len(labels)} labels")
    chain = network if isinstance(network, ResidualChain) else residual_chain(network)
    magnitudes = Decomposition(chain, loss).image_norms(images, labels)
    return from_magnitudes(magnitudes, chain.names, threshold=threshold, seed=seed)


def from_magnitudes(magnitudes: np.ndarray, names: tuple[str, ...], *, threshold: float = THRESHOLD, seed: int = 0) -> EffectiveDepth:
    """Returns the effective depth for `Decomposition.image_norms`, (images, n, n), with a bootstrap over the images seeded by `seed`."""
    if not np.isfinite(magnitudes).all():
        raise InputError("The gradient is not finite: the network's weights are damaged, or its loss on these images is NaN or infinite")
    count = len(magnitudes)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    resampled = depths(np.tensordot(drawn.astype(float), magnitudes, 1), threshold).max(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, (tail, 100 - tail), method="nearest")
    units = depths(magnitudes.sum(axis=0), threshold)
    return EffectiveDepth(tuple(names), threshold, magnitudes, tuple(units.tolist()), (int(low), int(high)))


def shares(magnitudes: np.ndarray) -> np.ndarray:
    """Returns magnitudes (…, n) as shares of their sum over the last axis; zeros if that is 0."""
    total = magnitudes.sum(axis=-1, keepdims=True)
    return np.divide(magnitudes, total, out=np.zeros(magnitudes.shape), where=total > 0)


def depths(magnitudes: np.ndarray, threshold: float) -> np.ndarray:
    """Returns the smallest l >= 1 for which the terms m >= l have a share below the threshold, int (…), for magnitudes (…, n) by m."""
    reversed_sums = shares(magnitudes)[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return np.maximum(1, (reversed_sums >= threshold).sum(axis=-1))
