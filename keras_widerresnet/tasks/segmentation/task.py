"""The segmentation task of a training run."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_widerresnet.data.split import Share
from keras_widerresnet.data.validation import with_validation
from keras_widerresnet.errors import InputError
from keras_widerresnet.protocols import SegmentationProtocol
from keras_widerresnet.runs import SEGMENTATION, Run
from keras_widerresnet.tasks.segmentation import batches
from keras_widerresnet.tasks.segmentation.config import SegmentationConfig
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data
from keras_widerresnet.tasks.segmentation.loss import BootstrappedCrossEntropy, MaskedCrossEntropy, image_losses
from keras_widerresnet.tasks.segmentation.metrics import SegmentationScores
from keras_widerresnet.tasks.segmentation.network import make_segmenter
from keras_widerresnet.tasks.segmentation.report import write_report


class Segmentation:
    """Implements `training.task.Task` for a `SegmentationConfig`.

    Epochs are scored at the resolution of the logits ("cells"), on whole images resized to `origin_size`. The release's test protocol,
    which scores every pixel, is applied once, for the report.
    """

    score = "mean_iou"

    def __init__(self, config: SegmentationConfig):
        self.config = config
        self.protocol = SegmentationProtocol((config.origin_size,), config.test_steps, config.test_flip)
        self.protocol.check(config.logit_stride)
        data = load_segmentation_data(
            config.data, verify=config.verify_images, cache_bytes=config.cache_mb << 20, max_pixels=config.max_pixels
        )
        self.data, self.validated_on = with_validation(data, config.validation, config.seed)
        self.validation = self.data.validation or self.data.test
        bootstrapped = config.loss == "bootstrapped"
        self.loss = BootstrappedCrossEntropy(config.threshold, config.min_kept) if bootstrapped else MaskedCrossEntropy()
        self.losses, self.test_losses = self.loss.call, image_losses

    def facts(self) -> dict[str, Any]:
        return {
            "task": SEGMENTATION,
            "data": self.data.name,
            "class_names": list(self.data.class_names),
            "training_images": self.data.train.size,
            "validation_images": self.validation.size,
            "validated_on": self.validated_on,
            "test_images": self.data.test.size,
            "protocol": dataclasses.asdict(self.protocol),
        }

    def make_network(self, steps_per_epoch: int) -> keras.Model:
        if self.config.jit_compile and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            # Replicas cannot synchronise inside an XLA-compiled function.
            raise InputError("--jit_compile must be off for segmentation on several replicas, because its loss is a mean over all of them")
        return make_segmenter(self.config, self.data.classes, steps_per_epoch, self.loss)

    def make_metrics(self) -> list[keras.metrics.Metric]:
        return [SegmentationScores(self.data.classes)]

    def train_batches(self, start_step: int, share: Share, parts: int) -> tf.data.Dataset:
        return batches.train_batches(
            self.data.train,
            crop_size=self.config.crop_size,
            stride=self.config.logit_stride,
            batch_size=self.config.batch_size,
            augmentation=self.config.augmentation(),
            seed=self.config.seed,
            start_step=start_step,
            share=share,
            parts=parts,
            data_service=self.config.data_service,
        )

    def validation_batches(self, replicas: int, share: Share, parts: int) -> tf.data.Dataset:
        sizes = {"origin_size": self.config.origin_size, "stride": self.config.logit_stride}
        return batches.test_batches(self.validation, **sizes, batch_size=replicas, share=share, parts=parts)

    def validation_steps(self, replicas: int) -> int:
        return batches.test_steps(self.validation.size, replicas)

    def write_report(self, run: Run) -> None:
        write_report(run, self.config, self.data, self.protocol, self.validated_on)
