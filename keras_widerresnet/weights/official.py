"""Converts between the official release's parameter names and layouts (MXNet) and Keras' layers.

A layer has the official name without its suffix: layer `res2a_branch2a` holds `res2a_branch2a_weight`. Official kernels are
OIHW and dense weights (out, in); Keras uses HWIO and (in, out).
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.layers import LayerArrays, layer_and_suffix

SUFFIXES = {
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_var"),
    "Conv2D": ("weight", "bias"),
    "Dense": ("weight", "bias"),
}


def parameter_names(layer: keras.Layer) -> list[str]:
    """Returns the official names of `layer.weights`, in order, without the `arg:` and `aux:` of a checkpoint."""
    if not layer.weights:
        return []
    return [f"{layer.name}_{suffix}" for suffix in SUFFIXES[type(layer).__name__][: len(layer.weights)]]


def official_shapes(model: keras.Model) -> dict[str, tuple[int, ...]]:
    """Returns official parameter name -> shape in the official layout, for every weight of the model."""
    return {
        name: to_official(np.broadcast_to(np.float32(0), tuple(weight.shape))).shape
        for layer in model.layers
        for name, weight in zip(parameter_names(layer), layer.weights, strict=True)
    }


def to_official(array: np.ndarray) -> np.ndarray:
    """Converts a Keras kernel (HWIO), dense weight (in, out) or vector to the official layout."""
    return np.transpose(array, (3, 2, 0, 1)) if array.ndim == 4 else array.T


def to_keras(array: np.ndarray) -> np.ndarray:
    """Converts an official kernel (OIHW), dense weight (out, in) or vector to Keras' layout."""
    return np.transpose(array, (2, 3, 1, 0)) if array.ndim == 4 else array.T


def layer_arrays(parameters: Mapping[str, np.ndarray], own_names: Mapping[str, str] | None = None) -> LayerArrays:
    """Groups official parameters, without `arg:` and `aux:`, by layer, in Keras' order and layout (views, not copies).

    Args:
        parameters: official name -> array in the official layout; any other name becomes a layer of its own.
        own_names: official name -> the file's own name, if it differs.
    """
    arrays: dict[str, dict[str, np.ndarray]] = {}
    names: dict[str, list[str]] = {}
    for name, array in parameters.items():
        layer, suffix = layer_and_suffix(name)
        arrays.setdefault(layer, {})[suffix] = to_keras(array)
        names.setdefault(layer, []).append((own_names or {}).get(name, name))
    order = {suffix: place for suffixes in SUFFIXES.values() for place, suffix in enumerate(suffixes)}
    in_order = {layer: [found[key] for key in sorted(found, key=lambda key: order.get(key, len(order)))] for layer, found in arrays.items()}
    official = set(parameters)
    return LayerArrays(in_order, {layer: tuple(own) for layer, own in names.items() if not official.issuperset(own)})


def assign_official(model: keras.Model, parameters: Mapping[str, np.ndarray], source: str, ignore_head: bool = False) -> None:
    """Sets every weight of `model` from official parameters.

    Args:
        model: a network with our layer names.
        parameters: official name (without `arg:`/`aux:`) -> array in the official layout.
        source: name of their origin for error messages.
        ignore_head: whether to ignore a classifier or segmentation head that the model does not have.

    Raises:
        InputError: if parameters are missing, unused or of another shape, listed in one table; the model is then unchanged.
    """
    assign_weights(model, layer_arrays(parameters), source, ignore_head)
