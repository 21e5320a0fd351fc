"""The states of networks to analyse, in the order of training: from runs and all other kinds of models."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_widerresnet import runs
from keras_widerresnet.errors import InputError, first_line
from keras_widerresnet.loading import load_keras_file, load_network
from keras_widerresnet.models import BuildOptions, Source, find_source
from keras_widerresnet.runs import Run

_STEP = "step/.ATTRIBUTES/VARIABLE_VALUE"
SCORE = "val_accuracy"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A trained state of a network.

    Args:
        name: name of the state for reports.
        load: function that returns the network.
        source: source of the network; None for a state of a run, whose networks expect the output of `preprocess_input`.
    """

    name: str
    load: Callable[[], keras.Model]
    source: Source | None = None


def snapshots(models: Sequence[str], options: BuildOptions = BuildOptions()) -> list[Snapshot]:  # noqa: B008 (frozen)
    """Returns the states in `models`, in order.

    Args:
        models: everything that `models.find_source` accepts except SavedModels. The states of a run are its checkpoints, its best and its
            final network, by epoch. A run keeps its last two checkpoints; for a finer curve use `.keras` files from your own callback.
        options: how to build networks whose weights do not specify it.

    Raises:
        InputError: if an entry is not a model, or is a segmentation run.
    """
    found = []
    for model in models:
        run = Run.at(model)
        if run:
            states = _of_run(run)
            if not states:
                raise InputError(f"{str(run.path)!r} does not contain a saved network yet: there is nothing to analyse")
            found += states
            continue
        source = find_source(model, options.model)
        source.check_is_no_saved_model("whose units cannot be separated")
        name = source.path.name.split(".")[0] if source.path else source.text
        found.append(
            Snapshot(name, functools.partial(load_network, source, width=options.width, pool_padding=options.pool_padding), source)
        )
    if not found:
        raise InputError("No network to analyse: specify .keras files or run directories with a saved network")
    return found


def _of_run(run: Run) -> list[Snapshot]:
    run.check_task(runs.CLASSIFICATION, "classification networks are analysed")
    scores = run.scores(SCORE)
    if not scores:
        return []
    epochs, best = len(scores), run.best_network
    found: list[tuple[float, str, Callable[[], keras.Model]]] = []
    if best:
        found.append((scores.index(max(scores)) + 1, "best", _loader(best)))
        found += [(epoch, "checkpoint", _restorer(best, path)) for epoch, path in _checkpoints(run, epochs)]
    if (run.path / runs.FINAL_FILE).is_file():
        # The last checkpoint is the final network, or the one before its weights were averaged.
        found = [one for one in found if one[0] != epochs] + [(epochs, "final", _loader(run.final_network()))]
    ordered = sorted(found, key=lambda one: one[0])
    return [Snapshot(f"{run.path.name}, epoch {epoch:g} ({kind})", load) for epoch, kind, load in ordered]


def _checkpoints(run: Run, epochs: int) -> list[tuple[float, str]]:
    folder = run.path / runs.CHECKPOINTS_FOLDER
    try:
        state = tf.train.get_checkpoint_state(str(folder))
        paths = list(state.all_model_checkpoint_paths) if state else []
        steps = [int(tf.train.load_checkpoint(path).get_tensor(_STEP)) for path in paths]
    except Exception as error:  # TensorFlow raises many kinds
        raise InputError(f"{str(folder)!r} is damaged: {first_line(error)}") from None
    # Fallback if the flags do not specify it: exact for a run that did not stop within an epoch.
    an_epoch = int(run.number("steps_per_epoch")) or (max(1, steps[-1] // epochs) if steps else 1)
    return [(round(step / an_epoch, 2), path) for step, path in zip(steps, paths, strict=True)]


def _loader(path: pathlib.Path) -> Callable[[], keras.Model]:
    return lambda: load_keras_file(path)


def _restorer(model: pathlib.Path, checkpoint: str) -> Callable[[], keras.Model]:
    def load():
        network = load_keras_file(model)
        try:
            tf.train.Checkpoint(model=network).restore(checkpoint).expect_partial().assert_existing_objects_matched()
        except Exception as error:  # TensorFlow raises many kinds
            raise InputError(f"The checkpoint {checkpoint!r} cannot be restored into {str(model)!r}: {first_line(error)}") from None
        return network

    return load
