"""Weights by name: reading files, and assigning what they hold to a model with every name and shape checked."""

from keras_widerresnet.weights.assign import assign_weights, load_weights

__all__ = ["assign_weights", "load_weights"]
