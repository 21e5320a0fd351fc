"""Analyses saved networks and writes the results to a folder."""

from __future__ import annotations

import pathlib

from keras_widerresnet.analysis.config import FILES, OPTIONAL, AnalysisConfig, Settings
from keras_widerresnet.analysis.measure import measure
from keras_widerresnet.analysis.report import write_analysis
from keras_widerresnet.analysis.snapshots import snapshots
from keras_widerresnet.files import check_output, created
from keras_widerresnet.options import part_of
from keras_widerresnet.runs import REPORT_FILE
from keras_widerresnet.tasks.classification.data import load_data


def analyze(config: AnalysisConfig) -> pathlib.Path:
    """Measures the effective depth of all models and everything else on the last one; writes the report, tables and figures.

    Gradients are measured on the data set's training images, lesions on its test images.

    Returns:
        The path of the report.

    Raises:
        InputError: if a model, the data or the folder is invalid; no folder is then written.
    """
    output_dir = pathlib.Path(config.output_dir)
    check_output(output_dir, config.overwrite, FILES, OPTIONAL)
    states, images = snapshots(config.models, config), load_data(config.data, convert_rgb=True, verify=False, max_pixels=config.max_pixels)
    settings = part_of(config, Settings)
    with created(output_dir) as folder:
        write_analysis(folder, measure(states, images, settings, config.preprocessing))
    return output_dir / REPORT_FILE
