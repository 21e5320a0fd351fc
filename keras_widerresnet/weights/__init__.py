"""Weights by name: the pretrained ones of the world, files, and every name and shape checked."""

from keras_widerresnet.weights.assign import assign_weights
from keras_widerresnet.weights.convert import convert
from keras_widerresnet.weights.find import find_weights, home
from keras_widerresnet.weights.original import read_original
from keras_widerresnet.weights.registry import PRETRAINED

__all__ = ["PRETRAINED", "assign_weights", "convert", "find_weights", "home", "read_original"]
