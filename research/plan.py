"""The runs of a study: which networks, seeds and budgets, what they cost, and the commands that train and analyse them."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from keras_widerresnet.cli import command_named
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.data.names import NO_VALIDATION
from keras_widerresnet.errors import InputError
from keras_widerresnet.options import defaults_of, flag_line, options_of, values_of
from keras_widerresnet.runs import FINAL_FILE
from keras_widerresnet.structures import Structure
from keras_widerresnet.tasks.classification.config import TrainingConfig
from research.config import StudyConfig

PROGRAM = (sys.executable, "-m", "keras_widerresnet")
PASSES = 3  # a training step costs as much as three forward passes: its own, and the gradients of inputs and of weights
_WIDTHS = np.arange(1, 129) / 64
# What the runs of one study have in common; the rest differs between them or is where they are written.
_OF_A_RUN = ("data", "structure", "width", "crop_size", "epochs", "warmup_epochs", "learning_rate", "seed", "validation", "verify_images")


@dataclasses.dataclass(frozen=True)
class Point:
    """One run: a network of the grid, a seed and a budget.

    Args:
        depth: units in a stage.
        row: the width that names its row of the grid.
        width: its own width.
        epochs: length of the run.
        seed: of the run.
        rate: the learning rate that this run tries; None for the rate chosen for the network.
        is_deep: whether it is the one run that is analysed with paths and lesions.
    """

    depth: int
    row: float
    width: float
    epochs: int
    seed: int = 0
    rate: float | None = None
    is_deep: bool = False

    @property
    def name(self) -> str:
        if self.is_deep:
            return "deep-narrow"
        return f"n{self.depth}-w{self.row:g}-e{self.epochs}-" + (f"s{self.seed}" if self.rate is None else f"r{self.rate}")


@functools.cache
def sizes_of(data: str) -> tuple[int, int]:
    """Returns the numbers of classes and of training images of a data set, which are part of the costs."""
    from keras_widerresnet.tasks.classification.data import load_data

    loaded = load_data(data, verify=False)
    return loaded.classes, loaded.train.size


def cost(structure: Structure, width: float, of: str, classes: int = 10) -> float:
    """Returns the multiply-adds per image, or the parameters, of a network with that many classes."""
    count = structure.parameters if of == "parameters" else structure.multiply_adds
    return float(count(classes=classes, width=width))


def points(config: StudyConfig) -> list[Point]:
    """Returns all runs that are analysed: the deep narrow one, then the budgets from the shortest, so that a part is of use.

    Of a budget the most expensive are first, so that the processes finish at about the same time.
    """
    networks = _networks(config)
    deep = [Point(config.depths[-1], config.widths[0], config.widths[0], config.deep_epochs, is_deep=True)] if config.deep_epochs else []
    return deep + [
        dataclasses.replace(network, epochs=epochs, seed=seed)
        for epochs in config.budgets
        for network in networks
        for seed in range(config.seeds)
    ]


def tuning_points(config: StudyConfig) -> list[Point]:
    """Returns the runs that choose the learning rate of each network; none if there is nothing to choose from."""
    rates = config.learning_rates if len(config.learning_rates) > 1 else ()
    return [dataclasses.replace(network, rate=rate) for network in _networks(config) for rate in rates]


def _networks(config: StudyConfig) -> list[Point]:
    """Returns the networks of the grid, each as its first run, the most expensive first."""
    found, (classes, _) = [], sizes_of(config.data)
    for row in config.widths:
        target = cost(config.built(config.depths[-1]), row, config.match, classes)
        for depth in config.depths:
            structure = config.built(depth)
            width = min(_WIDTHS, key=_distance(structure, config.match, classes, target)) if config.match else row
            found.append(Point(depth, row, float(width), config.budgets[0]))
    return sorted(found, key=lambda point: -cost(config.built(point.depth), point.width, "multiply_adds", classes))


def _distance(structure: Structure, of: str, classes: int, target: float) -> Callable[[float], float]:
    """Returns the distance of the cost at a width from the target, as a function of the width."""
    return lambda width: abs(np.log(cost(structure, width, of, classes) / target))


def read_recipe(config: StudyConfig) -> TrainingConfig:
    """Returns the training options that the runs have in common, from the recipe's flag file.

    Raises:
        InputError: if the file cannot be read, or is no recipe for training these networks.
    """
    structure = str(config.built(config.depths[-1]))
    own = {"output_dir": config.output_dir, "data": config.data, "structure": structure, "crop_size": 0, "resume": True}
    own |= {"validation": NO_VALIDATION, "verify_images": False}
    if config.steps_per_epoch:
        own["steps_per_epoch"] = config.steps_per_epoch
    try:
        return parsed(command_named("train"), [f"--flagfile={config.recipe}", *(flag_line(*one) for one in own.items())])
    except (InputError, flags.Error) as error:
        raise InputError(f"--recipe={config.recipe}: {error}") from None


def recipe_settings(recipe: TrainingConfig) -> dict[str, Any]:
    """Returns the recipe's options by name, and the warm-up as a share of the run; without those that differ between runs."""
    names = [name for name, known in options_of(recipe).items() if known.repeats and name not in _OF_A_RUN]
    return {**values_of(recipe, names), "warmup_share": recipe.warmup_epochs / recipe.epochs}


def training_of(config: StudyConfig, recipe: TrainingConfig, point: Point, rate: float) -> TrainingConfig:
    """Returns the options of a run; the schedule, with its warm-up, is stretched to the run's epochs.

    Args:
        config: the study.
        recipe: see `read_recipe`.
        point: the run.
        rate: its learning rate.
    """
    return dataclasses.replace(
        recipe,
        output_dir=str(folders(config, point)[0]),
        structure=str(config.built(point.depth)),
        width=point.width,
        epochs=point.epochs,
        warmup_epochs=recipe.warmup_epochs * point.epochs / recipe.epochs,
        learning_rate=rate,
        seed=point.seed,
        validation=NO_VALIDATION if point.rate is None else str(config.validation),
    )


def commands(config: StudyConfig, recipe: TrainingConfig, point: Point, rate: float) -> list[list[str]]:
    """Returns the commands that train a point and, unless it only tries a learning rate, analyse it; see `training_of`."""
    run, analysis = folders(config, point)
    training, defaults = training_of(config, recipe, point, rate), defaults_of(TrainingConfig)
    given = {name: getattr(training, name) for name in options_of(training)}
    train = [*PROGRAM, "train", *(flag_line(name, value) for name, value in given.items() if value != defaults[name])]
    if point.rate is not None:
        return [train]
    measured = {"data": config.data, "images": config.images, "threshold": config.threshold, "output_dir": analysis}
    if not point.is_deep:
        measured |= {"path_images": 0, "lesion_images": 0}
    return [train, [*PROGRAM, "analyze", str(run / FINAL_FILE), *(flag_line(*one) for one in measured.items())]]


def training_cost(config: StudyConfig, recipe: TrainingConfig, point: Point) -> float:
    """Returns the multiply-adds of a run's training steps, `PASSES` forward passes each; tests and analyses are not counted."""
    classes, images = sizes_of(config.data)
    seen = images if point.rate is None else round(images * (1 - config.validation))
    if recipe.steps_per_epoch:
        seen = recipe.steps_per_epoch * recipe.batch_size
    return PASSES * cost(config.built(point.depth), point.width, "multiply_adds", classes) * seen * point.epochs


def folders(config: StudyConfig, point: Point) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the run directory of a point and the folder of its analysis."""
    root = pathlib.Path(config.output_dir)
    return root / "runs" / point.name, root / "analysis" / point.name
