"""Training for classification."""

from __future__ import annotations

import pathlib

import keras
import tensorflow as tf

from keras_widerresnet.data import load_data, pipeline
from keras_widerresnet.data.split import Share
from keras_widerresnet.evaluation.report import write_report
from keras_widerresnet.structures import find_structure
from keras_widerresnet.training.config import TrainingConfig
from keras_widerresnet.training.network import make_network

TOP_K = 5


class Classification:
    """The `task.Task` of a `TrainingConfig`."""

    score = "accuracy"
    losses = test_losses = staticmethod(keras.losses.categorical_crossentropy)

    def __init__(self, config: TrainingConfig):
        self.config = config
        self.structure = find_structure(config.structure)
        self.crop_size = config.crop_size or self.structure.crop_size
        loading = {"skip_corrupt": config.skip_corrupt, "convert_rgb": config.convert_rgb, "verify": config.verify_images}
        self.data = load_data(config.data, cache_bytes=config.cache_mb << 20, **loading)
        self._sizes = {"classes": self.data.classes, "crop_size": self.crop_size, "batch_size": config.batch_size}

    def make_network(self, steps_per_epoch: int) -> keras.Model:
        return make_network(self.config, self.data.classes, self.crop_size, steps_per_epoch)

    def make_metrics(self) -> list[keras.metrics.Metric]:
        top = [keras.metrics.TopKCategoricalAccuracy(TOP_K, name=f"top{TOP_K}_accuracy")] if self.data.classes > TOP_K else []
        return [keras.metrics.CategoricalAccuracy(name="accuracy"), *top]

    def train_batches(self, start_step: int, share: Share, parts: int) -> tf.data.Dataset:
        return pipeline.train_batches(
            self.data.train,
            **self._sizes,
            augmentation=self.config.augmentation(),
            seed=self.config.seed,
            start_step=start_step,
            share=share,
            parts=parts,
            data_service=self.config.data_service,
        )

    def test_batches(self, replicas: int, share: Share, parts: int) -> tf.data.Dataset:
        return pipeline.test_batches(self.data.test, **self._sizes, share=share, parts=parts)

    def test_steps(self, replicas: int) -> int:
        return pipeline.test_steps(self.data.test.size, self.config.batch_size)

    def write_report(self, run_dir: pathlib.Path) -> pathlib.Path:
        # Of the saved network, on one device: what others will load is what is reported.
        saved = keras.models.load_model(run_dir / "final.keras", compile=False)
        batches = pipeline.test_batches(self.data.test, **self._sizes).map(lambda images, labels, weights: images)
        probabilities = saved.predict(batches, verbose=0)[: self.data.test.size]
        return write_report(run_dir, self.config, self.structure, self.data, self.crop_size, probabilities)
