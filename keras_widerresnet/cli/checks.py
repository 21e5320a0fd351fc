"""Checks of option values that run before TensorFlow is imported."""

from __future__ import annotations

import importlib.util
import os
import pathlib

from keras_widerresnet import models
from keras_widerresnet.conversion_config import find_convertible
from keras_widerresnet.errors import InputError
from keras_widerresnet.runs import Run
from keras_widerresnet.texts import read_class_names
from keras_widerresnet.weights.registry import PRETRAINED


def check_model(
    weights: str,
    model: str = "",
    *,
    task: str = "",
    instead: str = "",
    takes_saved_models: bool = True,
) -> models.Source:
    """Returns the source that `weights` names, if the command accepts its kind and task.

    Args:
        weights, model: as in `models.find_source`.
        task: the only task that the command accepts; empty for any.
        instead: the command that accepts the other task, for the error message.
        takes_saved_models: whether the command accepts SavedModels, which do not contain a Keras model.

    Raises:
        InputError: if there is no such model, or the command does not accept its kind or task.
    """
    source = models.find_source(weights, model)
    if not takes_saved_models:
        source.check_is_no_saved_model()
    if task and source.facts.task not in ("", task):
        raise InputError(f"{weights!r} is a {source.facts.task} network: use {instead}")
    return source


def check_start(weights: str, structure: str) -> None:
    """Raises `InputError` if a run cannot start from `weights`; empty for random initialisation."""
    if weights:
        check_model(weights, structure if weights == models.IMAGENET else "", takes_saved_models=False)


def check_convertible(source: str, model: str) -> None:
    """Raises `InputError` if `source` cannot be converted, or `model` is neither a structure nor a pretrained name."""
    path = pathlib.Path(os.path.expanduser(source))
    if not os.path.isfile(path) and not Run.at(path):
        needed = "an original file (.params, .pth, .safetensors, .h5) or a run directory"
        raise InputError(f"No weights file can be read at {source!r}: conversion needs {needed}")
    if path.name.endswith(".weights.h5"):
        raise InputError(f"{source!r} is already a Keras file, which every command accepts: it needs no conversion")
    if model and model not in PRETRAINED:
        find_convertible(model)


def say_protocol(options: models.ModelOptions) -> None:
    """Prints the evaluation protocol that published weights or a run bring with them."""
    source = models.find_source(options.weights, options.model)
    if source.protocol is None:
        return
    of = f"Published protocol of {source.record.name}" if source.record else f"Protocol of {source.text}"
    padding = source.record.tested_pool_padding if source.record and not options.pool_padding else ""
    print(f"{of}, unless flags override it: {source.protocol}{f', {padding} pools' if padding else ''}")


def require(package: str, what: str, install: str) -> None:
    """Raises `InputError` if an optional package is not installed.

    Args:
        package: the module to import.
        what: the feature that needs it.
        install: the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{what} needs {package}: {install}")


def check_file(path: str, what: str) -> None:
    """Raises `InputError` if a file named by an option does not exist."""
    if path and not pathlib.Path(path).is_file():
        raise InputError(f"No {what} at {path!r}")


def check_names_file(path: str) -> None:
    """Raises `InputError` if the file of `--class_names` does not exist or contains an invalid class name."""
    if path:
        check_file(os.path.expanduser(path), "file of class names")
        read_class_names(path)
