"""`keras-widerresnet train`: a classification network."""

from __future__ import annotations

import logging

from keras_widerresnet import runs
from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_start, require
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.tasks.classification.config import TrainingConfig


def check(config: TrainingConfig) -> None:
    """Checks what can be found from the options alone."""
    parse_name(config.data, CLASSIFICATION)
    check_start(config.weights, config.structure)
    started, _ = runs.may_start(config)
    if started.augmentation().needs_keras_cv:
        require("keras_cv", "--augmentations=keras_cv", 'pip install "keras_widerresnet[augment]"')


def run(config: TrainingConfig) -> None:
    """Trains a network and prints the path of its report."""
    process.restart_with_huge_pages()
    with process.without_garbage_collection():
        from keras_widerresnet.tasks.classification.task import Classification
        from keras_widerresnet.training.run import train

    logging.getLogger("keras_widerresnet").setLevel(logging.INFO)
    print(f"Report: {train(config, Classification)}")


COMMAND = Command(
    "train",
    "Trains a wide residual network for classification; the defaults are the official release's recipe.",
    "keras-widerresnet train --data=folder:PHOTOGRAPHS --structure=A1 --weights=imagenet-a1 --epochs=10 --output_dir=runs/mine",
    TrainingConfig,
    run,
    check,
)
