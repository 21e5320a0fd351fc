"""Training setup shared by all tasks: precision, initial weights and optimizer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_widerresnet.freezing import freeze
from keras_widerresnet.loading import load_arrays, load_keras_file
from keras_widerresnet.models import IMAGENET, KERAS_FILE, ORIGINAL_FILE, RUN, Source, find_source
from keras_widerresnet.runs import Run
from keras_widerresnet.structures import Structure, find_structure, frozen_in_words
from keras_widerresnet.training.config import RunConfig
from keras_widerresnet.training.optimizer import TorchSGD, make_schedule
from keras_widerresnet.training.processor import training_devices, warn_of_slow_precision
from keras_widerresnet.training.strategy import synchronize_batch_norm
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.keras_file import model_config
from keras_widerresnet.weights.original import read_original, told_by

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def precision(config: RunConfig) -> Iterator[None]:
    """Sets the configuration's precision as Keras' global dtype policy inside the context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy({"none": keras.config.floatx()}.get(config.mixed_precision, f"mixed_{config.mixed_precision}"))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compiled(
    network: keras.Model,
    config: RunConfig,
    steps_per_epoch: int,
    loss: str | Callable,
    *,
    metrics: Sequence[str] | None = None,
    shift_rate: float = 1.0,
) -> keras.Model:
    """Loads the initial weights into the network and compiles it; must be called in the strategy's scope.

    Args:
        network: a newly built network.
        config: the run's settings.
        steps_per_epoch: number of steps per epoch.
        loss, metrics: as in `keras.Model.compile`.
        shift_rate: learning rate multiplier of biases and batch-norm shifts.

    Raises:
        InputError: if the initial weights are not found or do not fit.
    """
    warn_of_slow_precision(config.mixed_precision, training_devices())
    if config.weights:
        start_from(network, config.weights, find_structure(config.structure), config.pool_padding)
    if config.freeze:
        freeze(network, config.freeze)
    if config.sync_batch_norm:
        synchronize_batch_norm(network)
    schedule = make_schedule(
        config.schedule, config.scaled_learning_rate, config.epochs * steps_per_epoch, round(config.warmup_epochs * steps_per_epoch)
    )
    averaging: dict[str, Any] = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    optimizer = TorchSGD(schedule, config.momentum, config.weight_decay, nesterov=config.nesterov, shift_rate=shift_rate, **averaging)
    if config.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    network.compile(optimizer, loss=loss, metrics=metrics, jit_compile=False)
    network.optimizer.build(network.trainable_variables)
    return network


def frozen_rows(config: RunConfig, run: Run) -> list[tuple[str, str]]:
    """Rows of a report's table of the network: what was frozen, and how many parameters were trained; none where nothing was frozen."""
    if not config.freeze:
        return []
    trained, parameters = run.facts["trained_parameters"], run.facts["parameters"]
    return [
        ("frozen", f"{frozen_in_words(config.freeze)}, as in {config.weights}"),
        ("trained parameters", f"{trained:,} of {parameters:,} ({trained / parameters:.2%})"),
    ]


def starting_activation(config: RunConfig) -> str:
    """Returns the activation that the initial weights were trained with; ReLU for random initialisation.

    Raises:
        InputError: if the weights are not found.
    """
    if not config.weights:
        return "relu"
    source = find_source(config.weights, _own_structure(config.weights, find_structure(config.structure)))
    if source.kind == ORIGINAL_FILE and source.path:
        return read_original(source.path).activation or "relu"
    if source.kind in (RUN, KERAS_FILE) and source.path:
        return told_by(model_config(source.path)).get("activation", "relu")
    return source.facts.activation


def activation_of(network: keras.Model) -> str:
    """Returns the network's activation, one of `units.ACTIVATIONS`."""
    return "leaky_relu" if any(isinstance(layer, keras.layers.LeakyReLU) for layer in network.layers) else "relu"


def start_from(network: keras.Model, weights: str, structure: Structure, pool_padding: str = "") -> None:
    """Loads trained weights, also those of a structure that downsamples differently (A1 from A, as in the official release).

    Head layers that the weights lack, or have in another shape, keep their random initialisation.

    Args:
        network: of this structure.
        weights: as in `models.find_source`.
        pool_padding: the network's pool padding; empty for the convention of the weights.

    Raises:
        InputError: if the weights are not found or do not fit.
    """
    is_classifier = not isinstance(network.get_layer(head_layers(network)[-1]), keras.layers.Conv2D)
    source = find_source(weights, _own_structure(weights, structure))
    arrays = load_arrays(source, structure, include_top=is_classifier, activation=activation_of(network), pool_padding=pool_padding)
    arrays |= _whole_layers(source, network, arrays)
    for name in head_layers(network):
        own = network.get_layer(name).get_weights()
        if [array.shape for array in own] != [np.shape(array) for array in arrays.get(name, [])]:
            logger.info("%s has no %s of this shape: that layer is randomly initialised", weights, name)
            arrays[name] = own
    assign_weights(network, arrays, repr(weights), ignore_head=True)


def _whole_layers(source: Source, network: keras.Model, arrays: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Returns the arrays of head layers made of layers, which a file of weights lists one by one; takes these out of `arrays`."""
    names = [name for name in head_layers(network) if network.get_layer(name)._flatten_layers(include_self=False)]
    if not names or source.kind not in (RUN, KERAS_FILE):
        return {}
    layers = {layer.name: layer for layer in load_keras_file(str(source.path)).layers}
    found = {name: layers[name] for name in names if name in layers}
    for layer in found.values():
        for part in layer._flatten_layers():
            arrays.pop(part.name, None)
    return {name: layer.get_weights() for name, layer in found.items()}


def head_layers(network: keras.Model) -> list[str]:
    """Returns the names of the layers with weights after the backbone's last batch norm: the classifier or segmentation head."""
    names = [layer.name for layer in network.layers if layer.weights]
    return names[names.index("bn7") + 1 :]


def _own_structure(weights: str, structure: Structure) -> str:
    """Returns the structure that "imagenet" refers to; empty for other names, which imply their own."""
    return (structure.name or str(structure)) if weights == IMAGENET else ""
