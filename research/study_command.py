"""The command of `scripts/study_depth.py`; Keras is imported only after its options have been checked."""

from __future__ import annotations

from keras_widerresnet.cli.command import Command
from keras_widerresnet.data.names import CLASSIFICATION, parse_name
from research.config import StudyConfig
from research.plan import read_recipe


def check(config: StudyConfig) -> None:
    """Raises `InputError` if the runs could not read the data or the recipe."""
    parse_name(config.data, CLASSIFICATION)
    read_recipe(config)


def run(config: StudyConfig) -> None:
    """Runs the unfinished part of a study and writes its report; see `study.run_study`."""
    from research.study import run_study
    from research.study_report import write_report

    run_study(config)
    print(f"Report: {write_report(config)}")


COMMAND = Command(
    name="study_depth",
    summary="Trains and analyses networks of several depths and widths: where does depth stop paying off, and does effective depth predict "
    "it? The same command resumes a study that was stopped.",
    example="python scripts/study_depth.py --data=folder:PATH --output_dir=runs/study",
    config=StudyConfig,
    run=run,
    check=check,
)
