"""Gradient magnitude per path length, as Veit et al. 2016 measured it: through k sampled blocks, past all others by their shortcuts."""

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
    """What paths of each length carry.

    Args:
        magnitudes: (n + 1, images), mean norm of the gradient that reaches the first unit's input by one path through k blocks.
        sampled: (n + 1,), how many paths of each length were measured.
    """

    magnitudes: np.ndarray
    sampled: np.ndarray

    @property
    def units(self) -> int:
        return len(self.magnitudes) - 1

    @property
    def one_path(self) -> np.ndarray:
        """Float (n + 1,): mean magnitude of one path over the images."""
        return self.magnitudes.mean(axis=1)

    @property
    def counts(self) -> np.ndarray:
        """Float (n + 1,): number of paths through k of n blocks, the binomial coefficients."""
        return np.array([float(math.comb(self.units, k)) for k in range(self.units + 1)])

    @property
    def all_paths(self) -> np.ndarray:
        """Float (n + 1,): count times magnitude; at least the norm of the sum over these paths."""
        return self.counts * self.one_path

    def decay(self) -> tuple[float, float]:
        """Factor by which the magnitude changes with every block more, and R² of that exponential (least squares of the logarithms)."""
        kept = self.one_path > 0
        if kept.sum() < 2:
            raise InputError("No path of more than one length carries a gradient: there is no decay to fit")
        fit = linregress(np.flatnonzero(kept), np.log(self.one_path[kept]))
        return float(np.exp(fit.slope)), float(fit.rvalue**2)

    def carrying(self, share: float = CARRIED) -> tuple[int, int]:
        """The shortest range of path lengths that holds `share` of `all_paths`, first and last."""
        total = self.all_paths.cumsum()
        before = np.concatenate([[0.0], total])
        ranges = ((last - first, first, last) for first in range(len(total)) for last in range(first, len(total)))
        held = (r for r in ranges if before[r[2] + 1] - before[r[1]] >= share * total[-1])
        return min(held)[1:]


def gradient_per_path_length(
    chain: ResidualChain, images: np.ndarray, labels: np.ndarray, *, samples: int = 20, seed: int = 0, loss: Loss = cross_entropy
) -> PathLengths:
    """Measures the gradient of each image's own loss that reaches the first unit's input by paths of every length.

    Batch norm uses its running statistics. A unit that is not on the path lets the gradient pass by its shortcut; a projection and a pool
    before it are passed always.

    Args:
        images, labels: as the network and the loss take them.
        samples: paths measured of each length, drawn by `seed` with replacement; where there are no more than that, all of them, once each.
    """
    if samples < 1:
        raise InputError(f"`samples` must be 1 or more. Received: {samples}")
    count, generator = len(chain.links), np.random.default_rng(seed)

    @tf.function
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
        # Of the mean over images each has 1/batch.
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
    """Bool (paths, count): the blocks that each path crosses."""
    if math.comb(count, length) <= samples:
        chosen = list(itertools.combinations(range(count), length))
    else:
        chosen = [tuple(generator.choice(count, length, replace=False).tolist()) for _ in range(samples)]
    paths = np.zeros((len(chosen), count), bool)
    for path, blocks in zip(paths, chosen, strict=True):
        path[list(blocks)] = True
    return paths
