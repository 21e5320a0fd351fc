"""Comparison of runs: runs that differ only in their seed are combined in one table row and one curve."""

from __future__ import annotations

import pathlib
import re

import numpy as np

from keras_widerresnet import runs
from keras_widerresnet.errors import InputError
from keras_widerresnet.imagenet import imagenet_classes
from keras_widerresnet.runs import Run
from keras_widerresnet.structures import POOL_PADDINGS
from keras_widerresnet.tasks.classification import figures
from keras_widerresnet.tasks.classification.config import ComparisonConfig

METRIC = "val_accuracy"


def compare_runs(config: ComparisonConfig) -> list[dict[str, object]]:
    """Compares finished classification runs on the same data; a row is named after its first run, without `-SEED`.

    The picture, if requested, shows the accuracy per epoch: the mean over the seeds, and their range.

    Returns:
        For each kind of run: its name, structure, depth, parameters, multiply-adds, number of seeds, and the mean, lowest and highest
        accuracy after the last epoch, on the images on which epochs were scored.

    Raises:
        InputError: for a folder without a finished classification run, or runs of the same kind that differ in length.
    """
    kinds: dict[tuple, list[tuple[Run, np.ndarray]]] = {}
    for path in config.runs:
        run, accuracies = _read(path)
        kinds.setdefault(tuple(sorted(item for item in run.flags.items() if item[0] != "seed")), []).append((run, accuracies))
    rows, curves = [], {}
    for flags, found in kinds.items():
        if len({len(accuracies) for _, accuracies in found}) > 1:
            raise InputError(f"Runs of the same kind must have equal numbers of epochs: {', '.join(str(run.path) for run, _ in found)}")
        options, first = dict(flags), found[0][0]
        structure, width = first.structure, first.number("width")
        size = int(first.number("crop_size")) or structure.crop_size
        padding = first.flags.get("pool_padding") or POOL_PADDINGS[0]
        classes = config.classes or len(first.class_names) or len(imagenet_classes())
        try:
            multiply_adds = structure.multiply_adds(size, classes=classes, width=width, pool_padding=padding)
        except InputError as error:  # a network with these flags cannot have been trained
            raise InputError(f"{str(first.path)!r} has invalid flags: {error}") from None
        accuracies = np.stack([accuracies for _, accuracies in found])
        name = re.sub(r"(?<=.)-\d+$", "", first.path.name)
        curves[name] = accuracies
        scored = "test" if options.get("validation", "none") == "none" else "validation"
        rows.append(
            {
                "runs": name,
                "structure": f"{structure}, width {width:g}",
                "depth": structure.depth,
                "parameters": f"{structure.parameters(classes=classes, width=width) / 1e6:.2f} M",
                "multiply-adds": f"{multiply_adds / 1e6:.1f} M",
                "seeds": len(found),
                f"{scored} accuracy": f"{accuracies[:, -1].mean():.2%}",
                "lowest, highest": f"{accuracies[:, -1].min():.2%}, {accuracies[:, -1].max():.2%}",
            }
        )
    if config.picture:
        figures.accuracy_curves(curves, pathlib.Path(config.picture))
    return rows


def _read(path: str) -> tuple[Run, np.ndarray]:
    run = Run.finished(path)
    run.check_task(runs.CLASSIFICATION, "only classification runs can be compared")
    scores = run.scores(METRIC)
    if not scores:
        raise InputError(f"{str(run.path / runs.METRICS_FILE)!r} contains no epochs: there is nothing to compare")
    return run, np.array(scores)
