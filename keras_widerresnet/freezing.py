"""Freezing a network up to a stage: for fine-tuning, in Keras' `fit` as in the commands' runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import keras

from keras_widerresnet.errors import InputError
from keras_widerresnet.options import did_you_mean
from keras_widerresnet.structures import BACKBONE, FREEZABLE, check_stage, frozen_stages
from keras_widerresnet.weights.layers import shortened

STEM, LAST_BATCH_NORM = "conv1a", "bn7"
STATISTICS = ("moving_mean", "moving_variance")
_SHOWN = 5


def freeze(model: keras.Model, upto: str | None = BACKBONE) -> None:
    """Freezes a wide residual network up to a stage: weights are not trained, and batch norms use and keep their running statistics.

    Of the network's own layers those up to `upto` are frozen afterwards and those of later stages are trainable, whatever was frozen
    before. All other layers stay as they were: the head, and what a model of yours has around a network. Dropout stays active, as it
    does in every frozen Keras layer.

    Call it before `compile`. A model that was compiled before trains what is left without being compiled again; a model around it, or
    one with more to train than before, must be compiled again. Layers are frozen, not the model: models that share them, such as
    `feature_extractor(model)`, share the change, and a saved model keeps it.

    Args:
        model: a network built here or loaded from a file, for classification, segmentation or features, or any model that contains one.
        upto: `"backbone"` (all but the head), the last stage to freeze, `"B1"` (the stem `conv1a` and the units of B1, if there are any)
            to `"B7"` (all but the last batch norm and the head), or None for `unfreeze`.

    Raises:
        InputError: for another stage, one without units in this network, a model that contains no wide residual network, or one whose
            remaining layers are frozen already, so that nothing would be left to train. A backbone without a head may be frozen whole.
    """
    if upto is None:
        unfreeze(model)
        return
    _check_model(model)
    if upto not in FREEZABLE:
        allowed = ", ".join(map(repr, FREEZABLE))
        raise InputError(f"`upto` must be one of {allowed}, or None. Received: {upto!r}{did_you_mean(str(upto), FREEZABLE)}")
    found = list(_layers(model))
    stages = {id(layer): _stage(layer.name) for layer, _ in found if layer.weights}
    own = {key: stage for key, stage in stages.items() if stage}
    if not any(layer.name == STEM for layer, _ in found) or len(own) < 2:
        raise InputError(f"The model {model.name!r} contains no wide residual network (layers 'conv1a', 'res2a_branch2a', ...)")
    check_stage(upto, {stage for stage in own.values() if stage <= 7}, f"The model {model.name!r}")
    last = frozen_stages(upto)
    others = {id(layer): layer.trainable and all(one.trainable for one in around) for layer, around in found if id(layer) not in own}
    if not any(others.get(id(layer)) and layer.trainable_weights for layer, _ in found) and max(own.values()) <= last:
        held = [layer.name for layer, _ in found if layer.weights and not others.get(id(layer), True)]
        if held:
            names = ", ".join(shortened(held, _SHOWN))
            raise InputError(
                f"Nothing would be left to train in {model.name!r}: its other layers ({names}) are frozen already; "
                "keras_widerresnet.unfreeze(model) makes all of them trainable"
            )
    kept = [(layer, layer.trainable) for layer, _ in found if id(layer) not in own]
    for container in _closed(found, own):
        container.trainable = True  # its layers too, until they are set below
    for layer, is_trainable in kept:
        if layer.trainable != is_trainable:
            layer.trainable = is_trainable
    for layer, _ in found:
        if id(layer) in own:
            layer.trainable = own[id(layer)] > last
    _forget_training_function(model)


def unfreeze(model: keras.Model) -> None:
    """Makes every layer of a model trainable. Compile it again before training goes on.

    Args:
        model: any Keras model.

    Raises:
        InputError: if it is no Keras model.
    """
    _check_model(model)
    # With TensorFlow, `model.trainable = True` does nothing where the model is trainable and only layers inside are not.
    for layer in model._flatten_layers():
        layer.trainable = True
    _forget_training_function(model)


def frozen_weights(model: keras.Model) -> list[keras.Variable]:
    """The weights that training leaves as they are: all of the layers that are not trainable, their running statistics too."""
    return [weight for layer, around in _layers(model) if not all(one.trainable for one in (*around, layer)) for weight in layer.weights]


def parameter_counts(model: keras.Model) -> tuple[int, int]:
    """Numbers of parameters: those that are trained, and all of them, frozen or not. Running statistics are no parameters."""
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return trained, sum(math.prod(weight.shape) for weight in model.weights if weight.name not in STATISTICS)


def _check_model(model: object) -> None:
    if not isinstance(model, keras.Model):
        raise InputError(f"A Keras model is frozen, or one that contains it. Received: {type(model).__name__}")


def _stage(name: str) -> int | None:
    """The stage of one of the network's own layers, 8 for the last batch norm; None for other layers."""
    if name in (STEM, LAST_BATCH_NORM):
        return 1 if name == STEM else frozen_stages(BACKBONE)
    match = re.fullmatch(r"(?:res|bn)([1-7])(?:a|b\d+)_branch\w+", name)
    return int(match[1]) if match else None


def _layers(layer: keras.layers.Layer, around: tuple = ()) -> Iterator[tuple[keras.layers.Layer, tuple]]:
    """The layers inside that contain no others, each with those that contain it, from the outermost on."""
    # Keras' `layers` are a model's only: a wrapper such as TimeDistributed, or a layer of one's own, has them as well.
    inner = layer._flatten_layers(include_self=False, recursive=False)
    for one in inner:
        yield from _layers(one, (*around, layer))
    if not inner:
        yield layer, around


def _closed(found, own) -> list[keras.layers.Layer]:
    """The containers of the network's own layers that are not trainable as a whole, which their layers cannot be then."""
    containers = {id(one): one for layer, around in found if id(layer) in own for one in around}
    return [one for one in containers.values() if not one.trainable]


def _forget_training_function(model: keras.Model) -> None:
    """Lets `fit` build its step anew: the old one trains what was trainable when it was built."""
    model.train_function = None
