"""The interface of tasks: data, network, losses, metrics and report. Everything else in training is shared."""

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
    """One run's task. Creating it from the run's configuration loads the data."""

    @property
    def config(self) -> RunConfig:
        """The run's settings."""

    @property
    def data(self) -> ImageData | SegmentationData:
        """Training and test images."""

    @property
    def validation(self) -> IndexedSplit | ShardedSplit | SegmentationSplit:
        """The images that score every epoch."""

    @property
    def validated_on(self) -> str:
        """Human-readable description of the validation images."""

    @property
    def score(self) -> str:
        """Name of the metric that selects the best epoch; higher is better."""

    @property
    def losses(self) -> Losses:
        """Loss function of training images, see `steps.Steps`."""

    @property
    def test_losses(self) -> Losses:
        """Loss function of test images, see `steps.Steps`."""

    def facts(self) -> dict[str, Any]:
        """Returns the facts stored beside the flags, as JSON values: task, class names, image counts and protocol."""

    def make_network(self, steps_per_epoch: int) -> keras.Model:
        """Returns the compiled network; called in the strategy's scope."""

    def make_metrics(self) -> Sequence[keras.metrics.Metric]:
        """Returns metrics of labels and outputs; called in the strategy's scope."""

    def train_batches(self, start_step: int, share: Share, parts: int) -> tf.data.Dataset:
        """Returns endless batches (images, labels), starting at a given step."""

    def validation_batches(self, replicas: int, share: Share, parts: int) -> tf.data.Dataset:
        """Returns batches (images, labels, weights) with every validation image once; `validation_steps(replicas)` per replica."""

    def validation_steps(self, replicas: int) -> int:
        """Returns the number of steps of one validation pass."""

    def write_report(self, run: Run) -> None:
        """Evaluates the final network on the test images and writes tables, pictures and, last, the report."""
