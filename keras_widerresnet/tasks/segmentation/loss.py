"""Segmentation losses: cross-entropy over all labelled pixels, or over the hard ones. They run on every Keras backend."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED

NOT_VALID = -1.0  # below every cross-entropy


class _MeanOverKept(keras.losses.Loss):
    """Base class: softmax cross-entropy, averaged over the pixels that `kept` selects."""

    def __init__(self, ignore_label: int = IGNORED, reduction="sum_over_batch_size", name: str | None = None):
        super().__init__(name, reduction, dtype="float32")
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")
        valid = ops.not_equal(labels, self.ignore_label)
        losses = ops.sparse_categorical_crossentropy(ops.where(valid, labels, 0), ops.cast(y_pred, "float32"), from_logits=True)
        kept = self.kept(ops.stop_gradient(losses), valid)
        # Counted as integers first, because float32 counts exactly only up to 2**24.
        counts = _over_replicas([ops.shape(labels)[0], ops.sum(ops.cast(kept, "int32"))])
        sums = ops.sum(ops.where(kept, losses, 0.0), axis=tuple(range(1, len(losses.shape))))
        return sums * (counts[0] / ops.maximum(counts[1], 1.0))

    def kept(self, losses, valid):
        """Returns the bool (batch, ...) mask of the pixels to average over, given their losses and whether they are valid."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "ignore_label": self.ignore_label}


@keras.saving.register_keras_serializable("keras_widerresnet")
class MaskedCrossEntropy(_MeanOverKept):
    """Softmax cross-entropy, averaged over all pixels that have a label.

    Args:
        ignore_label: the label of pixels that are ignored (official release: 255).
        reduction, name: as in `keras.losses.Loss`.

    Call arguments:
        y_true: integers (batch, H, W) of any dtype, in [0, classes) or `ignore_label`. For other labels, TensorFlow raises an error on the
            CPU and returns NaN on a GPU and under XLA.
        y_pred: float logits (batch, H, W, classes) of any dtype; 16-bit logits are cast to float32.

    `call` returns float32 (batch,): the sum of each image's losses, times the number of images, divided by the number of valid pixels in
    the batch, so that the mean over the batch is the mean over the valid pixels (our choice); 0, with zero gradient, if no pixel is valid.

    Under a `tf.distribute` strategy, images and pixels of all replicas are counted: the sum of the replicas' reduced losses and gradients
    equals that of one replica on the whole batch. The replicas synchronise inside the loss, so there must be no other `tf.function` between
    it and `strategy.run`: with XLA, compile only the network. On PyTorch, each process counts its own pixels.
    """

    def __init__(self, ignore_label: int = IGNORED, reduction="sum_over_batch_size", name: str = "masked_cross_entropy"):
        super().__init__(ignore_label, reduction, name)

    def kept(self, losses, valid):
        return valid


@keras.saving.register_keras_serializable("keras_widerresnet")
class BootstrappedCrossEntropy(_MeanOverKept):
    """Softmax cross-entropy, averaged over the hard pixels ("online bootstrapping", OHEM; official release).

    The loss keeps the valid pixels whose true class has a probability of at most `threshold`, but at least the `min_kept` pixels with the
    lowest probability in the batch (or all valid ones, if there are fewer). Ties with the last kept pixel are kept too. No gradient flows
    through the selection.

    Args:
        threshold: probability in [0, 1]; 1 keeps all valid pixels, 0 keeps the `min_kept` hardest.
        min_kept: minimum number of pixels in the whole batch of all replicas, at least 1.
        ignore_label, reduction, name: as in `MaskedCrossEntropy`, whose call arguments, averaging and replication apply here too.

    Raises:
        InputError: for arguments out of range.
    """

    def __init__(
        self,
        threshold: float = 0.6,
        min_kept: int = 256,
        ignore_label: int = IGNORED,
        reduction="sum_over_batch_size",
        name: str = "bootstrapped_cross_entropy",
    ):
        super().__init__(ignore_label, reduction, name)
        if not 0 <= threshold <= 1:
            raise InputError(f"`threshold` must be a probability, from 0 to 1. Received: {threshold!r}")
        if not isinstance(min_kept, int) or min_kept < 1:
            raise InputError(f"`min_kept` must be a positive whole number. Received: {min_kept!r}")
        self.threshold, self.min_kept = threshold, min_kept

    def kept(self, losses, valid):
        # Compares -log p instead of p, which float32 rounds to 0 for logits of 104 and more.
        fixed = -math.log(self.threshold) if self.threshold else math.inf
        hardest = self._hardest(ops.where(valid, losses, NOT_VALID))
        limit = ops.minimum(hardest[-1], fixed)
        # NaN losses must be kept. `not losses < limit` would not do: TensorFlow's graph optimizer turns it into `>=`.
        return ops.logical_and(valid, ops.logical_or(losses >= limit, ops.isnan(losses)))

    def _hardest(self, losses):
        """Returns the `min_kept` largest losses of all replicas, in descending order."""
        padded = ops.concatenate([ops.reshape(losses, (-1,)), ops.full((self.min_kept,), NOT_VALID)])
        largest = ops.top_k(padded, self.min_kept)[0]
        context = _replica_context()
        if context is None:
            return largest
        import tensorflow as tf

        # Gathers by summing rows that are zero elsewhere, because `all_gather` works under fewer strategies.
        own = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=largest.dtype)
        rows = context.all_reduce(tf.distribute.ReduceOp.SUM, own[:, None] * largest)
        return ops.top_k(ops.reshape(rows, (-1,)), self.min_kept)[0]

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold, "min_kept": self.min_kept}


def image_losses(labels: Any, logits: Any) -> Any:
    """Returns the mean cross-entropy over the labelled cells of each image, float32 (batch,); 0 if there are none.

    Args:
        labels: integer backend tensor (batch, h, w), `IGNORED` where there is no label.
        logits: float (batch, h, w, classes).
    """
    is_valid = ops.not_equal(labels, IGNORED)
    losses = keras.losses.sparse_categorical_crossentropy(ops.where(is_valid, labels, 0), logits, from_logits=True)
    counts = ops.sum(ops.cast(is_valid, "float32"), axis=(1, 2))
    return ops.sum(ops.where(is_valid, losses, 0.0), axis=(1, 2)) / ops.maximum(counts, 1.0)


def _over_replicas(counts: list):
    """Sums counts over all replicas, float32."""
    counts = ops.stack([ops.cast(count, "float32") for count in counts])
    context = _replica_context()
    return counts if context is None else context.all_reduce("SUM", counts)


def _replica_context():
    """Returns TensorFlow's replica context if there are several replicas, otherwise None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()  # None outside of `strategy.run`
    return context if context is not None and context.num_replicas_in_sync > 1 else None
