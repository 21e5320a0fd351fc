"""What a task is to a run: its data, network, loss, metrics and report. Tasks differ in these, and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from keras_widerresnet.data.pairs import SegmentationData, SegmentationSplit
from keras_widerresnet.data.split import ImageData, IndexedSplit, ShardedSplit, Share
from keras_widerresnet.runs import Run
from keras_widerresnet.training.config import RunConfig
from keras_widerresnet.training.steps import Losses


class Task(Protocol):
    """One run's task, made from its configuration; that loads the data."""

    @property
    def config(self) -> RunConfig:
        """The run's settings."""

    @property
    def data(self) -> ImageData | SegmentationData:
        """Training and test images."""

    @property
    def validation(self) -> IndexedSplit | ShardedSplit | SegmentationSplit:
        """The images on which every epoch is scored."""

    @property
    def validated_on(self) -> str:
        """What these are, in words."""

    @property
    def score(self) -> str:
        """The metric by which the best epoch is chosen; higher is better."""

    @property
    def losses(self) -> Losses:
        """The losses of training images, see `steps.Steps`."""

    @property
    def test_losses(self) -> Losses:
        """The losses of test images, see `steps.Steps`."""

    def facts(self) -> dict[str, Any]:
        """What the run keeps beside its flags: task, class names, numbers of images, protocol; for JSON."""

    def make_network(self, steps_per_epoch: int) -> keras.Model:
        """The compiled network; called in the strategy's scope."""

    def make_metrics(self) -> Sequence[keras.metrics.Metric]:
        """Metrics of labels and outputs; called in the strategy's scope."""

    def train_batches(self, start_step: int, share: Share, parts: int) -> tf.data.Dataset:
        """Endless (images, labels) from a step on."""

    def validation_batches(self, replicas: int, share: Share, parts: int) -> tf.data.Dataset:
        """(images, labels, weights) of every validation image once, `validation_steps(replicas)` elements for every replica."""

    def validation_steps(self, replicas: int) -> int:
        """Steps of one validation."""

    def write_report(self, run: Run) -> None:
        """Tests the final network on the test images and writes tables, pictures and, last of all, the report."""
