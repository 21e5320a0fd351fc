"""The classification task of a training run."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_widerresnet.data.split import WHOLE, IndexedSplit, ShardedSplit, Share
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.protocols import ClassificationProtocol
from keras_widerresnet.runs import CLASSIFICATION, Run
from keras_widerresnet.structures import find_structure
from keras_widerresnet.tasks.classification import batches, loss, metrics, network
from keras_widerresnet.tasks.classification.config import TrainingConfig
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.classification.report import write_report
from keras_widerresnet.tracing import without_autograph


class Classification:
    """Implements `training.task.Task` for a `TrainingConfig`."""

    score = metrics.SCORE
    losses = test_losses = staticmethod(loss.losses)

    def __init__(self, config: TrainingConfig):
        self.config = config
        self.structure = find_structure(config.structure)
        self.crop_size = config.crop_size or self.structure.crop_size
        loading = {"skip_corrupt": config.skip_corrupt, "convert_rgb": config.convert_rgb, "verify": config.verify_images}
        data = load_data(config.data, cache_bytes=config.cache_mb << 20, max_pixels=config.max_pixels, **loading)
        self.data, self.validated_on = with_validation(data, config.validation, config.seed)
        self.validation = self.data.validation or self.data.test

    def facts(self) -> dict[str, Any]:
        return {
            "task": CLASSIFICATION,
            "data": self.data.name,
            "class_names": list(self.data.class_names),
            "training_images": self.data.train.size,
            "validation_images": self.validation.size,
            "validated_on": self.validated_on,
            "test_images": self.data.test.size,
            "protocol": dataclasses.asdict(ClassificationProtocol((self.crop_size,))),
        }

    def make_network(self, steps_per_epoch: int) -> keras.Model:
        return network.make_network(self.config, self.data.classes, self.crop_size, steps_per_epoch)

    def make_metrics(self) -> list[keras.metrics.Metric]:
        return metrics.make_metrics(self.data.classes)

    def train_batches(self, start_step: int, share: Share, parts: int) -> tf.data.Dataset:
        return batches.train_batches(
            self.data.train,
            classes=self.data.classes,
            crop_size=self.crop_size,
            batch_size=self.config.batch_size,
            augmentation=self.config.augmentation(),
            seed=self.config.seed,
            start_step=start_step,
            share=share,
            parts=parts,
            data_service=self.config.data_service,
        )

    def validation_batches(self, replicas: int, share: Share, parts: int) -> tf.data.Dataset:
        return self._test_batches(self.validation, share, parts)

    def _test_batches(self, split: IndexedSplit | ShardedSplit, share: Share = WHOLE, parts: int = 1) -> tf.data.Dataset:
        return batches.test_batches(
            split,
            classes=self.data.classes,
            crop_size=self.crop_size,
            batch_size=self.config.batch_size,
            share=share,
            parts=parts,
        )

    def validation_steps(self, replicas: int) -> int:
        return batches.test_steps(self.validation.size, self.config.batch_size)

    def write_report(self, run: Run) -> None:
        # Uses the saved network, on one device, so that the report describes what users will load.
        saved = keras.models.load_model(run.final_network(), compile=False)
        images = self._test_batches(self.data.test).map(without_autograph(lambda images, labels, weights: images))
        probabilities = saved.predict(images, verbose=0)[: self.data.test.size]
        write_report(run, self.config, self.structure, self.data, self.crop_size, self.validated_on, probabilities)
