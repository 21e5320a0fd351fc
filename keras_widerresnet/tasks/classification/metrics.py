"""The metrics of classification in training."""

from __future__ import annotations

import keras

SCORE = "accuracy"
TOP_K = 5


def make_metrics(classes: int) -> list[keras.metrics.Metric]:
    """Accuracy and, of more than five classes, top-5 accuracy, of labels and probabilities (batch, classes)."""
    top = [keras.metrics.TopKCategoricalAccuracy(TOP_K, name=f"top{TOP_K}_accuracy")] if classes > TOP_K else []
    return [keras.metrics.CategoricalAccuracy(name=SCORE), *top]
