"""`keras-widerresnet evaluate`: top-1 and top-5 errors."""

from __future__ import annotations

import pathlib

from keras_widerresnet import models, runs
from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_model, say_protocol
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.files import check_output
from keras_widerresnet.tasks.classification.config import EvaluationConfig


def check(config: EvaluationConfig) -> None:
    """Checks what can be found from the options alone."""
    check_model(config.weights, config.model, task=models.CLASSIFICATION, instead="evaluate-segmentation")
    parse_name(config.data, CLASSIFICATION)
    check_output(pathlib.Path(config.output_dir), config.overwrite, runs.CLASSIFICATION_EVALUATION)


def run(config: EvaluationConfig) -> None:
    """Evaluates the network and prints its errors beside the published ones."""
    process.hold_weights_frozen()
    from tabulate import tabulate

    with process.without_garbage_collection():
        from keras_widerresnet.tasks.classification.evaluation import RESULT_HEADERS, evaluate

    say_protocol(config)
    found = evaluate(config)
    print(tabulate(found.rows(), RESULT_HEADERS, disable_numparse=True))
    print(f"Report: {found.report}")


COMMAND = Command(
    "evaluate",
    "Measures the top-1 and top-5 errors of a classification network on the test images of a data set.",
    "keras-widerresnet evaluate --weights=runs/digits --data=digits --output_dir=runs/digits-test",
    EvaluationConfig,
    run,
    check,
)
