"""What a run leaves, and what may be done with what another run left."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import pathlib
import platform
import shutil

import tensorflow as tf

import keras_widerresnet
from keras_widerresnet.errors import InputError
from keras_widerresnet.files import replacing
from keras_widerresnet.training.config import RunConfig

FLAGS_FILE = "flags.txt"
METRICS_FILE = "metrics.csv"
REPORT_FILE = "report.md"
PACKAGES = ("keras", "numpy", "tensorflow-datasets", "scikit-learn", "matplotlib")


def is_finished(run_dir: pathlib.Path, config: RunConfig) -> bool:
    """Whether the run exists whole; raises `InputError` for an existing directory that is not to be touched."""
    if not run_dir.exists() or (run_dir.is_dir() and not any(run_dir.iterdir())):
        return False
    is_run = (run_dir / FLAGS_FILE).is_file()
    if not (config.overwrite or config.resume):
        raise InputError(f"{run_dir} exists: --resume goes on with that run, --overwrite replaces it, --output_dir names another")
    if not is_run:
        raise InputError(f"{run_dir} exists and is not a run directory (no {FLAGS_FILE}): choose another --output_dir")
    if config.overwrite:
        return False
    config.check_same(run_dir / FLAGS_FILE)
    return (run_dir / REPORT_FILE).is_file()


def prepare(run_dir: pathlib.Path, config: RunConfig) -> None:
    """Makes the directory, with the run's flags and versions."""
    if config.overwrite and run_dir.exists():
        shutil.rmtree(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with replacing(run_dir / FLAGS_FILE) as temporary:
        config.save(temporary)
    versions = {"python": platform.python_version(), "keras_widerresnet": keras_widerresnet.__version__, "tensorflow": tf.__version__}
    versions |= {package: importlib.metadata.version(package) for package in PACKAGES}
    with replacing(run_dir / "versions.json") as temporary:
        temporary.write_text(json.dumps(versions, indent=2) + "\n")


def forget_later_epochs(path: pathlib.Path, epochs_done: int, score: str) -> float:
    """Removes rows of epochs that a killed run logged but did not checkpoint; returns the best test score of the rest."""
    if not path.exists() or not epochs_done:
        path.unlink(missing_ok=True)
        return -1.0
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["epoch"]) < epochs_done]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, reader.fieldnames)
        writer.writeheader()
        writer.writerows(rows)
    return max(float(row[f"val_{score}"]) for row in rows)
