"""The metrics for classification training."""

from __future__ import annotations

import keras

SCORE = "accuracy"
TOP_K = 5


def make_metrics(classes: int) -> list[keras.metrics.Metric]:
    """Returns accuracy and, for more than five classes, top-5 accuracy; both expect labels and probabilities (batch, classes)."""
    top = [keras.metrics.TopKCategoricalAccuracy(TOP_K, name=f"top{TOP_K}_accuracy")] if classes > TOP_K else []
    return [keras.metrics.CategoricalAccuracy(name=SCORE), *top]
