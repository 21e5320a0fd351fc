"""From saved networks to the folder of an analysis."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from keras_widerresnet.analysis.measure import Settings, measure
from keras_widerresnet.analysis.report import FILES, OPTIONAL, REPORT_FILE, write_analysis
from keras_widerresnet.analysis.snapshots import snapshots
from keras_widerresnet.data import load_data
from keras_widerresnet.evaluation.evaluation_directory import check_output, created


def analyze(
    models: Sequence[str], data: str, output_dir: str | pathlib.Path, settings: Settings | None = None, *, overwrite: bool = False
) -> pathlib.Path:
    """Measures effective depth over all `models`, and all else on the last of them, and writes the report, tables and pictures.

    Args:
        models: see `snapshots`.
        data: see `data.load_data`: gradients are of its training images, lesions are tested on its test images.
        output_dir: folder to write, whole or not at all.
        settings: what is measured, and on how much; None for the defaults.
        overwrite: replace an earlier analysis.

    Returns:
        The path of the report.

    Raises:
        InputError: if a model, the data or the folder is not as it must be; no folder is written then.
    """
    output_dir = pathlib.Path(output_dir)
    check_output(output_dir, overwrite, FILES, OPTIONAL)
    states, images = snapshots(models), load_data(data, convert_rgb=True, verify=False)
    with created(output_dir) as folder:
        write_analysis(folder, measure(states, images, settings or Settings()))
    return output_dir / REPORT_FILE
