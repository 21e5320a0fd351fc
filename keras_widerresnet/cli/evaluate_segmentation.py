"""`keras-widerresnet evaluate-segmentation`: pixel accuracy and IoU."""

from __future__ import annotations

import pathlib

from keras_widerresnet import models, runs
from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_model, say_protocol
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import SEGMENTATION, parse_name
from keras_widerresnet.files import check_output
from keras_widerresnet.tasks.segmentation.config import EvaluationConfig


def check(config: EvaluationConfig) -> None:
    """Checks what can be found from the options alone."""
    check_model(config.weights, config.model, task=models.SEGMENTATION, instead="evaluate")
    parse_name(config.data, SEGMENTATION)
    check_output(pathlib.Path(config.output_dir), config.overwrite, runs.SEGMENTATION_EVALUATION, {runs.PREDICTIONS_FOLDER})


def run(config: EvaluationConfig) -> None:
    """Evaluates the network and prints its scores beside the published ones."""
    process.hold_weights_frozen()
    from tabulate import tabulate

    with process.without_garbage_collection():
        from keras_widerresnet.tasks.segmentation.evaluation import RESULT_HEADERS, evaluate_segmentation

    say_protocol(config)
    found = evaluate_segmentation(config)
    print(tabulate(found.rows(), RESULT_HEADERS, disable_numparse=True))
    print(f"Report: {found.report}")


COMMAND = Command(
    "evaluate-segmentation",
    "Evaluates a segmentation network on the test images of a data set with the official release's protocol.",
    "keras-widerresnet evaluate-segmentation --weights=runs/voc --data=voc:VOCdevkit --sizes=500 --flip --output_dir=runs/voc-test",
    EvaluationConfig,
    run,
    check,
)
