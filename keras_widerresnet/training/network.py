"""The network that a configuration describes, with its optimizer, at the weights it starts from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import keras
import numpy as np

from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.segmentation import WideResNetFCN
from keras_widerresnet.structures import Structure, find_structure
from keras_widerresnet.training.config import RunConfig, SegmentationConfig, TrainingConfig
from keras_widerresnet.training.optimizer import TorchSGD, make_schedule
from keras_widerresnet.training.strategy import synchronize_batch_norm
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.find import find_record, find_weights

logger = logging.getLogger(__name__)


def make_network(config: TrainingConfig, classes: int, crop_size: int, steps_per_epoch: int) -> keras.Model:
    """The compiled classification network; call it in the strategy's scope.

    Raises:
        InputError: if the weights to start from do not fit, or the structure cannot be built.
    """
    with _precision(config):
        network = WiderResNet(
            config.structure,
            input_shape=(crop_size, crop_size, 3),
            classes=classes,
            pool_padding=config.pool_padding,
            dropout=config.dropout,
            width=config.width,
            downsampling=config.downsampling or None,
        )
    return _compiled(network, config, steps_per_epoch, "categorical_crossentropy", metrics=["accuracy"])


def make_segmenter(config: SegmentationConfig, classes: int, steps_per_epoch: int, loss: Callable) -> keras.Model:
    """The compiled segmentation network, for images of any size; call it in the strategy's scope.

    Raises:
        InputError: as `make_network`.
    """
    with _precision(config):
        network = WideResNetFCN(
            config.structure,
            classes,
            config.classifier_convs,
            config.output_stride,
            pool_padding=config.pool_padding,
            dropout=(config.dropout_b6, config.dropout_b7),
            width=config.width,
            downsampling=config.downsampling or None,
            frozen_batch_norm=config.frozen_batch_norm,
        )
    return _compiled(network, config, steps_per_epoch, loss, shift_rate=config.shift_rate)


@contextlib.contextmanager
def _precision(config: RunConfig) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy({"none": keras.config.floatx()}.get(config.mixed_precision, f"mixed_{config.mixed_precision}"))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _compiled(
    network: keras.Model, config: RunConfig, steps_per_epoch: int, loss, *, metrics: list[str] | None = None, shift_rate: float = 1.0
) -> keras.Model:
    if config.weights:
        start_from(network, config.weights, find_structure(config.structure))
    if config.sync_batch_norm:
        synchronize_batch_norm(network)
    schedule = make_schedule(
        config.schedule, config.scaled_learning_rate, config.epochs * steps_per_epoch, round(config.warmup_epochs * steps_per_epoch)
    )
    averaging = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    optimizer = TorchSGD(schedule, config.momentum, config.weight_decay, nesterov=config.nesterov, shift_rate=shift_rate, **averaging)
    if config.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    network.compile(optimizer, loss=loss, metrics=metrics, jit_compile=False)
    network.optimizer.build(network.trainable_variables)
    return network


def start_from(network: keras.Model, weights: str, structure: Structure) -> None:
    """Sets the network to trained weights, also those of a structure that halves otherwise (A1 from A: official release).

    Head layers that the weights lack, or have for other classes or in another form, stay as they were initialised.

    Raises:
        InputError: if the weights are not found or do not fit.
    """
    record = find_record(weights, structure)
    source = find_structure(record.structure) if record else structure
    is_classifier = not isinstance(network.get_layer(head_layers(network)[-1]), keras.layers.Conv2D)
    arrays = find_weights(weights, source, include_top=is_classifier and not (record and record.classifier_convs))
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
