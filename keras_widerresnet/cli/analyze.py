"""`keras-widerresnet analyze`: effective depth, path lengths, lesions."""

from __future__ import annotations

import pathlib

from keras_widerresnet import models
from keras_widerresnet.analysis.config import FILES, OPTIONAL, AnalysisConfig
from keras_widerresnet.cli import process
from keras_widerresnet.cli.checks import check_model
from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from keras_widerresnet.files import check_output
from keras_widerresnet.runs import Run


def check(config: AnalysisConfig) -> None:
    """Checks what can be found from the options alone."""
    for model in config.models:
        run = Run.at(model)
        if run:  # need not be finished: checkpoints are sufficient
            run.check_task(models.CLASSIFICATION, "only classification networks can be analysed")
            run.metrics()
        else:
            task = models.CLASSIFICATION
            check_model(model, config.model, task=task, instead="a classification network", takes_saved_models=False)
    parse_name(config.data, CLASSIFICATION)
    check_output(pathlib.Path(config.output_dir), config.overwrite, FILES, OPTIONAL)


def run(config: AnalysisConfig) -> None:
    """Runs the analysis and prints the path of its report."""
    with process.without_garbage_collection():
        from keras_widerresnet.analysis.analyze import analyze

    print(f"Report: {analyze(config)}")


COMMAND = Command(
    "analyze",
    "Measures the effective depth of trained networks, the gradient per path length, and the cost of dropping units.",
    "keras-widerresnet analyze runs/digits --data=digits --output_dir=runs/digits-analysis",
    AnalysisConfig,
    run,
    check,
)
