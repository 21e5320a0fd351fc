"""The command of `scripts/study_depth.py`; Keras is imported only once its options are known to be right."""

from __future__ import annotations

from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from research.config import StudyConfig


def check(config: StudyConfig) -> None:
    """Raises `InputError` for data that no run could read."""
    parse_name(config.data, CLASSIFICATION)


def run(config: StudyConfig) -> None:
    """Runs what is left to run of a study, and writes its report; see `study.run_study`."""
    from research.study import run_study
    from research.study_report import write_report

    run_study(config)
    print(f"Report: {write_report(config)}")


COMMAND = Command(
    name="study_depth",
    summary="Trains and analyses networks of several depths and widths: where does depth stop paying, and does effective depth predict it? "
    "The same command goes on with a study that was stopped.",
    example="python scripts/study_depth.py --data=folder:PATH --output_dir=runs/study",
    config=StudyConfig,
    run=run,
    check=check,
)
