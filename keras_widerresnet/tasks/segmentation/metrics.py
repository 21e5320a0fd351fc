"""Segmentation scores from one confusion matrix over a data set (official release), as functions and as Keras metrics."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_widerresnet.errors import InputError
from keras_widerresnet.label_maps import IGNORED

# JAX has no 64-bit numbers unless they are enabled for the whole process.
COUNT_DTYPE = "float32" if keras.backend.backend() == "jax" else "float64"


def scores(matrix: np.ndarray) -> dict[str, float]:
    """Computes the scores of a confusion matrix.

    Args:
        matrix: counts or weights of pixels, (classes, classes): rows are the truth, columns the prediction.

    Returns:
        `pixel_accuracy`: the fraction of pixels that are correct; `mean_accuracy`: the fraction of a class's pixels that are correct,
        averaged over the classes that occur; `mean_iou`: the mean of `class_iou` over the classes that occur or are predicted. All in
        [0, 1], NaN if there are no pixels.
    """
    matrix = np.asarray(matrix, np.float64)
    with np.errstate(invalid="ignore"):
        return {name: float(value) for name, value in _scores(matrix, np).items()}


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Computes the intersection over union of each class: its correct pixels, divided by those labelled or predicted as the class.

    Args:
        matrix: as in `scores`.

    Returns:
        float64 (classes,) in [0, 1], NaN for a class that neither occurs nor is predicted.
    """
    matrix = np.asarray(matrix, np.float64)
    with np.errstate(invalid="ignore"):
        return np.diagonal(matrix) / _union(matrix, np)


# The same formulas for NumPy and, inside `fit`, for the backend: `xp` is `numpy` or `keras.ops`.
def _scores(matrix, xp):
    correct, true = xp.diagonal(matrix), xp.sum(matrix, axis=1)
    return {
        "pixel_accuracy": xp.divide(xp.sum(correct), xp.sum(matrix)),
        "mean_accuracy": _mean_ratio(correct, true, xp),
        "mean_iou": _mean_ratio(correct, _union(matrix, xp), xp),
    }


def _union(matrix, xp):
    return xp.sum(matrix, axis=0) + xp.sum(matrix, axis=1) - xp.diagonal(matrix)


def _mean_ratio(correct, pixels, xp):
    is_absent = xp.equal(pixels, 0)
    ratios = xp.where(is_absent, 0.0, xp.divide(correct, pixels))
    return xp.divide(xp.sum(ratios), xp.sum(xp.where(is_absent, 0.0, 1.0)))


class _ConfusionMatrixMetric(keras.metrics.Metric):
    """Base class: a confusion matrix of all pixels since `reset_state`, in the variable `matrix`."""

    def __init__(self, classes: int, ignore_label: int = IGNORED, name: str | None = None, dtype=None):
        super().__init__(dtype, name)
        if not isinstance(classes, int) or classes < 1:
            raise InputError(f"`classes` must be a positive whole number. Received: {classes!r}")
        self.classes, self.ignore_label = classes, ignore_label
        self.matrix = self.add_variable((classes, classes), "zeros", dtype=COUNT_DTYPE, name="matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: integers (batch, ...), in [0, classes) or `ignore_label`. Any other label makes the scores NaN.
            y_pred: logits or probabilities (batch, ..., classes); the prediction is their argmax, the first one of ties.
            sample_weight: None, or a weight for each image (batch,) or each pixel (batch, ...).

        Raises:
            InputError: for tensors of other ranks, or with another number of classes.
        """
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != len(y_true.shape) + 1 or y_pred.shape[-1] != self.classes:
            raise InputError(
                f"`y_pred` must have the shape of `y_true` with an additional last axis of {self.classes} classes. "
                f"Received: y_true {tuple(y_true.shape)}, y_pred {tuple(y_pred.shape)}"
            )
        labels = ops.cast(y_true, "int32")
        is_class = ops.logical_and(labels >= 0, labels < self.classes)
        weights = ops.cast(ops.where(is_class, 1.0, float("nan")), COUNT_DTYPE)
        if sample_weight is not None:
            weights = weights * _expanded(ops.cast(sample_weight, COUNT_DTYPE), len(labels.shape))
        weights = ops.where(ops.equal(labels, self.ignore_label), ops.zeros_like(weights), weights)
        cells = ops.where(is_class, labels, 0) * self.classes + ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        counts = ops.segment_sum(ops.reshape(weights, (-1,)), ops.reshape(cells, (-1,)), num_segments=self.classes**2)
        self.matrix.assign_add(ops.reshape(counts, (self.classes, self.classes)))

    def class_iou(self) -> np.ndarray:
        """Returns `class_iou` of the current matrix, over all replicas."""
        return class_iou(ops.convert_to_numpy(self.matrix))

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "ignore_label": self.ignore_label}


def _expanded(weights, rank: int):
    return ops.expand_dims(weights, tuple(range(len(weights.shape), rank)))


@keras.saving.register_keras_serializable("keras_widerresnet")
class SegmentationScores(_ConfusionMatrixMetric):
    """Computes all `scores` at once: `result()` returns their dict, `class_iou()` the IoU of each class; `matrix` is the confusion matrix.

    The matrix is float64, which is exact up to 2**53 pixels per cell, and is summed over all replicas of a `tf.distribute` strategy. With
    JAX it is float32: exact up to 2**24, with a relative error below 1e-7 for each batch after that.

    Args:
        classes: number of classes.
        ignore_label: the label of pixels that are ignored.
        name, dtype: as in `keras.metrics.Metric`; `dtype` does not affect the counts.

    Raises:
        InputError: if `classes` is not a positive whole number.
    """

    def __init__(self, classes: int, ignore_label: int = IGNORED, name: str = "segmentation", dtype=None):
        super().__init__(classes, ignore_label, name, dtype)

    def result(self):
        return _scores(ops.convert_to_tensor(self.matrix), ops)


class _OneScore(_ConfusionMatrixMetric):
    """Base class: one of the `scores`."""

    score: str

    def __init__(self, classes: int, ignore_label: int = IGNORED, name: str | None = None, dtype=None):
        super().__init__(classes, ignore_label, name or self.score, dtype)

    def result(self):
        return _scores(ops.convert_to_tensor(self.matrix), ops)[self.score]


@keras.saving.register_keras_serializable("keras_widerresnet")
class PixelAccuracy(_OneScore):
    """Pixel accuracy, see `scores`; arguments as in `SegmentationScores`, which computes all scores in the time of one."""

    score = "pixel_accuracy"


@keras.saving.register_keras_serializable("keras_widerresnet")
class MeanAccuracy(_OneScore):
    """Mean accuracy, see `scores`; arguments as in `SegmentationScores`."""

    score = "mean_accuracy"


@keras.saving.register_keras_serializable("keras_widerresnet")
class MeanIoU(_OneScore):
    """Mean IoU, see `scores`; arguments as in `SegmentationScores`."""

    score = "mean_iou"


@keras.saving.register_keras_serializable("keras_widerresnet")
class ClassIoU(_ConfusionMatrixMetric):
    """The IoU of one class; NaN as long as the class neither occurs nor is predicted.

    Args:
        classes, ignore_label, name, dtype: as in `SegmentationScores`; the default name is `iou_{label}`.
        label: the class, in [0, classes).

    Raises:
        InputError: if `label` is not a class.
    """

    def __init__(self, classes: int, label: int, ignore_label: int = IGNORED, name: str | None = None, dtype=None):
        super().__init__(classes, ignore_label, name or f"iou_{label}", dtype)
        if label not in range(classes):
            raise InputError(f"`label` must be a class, from 0 to {classes - 1}. Received: {label!r}")
        self.label = label

    def result(self):
        matrix = ops.convert_to_tensor(self.matrix)
        return ops.divide(matrix[self.label, self.label], _union(matrix, ops)[self.label])

    def get_config(self):
        return {**super().get_config(), "label": self.label}
