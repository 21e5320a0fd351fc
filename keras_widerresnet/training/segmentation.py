"""Training for semantic segmentation."""

from __future__ import annotations

import pathlib

import keras
import tensorflow as tf

from keras_widerresnet.data import segmentation_pipeline as pipeline
from keras_widerresnet.data.segmentation import load_segmentation_data
from keras_widerresnet.data.split import Share
from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation.dense import SegmentationProtocol
from keras_widerresnet.evaluation.segmentation_report import write_report
from keras_widerresnet.label_maps import IGNORED
from keras_widerresnet.losses import BootstrappedCrossEntropy, MaskedCrossEntropy
from keras_widerresnet.metrics import SegmentationScores
from keras_widerresnet.training.config import SegmentationConfig
from keras_widerresnet.training.network import make_segmenter


class Segmentation:
    """The `task.Task` of a `SegmentationConfig`.

    Between epochs it is tested at the cells of the logits, on whole images resized to `origin_size`; the release's testing, at every
    pixel, comes once, in the report.
    """

    score = "mean_iou"

    def __init__(self, config: SegmentationConfig):
        self.config = config
        self.protocol = SegmentationProtocol((config.origin_size,), config.test_steps, config.test_flip)
        self.protocol.check(config.output_stride)
        self.data = load_segmentation_data(config.data, verify=config.verify_images, cache_bytes=config.cache_mb << 20)
        bootstrapped = config.loss == "bootstrapped"
        self.loss = BootstrappedCrossEntropy(config.threshold, config.min_kept) if bootstrapped else MaskedCrossEntropy()
        self.losses, self.test_losses = self.loss.call, image_losses

    def make_network(self, steps_per_epoch: int) -> keras.Model:
        if self.config.jit_compile and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            # Replicas cannot meet inside of a compiled function.
            raise InputError("--jit_compile works on one replica only in segmentation, whose loss is a mean over all of them")
        return make_segmenter(self.config, self.data.classes, steps_per_epoch, self.loss)

    def make_metrics(self) -> list[keras.metrics.Metric]:
        return [SegmentationScores(self.data.classes)]

    def train_batches(self, start_step: int, share: Share, parts: int) -> tf.data.Dataset:
        return pipeline.train_batches(
            self.data.train,
            crop_size=self.config.crop_size,
            stride=self.config.output_stride,
            batch_size=self.config.batch_size,
            augmentation=self.config.augmentation(),
            seed=self.config.seed,
            start_step=start_step,
            share=share,
            parts=parts,
            data_service=self.config.data_service,
        )

    def test_batches(self, replicas: int, share: Share, parts: int) -> tf.data.Dataset:
        sizes = {"origin_size": self.config.origin_size, "stride": self.config.output_stride}
        return pipeline.test_batches(self.data.test, **sizes, batch_size=replicas, share=share, parts=parts)

    def test_steps(self, replicas: int) -> int:
        return pipeline.test_steps(self.data.test.size, replicas)

    def write_report(self, run_dir: pathlib.Path) -> pathlib.Path:
        return write_report(run_dir, self.config, self.data, self.protocol)


def image_losses(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy over the labelled cells of each image, float32 (batch,); 0 where there are none."""
    is_valid = labels != IGNORED
    losses = tf.where(is_valid, keras.losses.sparse_categorical_crossentropy(tf.where(is_valid, labels, 0), logits, from_logits=True), 0.0)
    return tf.math.divide_no_nan(tf.reduce_sum(losses, axis=(1, 2)), tf.reduce_sum(tf.cast(is_valid, tf.float32), axis=(1, 2)))
