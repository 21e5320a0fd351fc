"""Splits the gradient of a unit's weights by the number of later residual blocks that it crosses, without enumerating paths.

With y_i = s_i(y_{i-1}) + f_i(y_{i-1}), where s_i is the identity or its replacement (a projection, a pool before the unit), the gradient of
the loss at the output of unit i is v_i = (s_{i+1}' + f_{i+1}')ᵀ … (s_n' + f_n')ᵀ g. Expanded and sorted by the number m of factors f',
v_i = Σ_m v_i^(m), and one unit further back (paper, for two units; our generalisation)

    v_{i-1}^(m) = s_i'ᵀ v_i^(m) + f_i'ᵀ v_i^(m-1),        Δω_i^(m) = (dy_i/dω_i)ᵀ v_i^(m).

So n (n + 1) / 2 vector-Jacobian products of units replace 2ⁿ paths. Shortcuts, pools, the stem and the head do not count as blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_widerresnet.analysis.chain import Link, ResidualChain
from keras_widerresnet.errors import InputError

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Pull = Callable[[tf.Tensor], tuple[tf.Tensor, list[tf.Tensor]]]


def cross_entropy(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy of int labels (batch,) and probabilities (batch, classes), as in training."""
    return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities))


@dataclasses.dataclass(frozen=True)
class UnitTerms:
    """The terms of one unit; the first axis of every array is m, the number of later blocks crossed, from 0 to `n - i` for unit i of n.

    Args:
        name: name of the unit.
        output: (n - i + 1, batch, …), the terms v_i^(m) of the gradient with respect to the unit's output.
        block: for each trainable variable of `Link.block`, the terms of its gradient, (n - i + 1, …).
        shortcut: the same for the variables of `Link.shortcut` that the block does not share: the kernel of a projection.
        before: the same for the layers before the unit (the stem); (n - i + 2, …), because block i itself is crossed or not.
    """

    name: str
    output: np.ndarray
    block: tuple[np.ndarray, ...]
    shortcut: tuple[np.ndarray, ...]
    before: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class GradientTerms:
    """The decomposed gradient of one loss.

    Args:
        loss: value of the loss.
        units: the terms of each unit, first to last.
        input: (n + 1, batch, …), the terms of the gradient with respect to the first unit's input, by blocks crossed.
    """

    loss: float
    units: tuple[UnitTerms, ...]
    input: np.ndarray


class Decomposition:
    """Decomposes gradients of a loss over a network.

    Batch norm uses its running statistics and dropout is inactive, so that the gradient of a mean over images is the mean of the
    images' own gradients. The dtype is that of the network: one built after `keras.config.set_floatx("float64")` and
    `keras.config.set_dtype_policy("float64")` is decomposed in float64.

    Args:
        chain: the network, see `residual_chain`.
        loss: function of labels and the network's outputs that returns a scalar.
        training: whether to use batch statistics (and dropout) as in training; running statistics are not updated.
    """

    def __init__(self, chain: ResidualChain, loss: Loss = cross_entropy, *, training: bool = False):
        self.chain = chain
        self.loss = loss
        self.training = training
        self._all = tf.function(self._decompose, reduce_retracing=True, autograph=False)
        self._norms = tf.function(self._term_norms, reduce_retracing=True, autograph=False)

    def terms(self, images: np.ndarray, labels: np.ndarray) -> GradientTerms:
        """Returns all terms for one batch: images (batch, …) as the network expects them, labels as the loss expects them."""
        loss, units, inputs = self._all(tf.convert_to_tensor(images), tf.convert_to_tensor(labels))
        named = zip(self.chain.names, units, strict=True)
        made = [UnitTerms(name, output.numpy(), *(_arrays(group) for group in groups)) for name, (output, *groups) in named]
        return GradientTerms(float(loss), tuple(made), inputs.numpy())

    def norms(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the norm of each term over all weights of a unit's block, (n, n): unit i + 1, m blocks crossed; 0 if there are fewer.

        Raises:
            InputError: if a block has no trainable weights.
        """
        frozen = [link.name for link in self.chain.links if not link.block.trainable_variables]
        if frozen:
            raise InputError(
                f"Gradients need trainable weights, but these units have none: {', '.join(frozen)}. "
                "keras_widerresnet.unfreeze(model) makes all weights trainable"
            )
        return self._norms(tf.convert_to_tensor(images), tf.convert_to_tensor(labels)).numpy()

    def image_norms(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns `norms` for the loss of each image, (images, n, n)."""
        return np.stack([self.norms(images[k : k + 1], labels[k : k + 1]) for k in range(len(images))])

    def _term_norms(self, images, labels):
        count = len(self.chain.links)
        rows = []
        for _, block, _, _ in self._decompose(images, labels)[1]:
            squares = [tf.reduce_sum(tf.reshape(term, (term.shape[0], -1)) ** 2, axis=1) for term in block]
            norms = tf.sqrt(tf.add_n(squares))
            rows.append(tf.pad(norms, ((0, count - norms.shape[0]),)))
        return tf.stack(rows)

    def _decompose(self, images, labels):
        pullbacks, x = [], images
        for link in self.chain.links:
            x, before = pullback(link.before, x, self.training)
            around, shortcut = pullback(link.shortcut, x, self.training)
            through, block = pullback(link.block, x, self.training)
            x = around + through
            pullbacks.append((before, shortcut, block))
        loss, gradient = loss_pullback(self.chain, self.loss, labels, x, self.training)
        vectors = unit_input = gradient[None]
        units = []
        for link, (before, shortcut, block) in zip(reversed(self.chain.links), reversed(pullbacks), strict=True):
            around, shortcut_terms = shortcut(vectors)
            through, block_terms = block(vectors)
            none = tf.zeros_like(through[:1])
            unit_input = tf.concat([around, none], 0) + tf.concat([none, through], 0)
            further, stem_terms = before(unit_input)
            units.append((vectors, *_together(link, block_terms, shortcut_terms), stem_terms))
            vectors = further
        return loss, units[::-1], unit_input


def pullback(model: keras.Model | None, x: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, Pull]:
    """Returns a model's output, and the function that maps vectors (k, …) at it to (those at the input, weight gradients (k, …)).

    A model of None is the identity.
    """
    if model is None:
        return x, lambda vectors: (vectors, [])
    values = _values(model.trainable_variables)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, *values])
        output = _call(model, x, values, training)

    def pull(vectors):
        at_input, *weights = tf.vectorized_map(lambda vector: tape.gradient(output, [x, *values], vector), vectors)
        return at_input, weights

    return output, pull


def loss_pullback(chain: ResidualChain, loss: Loss, labels: tf.Tensor, y: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the loss for the last unit's output and its gradient with respect to that output."""
    with tf.GradientTape() as tape:
        tape.watch(y)
        value = loss(labels, _call(chain.head, y, _values(chain.head.trainable_variables), training))
    return value, tape.gradient(value, y)


def _call(model: keras.Model, x: tf.Tensor, values: list[tf.Tensor], training: bool) -> tf.Tensor:
    """Calls the model as a pure function of input and trainable variables; running statistics do not change."""
    return model.stateless_call(values, _values(model.non_trainable_variables), x, training=training)[0]


def _values(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def _together(link: Link, block_terms: list[tf.Tensor], shortcut_terms: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns the terms of the block's weights, including those through the shortcut, and of the shortcut's own weights."""
    if link.shortcut is None:
        return block_terms, []
    by_shortcut = {variable.path: terms for variable, terms in zip(link.shortcut.trainable_variables, shortcut_terms, strict=True)}
    names = [variable.path for variable in link.block.trainable_variables]
    block = [terms + by_shortcut.pop(name) if name in by_shortcut else terms for name, terms in zip(names, block_terms, strict=True)]
    return block, list(by_shortcut.values())


def _arrays(tensors: Sequence[tf.Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)
