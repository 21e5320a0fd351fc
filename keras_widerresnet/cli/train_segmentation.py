"""`keras-widerresnet train-segmentation`: a dilated network for segmentation."""

from __future__ import annotations

import logging

from keras_widerresnet import runs
from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_start, require
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import SEGMENTATION, parse_name
from keras_widerresnet.heads import DEEPLAB_V3_PLUS, HOW_TO_INSTALL
from keras_widerresnet.tasks.segmentation.config import SegmentationConfig


def check(config: SegmentationConfig) -> None:
    """Checks what can be found from the options alone."""
    parse_name(config.data, SEGMENTATION)
    if config.head == DEEPLAB_V3_PLUS:
        require("keras_hub", f"--head={DEEPLAB_V3_PLUS}", HOW_TO_INSTALL)
    check_start(config.weights, config.structure)
    runs.may_start(config)


def run(config: SegmentationConfig) -> None:
    """Trains a network and prints the path of its report."""
    process.restart_with_huge_pages()
    with process.without_garbage_collection():
        from keras_widerresnet.tasks.segmentation.task import Segmentation
        from keras_widerresnet.training.run import train

    logging.getLogger("keras_widerresnet").setLevel(logging.INFO)
    print(f"Report: {train(config, Segmentation)}")


COMMAND = Command(
    "train-segmentation",
    "Trains a dilated network for segmentation; the defaults are the official release's recipe.",
    "keras-widerresnet train-segmentation --data=voc:VOCdevkit --weights=imagenet-a1 --output_dir=runs/voc",
    SegmentationConfig,
    run,
    check,
)
