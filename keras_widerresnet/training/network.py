"""The network that a configuration describes, with its optimizer, at the weights it starts from."""

from __future__ import annotations

import logging

import keras

from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.structures import Structure, find_structure
from keras_widerresnet.training.config import TrainingConfig
from keras_widerresnet.training.optimizer import TorchSGD, make_schedule
from keras_widerresnet.training.strategy import synchronize_batch_norm
from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.find import find_record, find_weights

logger = logging.getLogger(__name__)


def make_network(config: TrainingConfig, classes: int, crop_size: int, steps_per_epoch: int) -> keras.Model:
    """The compiled network; call it in the strategy's scope.

    Raises:
        InputError: if the weights to start from do not fit, or the structure cannot be built.
    """
    structure = find_structure(config.structure)
    keras.config.set_dtype_policy({"none": keras.config.floatx()}.get(config.mixed_precision, f"mixed_{config.mixed_precision}"))
    try:
        network = WiderResNet(
            structure,
            input_shape=(crop_size, crop_size, 3),
            classes=classes,
            pool_padding=config.pool_padding,
            dropout=config.dropout,
            width=config.width,
            downsampling=config.downsampling or None,
        )
    finally:
        keras.config.set_dtype_policy(keras.config.floatx())
    if config.weights:
        start_from(network, config.weights, structure, classes)
    if config.sync_batch_norm:
        synchronize_batch_norm(network)
    schedule = make_schedule(
        config.schedule, config.scaled_learning_rate, config.epochs * steps_per_epoch, round(config.warmup_epochs * steps_per_epoch)
    )
    averaging = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    optimizer = TorchSGD(schedule, config.momentum, config.weight_decay, **averaging)
    if config.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    network.compile(optimizer, loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    network.optimizer.build(network.trainable_variables)
    return network


def start_from(network: keras.Model, weights: str, structure: Structure, classes: int) -> None:
    """Sets the network to trained weights, also those of a structure that halves otherwise (A1 from A: official release).

    A classifier of another number of classes is left aside, and the network's own stays as it was initialised.

    Raises:
        InputError: if the weights are not found or do not fit.
    """
    record = find_record(weights, structure)
    source = find_structure(record.structure) if record else structure
    arrays = find_weights(weights, source, include_top=not (record and record.classifier_convs))
    head = f"linear{classes}"
    if head not in arrays:
        logger.info("%s has no classifier of %d classes: that layer starts anew", weights, classes)
        arrays[head] = network.get_layer(head).get_weights()
    assign_weights(network, arrays, repr(weights), ignore_head=True)
