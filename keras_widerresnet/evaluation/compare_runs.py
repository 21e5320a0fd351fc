"""Runs side by side: those that differ only in their seed are one row of a table and one curve."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_widerresnet.errors import InputError
from keras_widerresnet.evaluation import figures
from keras_widerresnet.structures import find_structure

METRIC = "val_accuracy"


def compare_runs(run_dirs: Sequence[str | pathlib.Path], classes: int, picture: pathlib.Path | None = None) -> list[dict[str, object]]:
    """Compares finished runs on the same data.

    Args:
        run_dirs: run directories as `training.run.train` leaves them; a row is named after its first one, without `-SEED`.
        classes: number of classes, for parameters and multiply-adds.
        picture: PNG file to write: test accuracy against the epoch, the mean over the seeds within their range.

    Returns:
        For each kind of run its name, structure, depth, parameters, multiply-adds, number of seeds, and mean, lowest and highest test
        accuracy after the last epoch.

    Raises:
        InputError: for a directory without a finished run, or runs of the same kind and different lengths.
    """
    kinds: dict[tuple, list[tuple[pathlib.Path, np.ndarray]]] = {}
    for run_dir in map(pathlib.Path, run_dirs):
        flags, accuracies = _read(run_dir)
        kinds.setdefault(tuple(sorted(item for item in flags.items() if item[0] != "seed")), []).append((run_dir, accuracies))
    rows, curves = [], {}
    for flags, runs in kinds.items():
        if len({len(accuracies) for _, accuracies in runs}) > 1:
            raise InputError(f"Runs of different lengths: {', '.join(str(run_dir) for run_dir, _ in runs)}")
        options = dict(flags)
        structure, width = find_structure(options["structure"]), float(options["width"])
        size = int(options["crop_size"]) or structure.crop_size
        accuracies = np.stack([accuracies for _, accuracies in runs])
        name = runs[0][0].name.rpartition("-")[0] or runs[0][0].name
        curves[name] = accuracies
        rows.append(
            {
                "runs": name,
                "structure": f"{structure}, width {width:g}",
                "depth": structure.depth,
                "parameters": f"{structure.parameters(classes=classes, width=width) / 1e6:.2f} M",
                "multiply-adds": f"{structure.multiply_adds(size, classes=classes, width=width) / 1e6:.1f} M",
                "seeds": len(runs),
                "test accuracy": f"{accuracies[:, -1].mean():.2%}",
                "lowest, highest": f"{accuracies[:, -1].min():.2%}, {accuracies[:, -1].max():.2%}",
            }
        )
    if picture:
        figures.accuracy_curves(curves, picture)
    return rows


def _read(run_dir: pathlib.Path) -> tuple[dict[str, str], np.ndarray]:
    if not (run_dir / "report.md").is_file():
        raise InputError(f"{str(run_dir)!r} is not the directory of a finished run (no report.md)")
    lines = (run_dir / "flags.txt").read_text().splitlines()
    flags = dict(line.removeprefix("--").split("=", 1) for line in lines)
    with (run_dir / "metrics.csv").open(newline="") as file:
        return flags, np.array([float(row[METRIC]) for row in csv.DictReader(file)])
