"""Gradient magnitude per path length (Veit et al. 2016): through k sampled blocks, and the shortcuts of all other units."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import tensorflow as tf
from scipy.stats import linregress

from keras_widerresnet.analysis.chain import ResidualChain
from keras_widerresnet.analysis.gradients import Loss, cross_entropy, loss_pullback, pullback
from keras_widerresnet.errors import InputError

CARRIED = 0.95


@dataclasses.dataclass(frozen=True)
class PathLengths:
    """The gradient along paths of each length.

    Args:
        magnitudes: (n + 1, images), mean norm of the gradient at the first unit's input along one path through k blocks.
        sampled: (n + 1,), number of measured paths of each length.
    """

    magnitudes: np.ndarray
    sampled: np.ndarray

    @property
    def units(self) -> int:
        return len(self.magnitudes) - 1

    @property
    def one_path(self) -> np.ndarray:
        """Mean magnitude of one path over the images, float (n + 1,)."""
        return self.magnitudes.mean(axis=1)

    @property
    def counts(self) -> np.ndarray:
        """Number of paths through k of n blocks (the binomial coefficients), float (n + 1,)."""
        return np.array([float(math.comb(self.units, k)) for k in range(self.units + 1)])

    @property
    def all_paths(self) -> np.ndarray:
        """Count times magnitude, float (n + 1,): an upper bound of the norm of the sum over these paths."""
        return self.counts * self.one_path

    def decay(self) -> tuple[float, float]:
        """Returns the factor by which each further block changes the magnitude, and R² of this exponential fit (least squares of logs)."""
        kept = self.one_path > 0
        if kept.sum() < 2:
            raise InputError("Paths of at most one length carry a gradient: no decay can be fitted")
        fit = linregress(np.flatnonzero(kept), np.log(self.one_path[kept]))
        return float(np.exp(fit.slope)), float(fit.rvalue**2)

    def carrying(self, share: float = CARRIED) -> tuple[int, int]:
        """Returns the first and last length of the shortest range that has `share` of `all_paths`."""
        total = self.all_paths.cumsum()
        before = np.concatenate([[0.0], total])
        ranges = ((last - first, first, last) for first in range(len(total)) for last in range(first, len(total)))
        held = (r for r in ranges if before[r[2] + 1] - before[r[1]] >= share * total[-1])
        return min(held)[1:]


def gradient_per_path_length(
    chain: ResidualChain, images: np.ndarray, labels: np.ndarray, *, samples: int = 20, seed: int = 0, loss: Loss = cross_entropy
) -> PathLengths:
    """Measures the gradient of the loss of each image at the first unit's input, along paths of every length.

    Batch norm uses its running statistics. In a unit that is not on the path, the gradient takes the shortcut; projections and pools are
    always part of the path.

    Args:
        images, labels: in the form that the network and the loss expect.
        samples: paths measured per length, drawn with `seed` and replacement; if there are no more than that, each path is measured once.
    """
    if samples < 1:
        raise InputError(f"`samples` must be 1 or more. Received: {samples}")
    count, generator = len(chain.links), np.random.default_rng(seed)

    @tf.function(autograph=False)
    def at_input(images, labels, through):
        pullbacks, y = [], images
        for link in chain.links:
            x, before = pullback(link.before, y)
            around, shortcut = pullback(link.shortcut, x)
            branch, block = pullback(link.block, x)
            y = around + branch
            pullbacks.append((before, shortcut, block))
        vectors = tf.repeat(loss_pullback(chain, loss, labels, y)[1][None], samples, axis=0)
        for index in reversed(range(count)):
            before, shortcut, block = pullbacks[index]
            chosen = tf.reshape(through[:, index], (-1, *[1] * (vectors.shape.rank - 1)))
            at_unit = tf.where(chosen, block(vectors)[0], shortcut(vectors)[0])
            vectors = before(at_unit)[0] if index else at_unit
        # The loss is a mean over the batch, so each image has a share of 1/batch.
        flat = tf.reshape(vectors, (samples, images.shape[0], -1)) * images.shape[0]
        return tf.norm(flat, axis=2)

    rows, sampled = [], []
    for length in range(count + 1):
        paths = _paths(count, length, samples, generator)
        padded = np.resize(paths, (samples, count))
        norms = at_input(tf.convert_to_tensor(images), tf.convert_to_tensor(labels), tf.constant(padded)).numpy()
        rows.append(norms[: len(paths)].mean(axis=0))
        sampled.append(len(paths))
    return PathLengths(np.stack(rows), np.array(sampled))


def _paths(count: int, length: int, samples: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the blocks that each path crosses, bool (paths, count)."""
    if math.comb(count, length) <= samples:
        chosen = list(itertools.combinations(range(count), length))
    else:
        chosen = [tuple(generator.choice(count, length, replace=False).tolist()) for _ in range(samples)]
    paths = np.zeros((len(chosen), count), bool)
    for path, blocks in zip(paths, chosen, strict=True):
        path[list(blocks)] = True
    return paths
