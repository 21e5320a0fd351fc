"""Rematerialisation over units: the backward pass computes a unit's activations anew (official release: "mirror").

A unit is made a pure function of its variables' values, so that what is computed twice updates no running average and draws no dropout
mask of its own. Written for any Keras backend.
"""

from __future__ import annotations

from collections.abc import Callable

import keras


def segments(network: keras.Model) -> list[keras.Model]:
    """The network cut behind the sum of every residual unit, as models that share its layers; the last one is the head."""
    ends = [layer.output for layer in network.layers if isinstance(layer, keras.layers.Add)] + [network.output]
    return [keras.Model(start, end) for start, end in zip([network.input, *ends], ends, strict=False)]


def rematerialized(network: keras.Model) -> Callable:
    """A function from images to what `network(images, training=True)` gives, which keeps only the units' inputs for the backward pass."""
    *units, head = segments(network)
    calls = [_pure_call(unit) for unit in units]

    def forward(images):
        x = images
        for call in calls:
            x = call(x)
        return head(x, training=True)

    return forward


def _pure_call(unit: keras.Model) -> Callable:
    trainable, state = unit.trainable_variables, unit.non_trainable_variables

    def pure(x, *values):
        output, updated = unit.stateless_call(list(values[: len(trainable)]), list(values[len(trainable) :]), x, training=True)
        return (output, *updated)

    recomputed = keras.remat(pure)

    def call(x):
        output, *updated = recomputed(x, *(keras.ops.convert_to_tensor(variable) for variable in trainable + state))
        for variable, value in zip(state, updated, strict=True):
            variable.assign(value)
        return output

    return call
