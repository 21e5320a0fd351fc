"""`keras-widerresnet compare-runs`: finished runs side by side."""

from __future__ import annotations

from keras_widerresnet.cli.command import Command
from keras_widerresnet.runs import CLASSIFICATION, Run
from keras_widerresnet.tasks.classification.config import ComparisonConfig


def check(config: ComparisonConfig) -> None:
    """Checks what can be found from the options alone."""
    for path in config.runs:
        run = Run.finished(path)
        run.check_task(CLASSIFICATION, "only classification runs can be compared")
        run.metrics()


def run(config: ComparisonConfig) -> None:
    """Prints the table of runs."""
    from tabulate import tabulate

    from keras_widerresnet.tasks.classification.comparison import compare_runs

    print(tabulate(compare_runs(config), "keys", "github", disable_numparse=True))


COMMAND = Command(
    "compare-runs",
    "Prints finished classification runs side by side; runs that differ only in their seed share a row.",
    "keras-widerresnet compare-runs runs/wide-0 runs/wide-1 runs/deep-0 --picture=accuracy.png",
    ComparisonConfig,
    run,
    check,
)
