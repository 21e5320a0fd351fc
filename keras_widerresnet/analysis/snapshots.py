"""States of networks to analyse, in the order in which they were trained: `.keras` files, and what a run directory holds."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_widerresnet.errors import InputError
from keras_widerresnet.training.run_directory import FLAGS_FILE, METRICS_FILE

_STEP = "step/.ATTRIBUTES/VARIABLE_VALUE"
SCORE = "val_accuracy"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A trained state; `load` makes the network."""

    name: str
    load: Callable[[], keras.Model]


def snapshots(paths: Sequence[str | pathlib.Path]) -> list[Snapshot]:
    """The states that `paths` hold, in order.

    Args:
        paths: `.keras` files, or run directories of `training.run.train`: their checkpoints, `best.keras` and `final.keras`, by epoch. A
            run keeps its last two checkpoints; for a finer curve give the `.keras` files of your own callback.

    Raises:
        InputError: for what is neither.
    """
    found = []
    for path in map(pathlib.Path, paths):
        if path.suffix == ".keras" and path.is_file():
            found.append(Snapshot(path.stem, _loader(path)))
        elif (path / FLAGS_FILE).is_file():
            found += _of_run(path)
        else:
            raise InputError(f"{str(path)!r} is neither a .keras file nor a run directory (no {FLAGS_FILE})")
    if not found:
        raise InputError("No network to analyse: give .keras files or run directories with a saved network")
    return found


def _of_run(run_dir: pathlib.Path) -> list[Snapshot]:
    if not (run_dir / METRICS_FILE).is_file():
        return []
    with (run_dir / METRICS_FILE).open(newline="") as file:
        scores = [float(row[SCORE]) for row in csv.DictReader(file)]
    epochs, found = len(scores), []
    best, final = run_dir / "best.keras", run_dir / "final.keras"
    if best.is_file():
        found.append((scores.index(max(scores)) + 1, "best", _loader(best)))
        found += [(epoch, "checkpoint", _restorer(best, path)) for epoch, path in _checkpoints(run_dir, epochs)]
    if final.is_file():
        # The last checkpoint is the final network, or the one before its weights were averaged.
        found = [one for one in found if one[0] != epochs] + [(epochs, "final", _loader(final))]
    ordered = sorted(found, key=lambda one: one[0])
    return [Snapshot(f"{run_dir.name}, epoch {epoch:g} ({kind})", load) for epoch, kind, load in ordered]


def _checkpoints(run_dir: pathlib.Path, epochs: int) -> list[tuple[float, str]]:
    state = tf.train.get_checkpoint_state(str(run_dir / "checkpoints"))
    paths = list(state.all_model_checkpoint_paths) if state else []
    steps = [int(tf.train.load_checkpoint(path).get_tensor(_STEP)) for path in paths]
    flags = dict(line.removeprefix("--").split("=", 1) for line in (run_dir / FLAGS_FILE).read_text().splitlines())
    # Where the flags leave it to the data: exact for a run that did not stop within an epoch.
    an_epoch = int(flags["steps_per_epoch"]) or (steps[-1] // epochs if steps else 1)
    return [(round(step / an_epoch, 2), path) for step, path in zip(steps, paths, strict=True)]


def _loader(path: pathlib.Path) -> Callable[[], keras.Model]:
    def load():
        try:
            return keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras raises many kinds
            raise InputError(f"{str(path)!r} cannot be loaded as a Keras model: {str(error).splitlines()[0]}") from None

    return load


def _restorer(model: pathlib.Path, checkpoint: str) -> Callable[[], keras.Model]:
    def load():
        network = _loader(model)()
        tf.train.Checkpoint(model=network).restore(checkpoint).expect_partial().assert_existing_objects_matched()
        return network

    return load
