"""What options alone can get wrong, found before TensorFlow is imported."""

from __future__ import annotations

import importlib.util
import os
import pathlib

from keras_widerresnet import models
from keras_widerresnet.conversion_config import find_convertible
from keras_widerresnet.errors import InputError
from keras_widerresnet.texts import read_class_names
from keras_widerresnet.weights.first_bytes import TORCH, first_bytes
from keras_widerresnet.weights.registry import PRETRAINED


def check_model(
    weights: str,
    model: str = "",
    *,
    task: str = "",
    instead: str = "",
    takes_saved_models: bool = True,
) -> models.Source:
    """What `weights` means, if it is there and of a kind and a task that the command takes.

    Args:
        weights, model: as in `models.find_source`.
        task: the only task that the command takes; empty for any.
        instead: the command that takes the other one.
        takes_saved_models: whether the command takes SavedModels, which hold no Keras model.

    Raises:
        InputError: if there is no such model, or it is of another kind or task.
    """
    source = models.find_source(weights, model)
    if not takes_saved_models:
        source.check_is_no_saved_model()
    if task and source.facts.task not in ("", task):
        raise InputError(f"{weights!r} is a {source.facts.task} network: {instead} takes it")
    if source.kind == models.ORIGINAL_FILE and source.path:
        _check_original(source.path)
    return source


def check_start(weights: str, structure: str) -> None:
    """Raises `InputError` if a run cannot start from `weights`; empty for a run that starts from nothing."""
    if weights:
        check_model(weights, structure if weights == models.IMAGENET else "", takes_saved_models=False)


def check_convertible(source: str, model: str) -> None:
    """Raises `InputError` if `source` is no file that can be converted, or `model` neither a structure nor a pretrained name."""
    path = pathlib.Path(os.path.expanduser(source))
    if not os.path.isfile(path):
        raise InputError(f"No weights file can be read at {source!r}: conversion takes an original file (.params, .pth, .h5)")
    if path.name.endswith((".keras", ".weights.h5")):
        raise InputError(f"{source!r} is one of Keras' own files, which every command takes as it is: nothing is to be converted")
    if model and model not in PRETRAINED:
        find_convertible(model)
    _check_original(path)


def say_protocol(options: models.ModelOptions) -> None:
    """Says by which protocol weights are used, where they were published with one or the run that is named had one."""
    source = models.find_source(options.weights, options.model)
    if source.protocol is None:
        return
    of = f"Published protocol of {source.record.name}" if source.record else f"Protocol of {source.text}"
    padding = source.record.tested_pool_padding if source.record and not options.pool_padding else ""
    print(f"{of}, where no flag says otherwise: {source.protocol}{f', {padding} pools' if padding else ''}")


def require(package: str, what: str, install: str) -> None:
    """Raises `InputError` if an optional package is not installed.

    Args:
        package: the module to import.
        what: what needs it.
        install: the command that brings it.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{what} needs {package}: {install}")


def check_file(path: str, what: str) -> None:
    """Raises `InputError` if a file that an option names is not there."""
    if path and not pathlib.Path(path).is_file():
        raise InputError(f"No {what} at {path!r}")


def check_names_file(path: str) -> None:
    """Raises `InputError` if the file that `--class_names` names is not there or holds a line that is no class name."""
    if path:
        check_file(os.path.expanduser(path), "file of class names")
        read_class_names(path)


def _check_original(path: pathlib.Path) -> None:
    if first_bytes(path).startswith(TORCH):
        require("torch", f"{str(path)!r} is a PyTorch file: reading it", "pip install torch")
