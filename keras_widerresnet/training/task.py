"""What a run trains: the two tasks differ in their data, network, loss, metrics and report, and in nothing else."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Protocol

import keras
import tensorflow as tf

from keras_widerresnet.data import ImageData
from keras_widerresnet.data.segmentation import SegmentationData
from keras_widerresnet.data.split import Share
from keras_widerresnet.training.config import RunConfig, SegmentationConfig
from keras_widerresnet.training.steps import Losses


class Task(Protocol):
    """One run's task, made from its configuration; that loads the data.

    Attributes:
        config: the run's settings.
        data: training and test images.
        score: the metric by which the best epoch is chosen; higher is better.
        losses, test_losses: see `steps.Steps`.
    """

    config: RunConfig
    data: ImageData | SegmentationData
    score: str
    losses: Losses
    test_losses: Losses

    def make_network(self, steps_per_epoch: int) -> keras.Model:
        """The compiled network; called in the strategy's scope."""

    def make_metrics(self) -> Sequence[keras.metrics.Metric]:
        """Metrics of labels and outputs; called in the strategy's scope."""

    def train_batches(self, start_step: int, share: Share, parts: int) -> tf.data.Dataset:
        """Endless (images, labels) from a step on."""

    def test_batches(self, replicas: int, share: Share, parts: int) -> tf.data.Dataset:
        """(images, labels, weights) of every test image once, `test_steps(replicas)` elements for every replica."""

    def test_steps(self, replicas: int) -> int:
        """Steps of one test."""

    def write_report(self, run_dir: pathlib.Path) -> pathlib.Path:
        """Tests `final.keras`, writes pictures and tables and, last of all, `report.md`, whose path is returned."""


def make_task(config: RunConfig) -> Task:
    """The task of a configuration.

    Raises:
        InputError: for data that cannot be used.
    """
    if isinstance(config, SegmentationConfig):
        from keras_widerresnet.training.segmentation import Segmentation

        return Segmentation(config)
    from keras_widerresnet.training.classification import Classification

    return Classification(config)
