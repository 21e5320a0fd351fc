"""Common mistakes in ports of the official networks, one at a time."""

from __future__ import annotations

import keras


def with_port_mistakes(model: keras.Model, *, epsilon: float | None = None, same_padding: bool = False) -> keras.Model:
    """Returns a copy of `model` (weights included) with the mistakes of common ports.

    Args:
        model: one of our networks with strided halvings, e.g. Model A1.
        epsilon: batch-norm epsilon in place of the release's 1.001e-5; Keras' default is 1e-3.
        same_padding: whether to pad strided convolutions with Keras' `"same"` (for even sizes, only at the bottom and right) instead of
            symmetrically.
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if epsilon is not None and isinstance(layer, keras.layers.BatchNormalization):
            config["epsilon"] = epsilon
        if same_padding and isinstance(layer, keras.layers.Conv2D):
            config["padding"] = "same"
        if same_padding and isinstance(layer, keras.layers.ZeroPadding2D):
            return keras.layers.Identity(name=layer.name)
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
