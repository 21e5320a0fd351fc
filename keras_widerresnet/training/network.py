"""What the networks of all tasks have in training: precision, starting weights, optimizer."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_widerresnet.freezing import freeze
from keras_widerresnet.loading import load_arrays
from keras_widerresnet.models import IMAGENET, KERAS_FILE, ORIGINAL_FILE, RUN, find_source
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
    """The configuration's precision is Keras' policy for what is built inside."""
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
    """The network at the weights it starts from, with its optimizer; call it in the strategy's scope.

    Args:
        network: as it was built.
        config: the run's settings.
        steps_per_epoch: steps of an epoch.
        loss, metrics: as in `keras.Model.compile`.
        shift_rate: factor of the learning rate for biases and batch-norm shifts.

    Raises:
        InputError: if the weights to start from are not found or do not fit.
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
    """The activation of the weights to start from, which no option says; ReLU where training starts from nothing.

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
    """One of `units.ACTIVATIONS`."""
    return "leaky_relu" if any(isinstance(layer, keras.layers.LeakyReLU) for layer in network.layers) else "relu"


def start_from(network: keras.Model, weights: str, structure: Structure, pool_padding: str = "") -> None:
    """Sets the network to trained weights, also those of a structure that halves otherwise (A1 from A: official release).

    Head layers that the weights lack, or have for other classes or in another form, stay as they were initialised.

    Args:
        network: of this structure.
        weights: as in `models.find_source`.
        pool_padding: of the network; empty for the convention of the weights.

    Raises:
        InputError: if the weights are not found or do not fit.
    """
    is_classifier = not isinstance(network.get_layer(head_layers(network)[-1]), keras.layers.Conv2D)
    source = find_source(weights, _own_structure(weights, structure))
    arrays = load_arrays(source, structure, include_top=is_classifier, activation=activation_of(network), pool_padding=pool_padding)
    for name in head_layers(network):
        own = network.get_layer(name).get_weights()
        if [array.shape for array in own] != [np.shape(array) for array in arrays.get(name, [])]:
            logger.info("%s has no %s of this shape: that layer starts anew", weights, name)
            arrays[name] = own
    assign_weights(network, arrays, repr(weights), ignore_head=True)


def head_layers(network: keras.Model) -> list[str]:
    """Names of the layers with weights behind the backbone's last batch norm: the classifier's, or a segmentation head's."""
    names = [layer.name for layer in network.layers if layer.weights]
    return names[names.index("bn7") + 1 :]


def _own_structure(weights: str, structure: Structure) -> str:
    """Of "imagenet" those weights are meant that are of this structure; any other name is of its own."""
    return (structure.name or str(structure)) if weights == IMAGENET else ""
